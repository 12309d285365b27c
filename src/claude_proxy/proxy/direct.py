"""What our own server offers an exchange beyond ASGI (docs/serve.md, "ASGI extension")."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from claude_proxy.proxy.client import Scope

EXTENSION = "claude_proxy"
NONE: Mapping[str, Any] = {}


class Direct(Protocol):
    """What our server offers for the exchange that it runs.

    `body` returns the request's whole body if it has arrived. `respond` sends a whole response, `write` a part of a body that
    is not the last; both without waiting. While the client reads slowly, and after it has disconnected, they return False and
    send nothing. `watch` sets the callback for a disconnect. `fields` are `headers` by name.
    """

    loop: asyncio.AbstractEventLoop
    headers: list[tuple[bytes, bytes]]
    fields: dict[bytes, bytes]

    def watch(self, leaving: Callable[[], None] | None, /) -> None: ...
    def body(self) -> bytes | None: ...
    def respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool: ...
    def write(self, body: bytes) -> bool: ...
    def abort(self) -> None: ...


def direct_of(scope: Scope) -> Direct | None:
    """What our server offers for a request; None under another server."""
    extension = scope.get("extensions", NONE).get(EXTENSION)
    if extension is None:
        return None
    direct: Direct = extension["exchange"]()
    return direct
