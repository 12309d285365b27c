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

    `body` gives the request's whole body, if it is there already. `respond` sends a whole response, `write` a piece of a
    body that is not the last, both at once and without a task; while the client reads slowly and after it has left they
    return False and send nothing. `watch` names what is to be called when the client leaves. `fields` are `headers` by name.
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
