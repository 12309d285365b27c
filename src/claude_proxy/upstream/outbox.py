"""Collects the small requests of one event loop iteration and writes them together at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Outbox:
    """Collects calls and makes them after everything else that was ready in this event loop iteration has run.

    Requests are then sent in a burst. Under load that wakes the upstream, and later us, once for many requests instead of
    once for each. A single request is not delayed, because the iteration ends right after it.
    """

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Callable[[], None]] = []

    def put(self, call: Callable[[], None]) -> None:
        """Schedule `call` for the end of this iteration. It must not raise."""
        if not self._waiting:
            self._loop.call_soon(self._empty)
        self._waiting.append(call)

    def _empty(self) -> None:
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()
