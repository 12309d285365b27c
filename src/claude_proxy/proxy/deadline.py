"""One timer for all the waits of an exchange: re-arming costs an assignment, not a timer.

And none for an exchange that is over soon. The time-outs are minutes, so hardly a timer ever fires, and setting and cancelling
one costs a microsecond all the same: what ends far from now is looked at once a second, all by one timer (`Far`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

LOOK_EVERY = 1.0  # seconds


class Far:
    """The deadlines that end after the next look at them."""

    __slots__ = ("_deadlines", "_loop", "_next_look")

    def __init__(self) -> None:
        self._deadlines: set[Deadline] = set()
        self._loop: asyncio.AbstractEventLoop | None = None  # where the timer runs, while there is one
        self._next_look = 0.0

    def add(self, deadline: Deadline, at: float, loop: asyncio.AbstractEventLoop) -> float | None:
        """Look after a deadline that ends `at`. Returns when it will be looked at; None if that is too late, then it is not."""
        if self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                return None
            self._deadlines.clear()
            self._loop = loop
            self._look_after(loop, loop.time())
        if at < self._next_look:
            return None
        self._deadlines.add(deadline)
        return self._next_look

    def discard(self, deadline: Deadline) -> None:
        """Look after it no more."""
        self._deadlines.discard(deadline)

    def _look_after(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        self._next_look = now + LOOK_EVERY
        loop.call_at(self._next_look, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        if not self._deadlines:
            self._loop = None
            return
        self._look_after(loop, loop.time())
        self._deadlines = {deadline for deadline in self._deadlines if deadline.can_wait(self._next_look)}


class Deadline:
    """Calls `expired(name)` when the wait that was armed last has lasted too long.

    Args:
        loop: the running event loop.
        expired: called with the name given to `arm`; may arm again.
        early: called once, `early_after` seconds after the first `arm`: for what only lasting exchanges need.
        far: looks after it, in place of a timer, while its end is far.
    """

    __slots__ = ("_at", "_early", "_early_after", "_expired", "_far", "_handle", "_loop", "_name", "_wakes_at")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        expired: Callable[[str], None],
        early: Callable[[], None] | None = None,
        early_after: float = 0.0,
        far: Far | None = None,
    ) -> None:
        self._loop = loop
        self._expired = expired
        self._early = early
        self._early_after = early_after
        self._far = far
        self._handle: asyncio.TimerHandle | None = None
        self._name: str | None = None
        self._at = 0.0
        self._wakes_at = math.inf  # when the timer, or `far`, looks at it

    def arm(self, name: str, seconds: float) -> None:
        """Start a wait; the one before is over."""
        self._name = name
        self._at = at = self._loop.time() + seconds
        if at < self._wakes_at:
            self._schedule(at)

    def arm_at(self, at: float, name: str) -> None:
        """The same for a wait that ends at a loop time."""
        self._name = name
        self._at = at
        if at < self._wakes_at:
            self._schedule(at)

    def disarm(self) -> None:
        """No wait is running."""
        self._name = None

    def can_wait(self, until: float) -> bool:
        """For `far`: whether it need not be looked at before then; else it has a timer of its own from now on."""
        if self._handle is None and (self._name is None or self._at >= until):
            self._wakes_at = until
            return True
        if self._handle is None:
            self._set_timer(self._at)
        return False

    def close(self) -> None:
        """The exchange is over."""
        self._name = self._early = None
        self._expired = _nothing  # no cycle is left for the garbage collector
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._far is not None:
            self._far.discard(self)

    def _schedule(self, at: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._early is not None:
            at = min(at, self._loop.time() + self._early_after)
        elif self._far is not None:
            looked_at = self._far.add(self, at, self._loop)
            if looked_at is not None:
                self._wakes_at = looked_at
                return
        self._set_timer(at)

    def _set_timer(self, at: float) -> None:
        self._wakes_at = at
        self._handle = self._loop.call_at(at, self._wake)

    def _wake(self) -> None:
        self._handle = None
        self._wakes_at = math.inf
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
