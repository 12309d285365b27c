"""Where the visitor reached us: scheme, host and the prefix that a front proxy put before our paths."""

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
        root: the prefix without a slash at its end, "" or "/any/prefix", percent-encoded.
    """

    origin: str
    root: str

    def to(self, path: str) -> str:
        """Absolute URL of `path`, which begins with a slash and is ours."""
        return f"{self.origin}{self.root}{path}"

    @property
    def links(self) -> str:
        """What to put before a path without its slash, in a page that lies directly under the prefix.

        Relative without a known prefix, so that a front proxy that strips one and does not tell us does no harm.
        """
        return f"{self.root}/" if self.root else ""


def root_of(scope: Scope) -> str:
    """The prefix before our paths as the server knows it, decoded and without a slash at its end."""
    root: str = scope.get("app_root_path", scope.get("root_path", ""))
    return root.rstrip("/")


def _authority(scope: Scope) -> str:
    """Host and port: of the `Host` header if it can be pasted into a shell safely, else of our socket."""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    if _PLAIN.fullmatch(host):
        return host
    name, port = scope.get("server") or ("localhost", None)
    if port is None:  # a Unix socket
        return "localhost"
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def address_of(request: Request) -> Address:
    """The address that the client used for `request`.

    RFC 9110 section 7.2 lets a `Host` carry quotes, `$`, `;` and brackets. Nobody's host has them, and our lines are
    pasted into shells, so such a header is not repeated. The scheme is what the server's trust in
    `X-Forwarded-Proto` made of it.
    """
    scope = request.scope
    scheme = "https" if scope["scheme"] in ("https", "wss") else "http"
    return Address(origin=f"{scheme}://{_authority(scope)}", root=quote(root_of(scope), safe="/-._~"))
