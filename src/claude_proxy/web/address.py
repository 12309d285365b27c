"""The address at which the visitor reached us: scheme, host and the prefix that a front proxy adds to our paths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Scope

_PLAIN = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Address:
    """A public address of this proxy.

    Attributes:
        origin: scheme and authority, "https://proxy.example:8443".
        root: the prefix without a trailing slash, "" or "/any/prefix", percent-encoded.
    """

    origin: str
    root: str

    def to(self, path: str) -> str:
        """Return the absolute URL of `path`, one of our own paths with a leading slash."""
        return f"{self.origin}{self.root}{path}"

    @property
    def links(self) -> str:
        """What to put before a path without its leading slash, in a page directly under the prefix.

        Relative if no prefix is known, so that links also work behind a front proxy that strips one without telling us.
        """
        return f"{self.root}/" if self.root else ""


def root_of(scope: Scope) -> str:
    """Return the prefix of our paths as the server knows it, decoded and without a trailing slash."""
    root: str = scope.get("app_root_path", scope.get("root_path", ""))
    return root.rstrip("/")


def _authority(scope: Scope) -> str:
    """Return host and port: from the `Host` header if it is safe to paste into a shell, else from our socket."""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    if _PLAIN.fullmatch(host):
        return host
    name, port = scope.get("server") or ("localhost", None)
    if port is None:  # a Unix socket
        return "localhost"
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def address_of(request: Request) -> Address:
    """Return the address that the client used for `request`.

    RFC 9110 section 7.2 allows quotes, `$`, `;` and brackets in a `Host`. No real host has them, and our snippets are
    pasted into shells, so such a header is not shown. The scheme is the one the server derived from a trusted
    `X-Forwarded-Proto`.
    """
    scope = request.scope
    scheme = "https" if scope["scheme"] in ("https", "wss") else "http"
    return Address(origin=f"{scheme}://{_authority(scope)}", root=quote(root_of(scope), safe="/-._~"))
