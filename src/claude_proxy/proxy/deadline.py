"""One timer for all the waits of an exchange: re-arming costs an assignment, not a timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls `expired(name)` when the wait that was armed last has lasted too long.

    Args:
        loop: the running event loop.
        expired: called with the name given to `arm`; may arm again.
        early: called once, `early_after` seconds after the first `arm`: for what only lasting exchanges need.
    """

    __slots__ = ("_at", "_early", "_early_after", "_expired", "_handle", "_loop", "_name", "_wakes_at")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        expired: Callable[[str], None],
        early: Callable[[], None] | None = None,
        early_after: float = 0.0,
    ) -> None:
        self._loop = loop
        self._expired = expired
        self._early = early
        self._early_after = early_after
        self._handle: asyncio.TimerHandle | None = None
        self._name: str | None = None
        self._at = 0.0
        self._wakes_at = 0.0

    def arm(self, name: str, seconds: float) -> None:
        """Start a wait; the one before is over."""
        self.arm_from(self._loop.time(), name, seconds)

    def arm_at(self, at: float, name: str) -> None:
        """The same for a wait that ends at a loop time, not the first one."""
        self._name = name
        self._at = at
        if self._handle is None or at < self._wakes_at:
            self._schedule(at)

    def arm_from(self, now: float, name: str, seconds: float) -> None:
        """The same, for a caller that knows what time it is."""
        self._name = name
        self._at = at = now + seconds
        if self._handle is None:
            self._schedule(min(at, now + self._early_after) if self._early is not None else at)
        elif at < self._wakes_at:
            self._schedule(at)

    def disarm(self) -> None:
        """No wait is running."""
        self._name = None

    def close(self) -> None:
        """The exchange is over."""
        self._name = self._early = None
        self._expired = _nothing  # no cycle is left for the garbage collector
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _schedule(self, at: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._wakes_at = at
        self._handle = self._loop.call_at(at, self._wake)

    def _wake(self) -> None:
        self._handle = None
        if self._early is not None:
            early, self._early = self._early, None
            early()
        if self._name is None:
            return
        if self._loop.time() < self._at:
            self._schedule(self._at)
        else:
            name, self._name = self._name, None
            self._expired(name)


def _nothing(_: str) -> None:
    """What a closed deadline calls."""
