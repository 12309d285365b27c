"""Small requests of one event loop iteration, written together at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Outbox:
    """Collects calls and makes them once everything that was ready in this iteration of the event loop has run.

    Requests then go out in a burst. Under load that wakes the upstream, and later us, once for many of them instead of once
    for each; a request that is alone is not delayed, because the end of the iteration comes right after it.
    """

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Callable[[], None]] = []

    def put(self, call: Callable[[], None]) -> None:
        """Make `call` at the end of this iteration. It must not raise."""
        if not self._waiting:
            self._loop.call_soon(self._empty)
        self._waiting.append(call)

    def _empty(self) -> None:
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()
