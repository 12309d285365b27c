"""Checks host names and web origins, against DNS rebinding and web pages that call localhost."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from claude_proxy.errors import Forbidden

Scope = MutableMapping[str, Any]
Header = tuple[bytes, bytes]
# Names that public DNS does not resolve, so no stranger can point them here (RFC 6761, 6762, 8375; ICANN's .internal).
_PRIVATE_SUFFIXES = (".localhost", ".local", ".lan", ".internal", ".svc", ".cluster.local", ".home.arpa")
_PREFLIGHT_SECONDS = b"600"
_SAFE = ("GET", "HEAD", "OPTIONS")  # methods that change nothing (RFC 9110 section 9.2.1)


class OriginRules:
    """The rules of ALLOWED_HOSTS and ALLOWED_ORIGINS.

    Args:
        hosts: additional allowed host names; `*` allows all, `*.example.org` all below it.
        origins: allowed web origins, such as `https://app.example`; `*` allows all.

    Attributes:
        any_named: whether any web origin is allowed.
    """

    def __init__(self, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        names = [_without_port(host.lower()).rstrip(".") for host in hosts]
        self._any_host = "*" in names
        self._hosts = frozenset(name for name in names if not name.startswith("*"))
        self._host_suffixes = tuple(name[1:] for name in names if name.startswith("*."))
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)
        self.any_named = bool(self._origins)

    def check(self, scope: Scope) -> None:
        """Refuse a request with a foreign host name or from a foreign web page.

        Raises:
            Forbidden: the message names the setting that would allow the request.
        """
        host = origin = site = None
        mode = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
            elif name == b"sec-fetch-mode":
                mode = value
        if host is not None and not self.allows_host(host.decode("latin-1")):
            raise Forbidden(
                f"This proxy does not serve the host name {_shown(host)!r}: a public name may belong to anybody. If it is yours, "
                "add it to ALLOWED_HOSTS at the proxy.",
                code="host_not_allowed",
            )
        if origin is not None and not self._same_or_allowed(origin, host or b""):
            raise self._foreign(_shown(origin))
        if origin is None and site == b"cross-site" and not (mode == b"navigate" and scope["method"] in ("GET", "HEAD")):
            raise self._foreign("another site")

    def check_page(self, scope: Scope) -> None:
        """Like `check`, for the page and the API, where a change may come from our own pages and named origins only.

        `ALLOWED_ORIGINS=*` does not allow changes. A request without Origin and Sec-Fetch-Site does not come from a web page:
        browsers send one of them with every request that can change something (WHATWG Fetch section 3.2, W3C Fetch Metadata).

        Raises:
            Forbidden: as `check`.
        """
        self.check(scope)
        if scope["method"] in _SAFE:
            return
        fields = {name: value for name, value in scope["headers"] if name in (b"host", b"origin", b"sec-fetch-site")}
        origin = fields.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower() in self._origins:
            return
        if origin is not None and not _same(origin, fields.get(b"host", b"")):
            raise self._foreign(_shown(origin))
        if fields.get(b"sec-fetch-site", b"none") not in (b"same-origin", b"none"):
            raise self._foreign("another site")

    def allows_host(self, header: str) -> bool:
        """Whether a Host value is an address, a name outside public DNS, or allowed by a setting."""
        name = _without_port(header).lower().rstrip(".")
        if self._any_host or name in self._hosts or name.endswith(self._host_suffixes or ("\0",)):
            return True
        return "." not in name or name.endswith(_PRIVATE_SUFFIXES) or _is_address(name)

    def allowed_origin(self, scope: Scope) -> bytes | None:
        """Return the request's Origin if ALLOWED_ORIGINS allows it, else None."""
        for name, value in scope["headers"]:
            if name == b"origin":
                return value if self._names(value) else None
        return None

    def _names(self, origin: bytes) -> bool:
        return "*" in self._origins or origin.decode("latin-1").lower() in self._origins

    def _same_or_allowed(self, origin: bytes, host: bytes) -> bool:
        return self._names(origin) or _same(origin, host)

    def _foreign(self, origin: str) -> Forbidden:
        return Forbidden(
            f"A web page of {origin} may not use this proxy. If it is yours, add its origin to ALLOWED_ORIGINS at the proxy.",
            code="origin_not_allowed",
        )


def preflight_headers(scope: Scope, origin: bytes) -> list[Header]:
    """Return the headers that answer a CORS preflight (WHATWG Fetch section 3.3) from an allowed origin."""
    asked = {name: value for name, value in scope["headers"] if name.startswith(b"access-control-request-")}
    headers = [
        *cors_headers(origin),
        (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
        (b"access-control-max-age", _PREFLIGHT_SECONDS),
    ]
    wanted = asked.get(b"access-control-request-headers")
    if wanted is not None:
        headers.append((b"access-control-allow-headers", wanted))
    if b"access-control-request-private-network" in asked:
        headers.append((b"access-control-allow-private-network", b"true"))
    return headers


def cors_headers(origin: bytes) -> list[Header]:
    """Return the headers that let a page of `origin` read a response."""
    exposed = b"request-id, x-claude-proxy-error, retry-after, x-should-retry"
    return [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", exposed), (b"vary", b"Origin")]


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _same(origin: bytes, host: bytes) -> bool:
    """Whether an Origin names the host and port of a Host field."""
    try:
        parts = urlsplit(origin.decode("latin-1").lower())
    except ValueError:  # such as "http://["
        return False
    return bool(parts.netloc) and _normal(parts.netloc, parts.scheme) == _normal(host.decode("latin-1").lower(), parts.scheme)


def _normal(netloc: str, scheme: str) -> str:
    return netloc.removesuffix(":443" if scheme == "https" else ":80")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _shown(value: bytes) -> str:
    return value.decode("latin-1")[:100]
