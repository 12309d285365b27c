"""The address of an upstream, and the outbound proxy used to reach it."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from claude_proxy.errors import SettingsError
from claude_proxy.upstream.no_proxy import is_exempt

_CREDENTIALS = re.compile(r"//.*@")


@dataclass(frozen=True, slots=True)
class OutboundProxy:
    """An HTTP proxy between us and the upstream (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY).

    Attributes:
        authorization: the value of Proxy-Authorization, or None.
    """

    host: str
    port: int
    authorization: bytes | None


@dataclass(frozen=True, slots=True)
class Origin:
    """The address of an upstream.

    Attributes:
        tls: whether the connection is encrypted.
        base_path: the path of the base URL without trailing slash, such as b"/api/anthropic".
        host_header: the value of Host.
    """

    host: str
    port: int
    tls: bool
    base_path: bytes
    host_header: bytes
    proxy: OutboundProxy | None = None

    @property
    def target_prefix(self) -> bytes:
        """The prefix of the path in a request line: not empty for the absolute form, used for plain HTTP through a proxy."""
        if self.proxy is None or self.tls:
            return self.base_path
        return b"http://" + self.host_header + self.base_path

    @property
    def first_hop(self) -> tuple[str, str, int]:
        """What we connect to: a description for messages, the host and the port of the outbound proxy or the upstream."""
        if self.proxy is not None:
            return "outbound proxy", self.proxy.host, self.proxy.port
        return "upstream", self.host, self.port

    @property
    def authority(self) -> bytes:
        """Host and port in the form CONNECT needs, always with the port (RFC 9110 section 9.3.6)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}".encode("ascii" if host.isascii() else "idna")


def parse_origin(base_url: str, environ: Mapping[str, str] | None = None) -> Origin:
    """Parse a validated base URL and the proxy variables (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY).

    Args:
        base_url: of the upstream.
        environ: by default this process's environment.

    Raises:
        SettingsError: the proxy variable cannot be used.
    """
    parts = urlsplit(base_url)
    tls = parts.scheme == "https"
    host = parts.hostname or ""
    port = parts.port or (443 if tls else 80)
    proxy = _proxy_for(parts.scheme, host, port, os.environ if environ is None else environ)
    return Origin(host, port, tls, parts.path.encode(), _host_header(parts), proxy)


def _host_header(parts: SplitResult) -> bytes:
    return parts.netloc.rpartition("@")[2].encode("idna" if not parts.netloc.isascii() else "ascii")


def _proxy_for(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> OutboundProxy | None:
    variable, url = _variable(environ, f"{scheme}_proxy", "all_proxy")
    if not url or is_exempt(_variable(environ, "no_proxy")[1], host, port):
        return None
    if variable.lower() == "all_proxy" and "://" in url and not url.lower().startswith("http://"):
        return None  # usually a SOCKS proxy, for programs that support one; HTTPS_PROXY is the one to use
    return _parse_proxy(variable, url if "://" in url else f"http://{url}")


def _variable(environ: Mapping[str, str], *names: str) -> tuple[str, str]:
    """Return the first variable that is set, and its value. As in curl, lower case comes first and an empty value counts."""
    for name in names:
        for spelling in (name, name.upper()):
            if spelling in environ:
                return spelling, environ[spelling].strip()
    return "", ""


def _parse_proxy(variable: str, url: str) -> OutboundProxy:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, 80 if parts.port is None else parts.port
    except ValueError:  # the port is not a number or is too large
        host = None
    if not host or not port or parts.scheme != "http":
        shown = _CREDENTIALS.sub("//***@", url)
        raise SettingsError(
            f"{variable.upper()}={shown}: expected an http:// proxy, such as http://proxy.example:3128. "
            "For an upstream that needs none, name it in NO_PROXY."
        )
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = b"Basic " + base64.b64encode(pair.encode())
    return OutboundProxy(host, port, authorization)
