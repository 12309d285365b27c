"""What is written in one turn of the event loop, written together at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Outbox:
    """Calls what was put into it when all that is ready in this turn of the loop has run.

    Small requests go out one right after the other then. Under load that spares the process at the other end, and ours
    that has to wake it, a wake-up for each; a request that is alone waits for nothing.
    """

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Callable[[], None]] = []

    def put(self, call: Callable[[], None]) -> None:
        """Call `call` at the end of the turn. It must not raise."""
        if not self._waiting:
            self._loop.call_soon(self._empty)
        self._waiting.append(call)

    def _empty(self) -> None:
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()
