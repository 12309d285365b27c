"""The cookie of a login (RFC 6265): its name, its attributes, and reading it from a request."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any
from urllib.parse import quote

Scope = MutableMapping[str, Any]
NAME = "claude_proxy"
_MOST = 5  # values of one name that are looked at


def name_in(scope: Scope) -> str:
    """The cookie's name for a request. Browsers send a host's cookies to all its ports, so the port is part of the name."""
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    port = host.rpartition(b":")[2]
    return f"{NAME}_{port.decode()}" if b":" in host and port.isdigit() and len(port) <= 5 else NAME


def values_in(scope: Scope) -> Iterator[str]:
    """The values of our cookie in a request. There are several if other paths of the host have cookies of this name."""
    wanted = name_in(scope)
    left = _MOST
    for name, header in scope["headers"]:
        if name != b"cookie":
            continue
        for pair in header.decode("latin-1").split(";"):
            key, equals, value = pair.strip().partition("=")
            if equals and key == wanted and left:
                left -= 1
                yield value


def set_cookie(scope: Scope, value: str, root: str, max_age: int | None) -> str:
    """The value of a Set-Cookie field.

    Args:
        value: "" to remove the cookie.
        root: the prefix of our paths, "" if none is known. Without a Path a browser takes the folder of the request's own path
            (RFC 6265 section 5.1.4), which for `/login` is the prefix that a front strips without telling us.
        max_age: seconds; None for as long as the browser runs.
    """
    parts = [f"{name_in(scope)}={value}", "HttpOnly", "SameSite=Lax"]
    if root:
        parts.append(f"Path={quote(root, safe='/-._~')}")
    if not value:
        max_age = 0
    if max_age is not None:
        parts.append(f"Max-Age={max_age}")
    if _by_tls(scope):
        parts.append("Secure")
    return "; ".join(parts)


def _by_tls(scope: Scope) -> bool:
    """Whether the browser uses https: by the server's word, or by the request's Origin, where a front ends TLS untold."""
    if scope.get("scheme") == "https":
        return True
    return any(name == b"origin" and value.lower().startswith(b"https://") for name, value in scope["headers"])
