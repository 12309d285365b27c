"""The proxy's address as clients use it, and a check whether it answers there."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import typer

from claude_proxy.proxy.target import PREFIX
from claude_proxy.settings import Settings

LOOPBACK = ("127.0.0.1", "::1", "localhost")
EVERY_ADDRESS = ("", "0.0.0.0", "::", "*")  # noqa: S104 - recognised here, not bound
PROBE_TIMEOUT = 3.0


@dataclass(frozen=True, slots=True)
class Health:
    """What answered at an address.

    Attributes:
        version: the proxy's version; None if nothing or something else answered.
        problem: a phrase that says why it is not a running proxy; empty if it is.
        listening: whether something accepted the connection.
    """

    version: str | None
    problem: str = ""
    listening: bool = True


def proxy_url(settings: Settings, url: str | None = None) -> str:
    """Return the proxy's own address, such as `http://127.0.0.1:3000`, without a trailing slash.

    Args:
        url: the user's `--url`, with or without the prefix `/api/anthropic`.

    Raises:
        typer.BadParameter: `url` is not an http(s) URL, or PORT is 0 and no `url` was given.
    """
    if url is not None:
        return normal_url(url)
    if settings.port == 0:
        raise typer.BadParameter("PORT=0 picks a free port at each start: give the actual one with --url.")
    return f"http://{bracketed(listen_host(settings))}:{settings.port}"


def normal_url(url: str) -> str:
    """Return `url` with a scheme, without the prefix and without a trailing slash."""
    full = (url if "://" in url else f"http://{url}").rstrip("/").removesuffix(PREFIX)
    try:
        parts = urlsplit(full)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        usable = None
    if not usable or not full.isascii() or not full.isprintable() or " " in full:
        raise typer.BadParameter(f"--url {url}: expected an address such as http://127.0.0.1:3000.")
    return full


def listen_host(settings: Settings) -> str:
    """Return the first address of HOST at which a client on this machine reaches the proxy."""
    first = settings.host.split(",")[0].strip().strip("[]")
    if first in EVERY_ADDRESS:
        return "::1" if first == "::" else "127.0.0.1"
    return first


def bracketed(host: str) -> str:
    """Return an IPv6 address in brackets, as in a URL; anything else unchanged."""
    return f"[{host}]" if ":" in host else host


def same_place(url: str, other: str) -> bool:
    """Whether two URLs name the same host and port; all names of loopback count as the same."""
    return _place(urlsplit(url)) == _place(urlsplit(other))


def _place(parts: SplitResult) -> tuple[str, int]:
    host = (parts.hostname or "").lower()
    return "loopback" if host in LOOPBACK else host, parts.port or (443 if parts.scheme == "https" else 80)


def probe(url: str, timeout: float = PROBE_TIMEOUT) -> Health:
    """Ask `url`/health whether our proxy runs there; never raises.

    Args:
        timeout: seconds for each step (connect, response).
    """
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.connect()
    except OSError as error:
        return Health(None, reason(error), listening=False)
    try:
        connection.request("GET", f"{parts.path}/health", headers={"accept": "application/json"})
        return read_health(connection.getresponse())
    except (OSError, http.client.HTTPException) as error:
        return Health(None, f"something listens there, but does not speak HTTP ({reason(error)})")
    finally:
        connection.close()


def read_health(response: http.client.HTTPResponse) -> Health:
    """Distinguish our own response from another program's."""
    try:
        body = json.loads(response.read(65_536))
    except ValueError:
        body = None
    if isinstance(body, dict) and body.get("status") == "ok" and "version" in body:
        return Health(str(body["version"]))
    server = response.headers.get("server")
    return Health(None, f"another program answers there ({f'server: {server}' if server else f'status {response.status}'})")


def reason(error: Exception) -> str:
    """Say in a few words why a connection failed."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return words.lower() if words else type(error).__name__
