"""Lets a thread write to the log, which belongs to the event loop's thread: its lines wait there to be written together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class LoopLog:
    """The `Say` of a thread.

    Args:
        log: a structlog logger.
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._loop: asyncio.AbstractEventLoop | None = None

    def bind(self) -> None:
        """Called on the event loop, before the thread starts."""
        self._loop = asyncio.get_running_loop()

    def __call__(self, level: str, event: str, /, **fields: object) -> None:
        """Write a line; `level` is info, warning or error."""
        self.call(lambda: getattr(self._log, level)(event, **fields))

    def call(self, call: Callable[[], object]) -> None:
        """Call something on the event loop."""
        try:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # the loop is closed, and with it the log's batching
            call()
