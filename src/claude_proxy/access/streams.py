"""Ends the event streams and exports of viewers who may no longer look.

A request is checked once, when it comes; a stream stays open for hours, and an export for as long as its reader takes. So while
some are open, their viewers are checked again: at once after a login was revoked in this process, and otherwise every second,
which also finds logins that expired, that another worker revoked, or whose files somebody removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

EVERY = 1.0  # seconds

V = TypeVar("V")


class Streams(Generic[V]):
    """The open event streams and exports of one process. Used on the event loop.

    Args:
        may_look: whether a viewer still may; called in a thread.
        every: seconds between two checks.
    """

    def __init__(self, may_look: Callable[[V], bool], *, every: float = EVERY) -> None:
        self._may_look = may_look
        self._every = every
        self._open: dict[object, tuple[V, Callable[[], object]]] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def watched(self, viewer: V, end: Callable[[], object]) -> Iterator[None]:
        """While the context is open, call `end` as soon as the viewer may no longer look."""
        key = object()
        self._open[key] = viewer, end
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="streams")
        try:
            yield
        finally:
            self._open.pop(key, None)
            if not self._open:
                self._wake.set()

    def check(self) -> None:
        """Check all viewers now: a login was revoked."""
        self._wake.set()

    async def _run(self) -> None:
        try:
            while self._open:
                self._wake.clear()
                await self._look()
                try:
                    async with asyncio.timeout(self._every):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            self._task = None

    async def _look(self) -> None:
        watched = dict(self._open)
        for key in await asyncio.to_thread(self._over, watched):
            if self._open.pop(key, None) is not None:
                watched[key][1]()

    def _over(self, watched: dict[object, tuple[V, Callable[[], object]]]) -> list[object]:
        return [key for key, (viewer, _) in watched.items() if not self._may_look(viewer)]
