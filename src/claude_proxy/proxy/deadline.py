"""The waits of an exchange, one at a time. Re-arming costs an assignment, not a timer.

Timeouts last minutes and exchanges mostly seconds, so a timer hardly ever fires, yet setting and cancelling one costs a
microsecond. So one shared timer checks once a second all waits that end after its next check; only shorter ones get a timer
of their own. `Timers` does all scheduling; a `Deadline` only holds a wait.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

LOOK_EVERY = 1.0  # seconds


class Timers:
    """Notices in time that deadlines have passed. One object serves all exchanges of an event loop."""

    __slots__ = ("_far", "_loop", "_next_look")

    def __init__(self) -> None:
        self._far: set[Deadline] = set()  # those that the shared timer checks
        self._loop: asyncio.AbstractEventLoop | None = None  # the shared timer's event loop, while it runs
        self._next_look = 0.0

    def watch(self, deadline: Deadline) -> None:
        """Check `deadline` no later than it ends."""
        if deadline.timer is not None:
            deadline.cancel_timer()
        if (self._loop is deadline.loop or self._shares(deadline.loop)) and deadline.at >= self._next_look:
            self._far.add(deadline)
            deadline.looked_at = self._next_look
        else:
            self._set_timer(deadline)

    def forget(self, deadline: Deadline) -> None:
        """Stop checking it."""
        if deadline.timer is not None:
            deadline.cancel_timer()
        self._far.discard(deadline)

    def _shares(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the shared timer, which does not run on `loop` yet, can be started there. A second event loop goes without."""
        if self._loop is not None and not self._loop.is_closed():
            return False
        self._far.clear()
        self._loop = loop
        self._schedule_look(loop)
        return True

    def _schedule_look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._next_look = loop.time() + LOOK_EVERY
        loop.call_at(self._next_look, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        if not self._far:
            self._loop = None
            return
        self._schedule_look(loop)
        looked_at, self._far = self._far, set()
        for deadline in looked_at:
            if deadline.timer is not None:
                continue  # it has got a timer of its own meanwhile
            if deadline.name is None or deadline.at >= self._next_look:
                deadline.looked_at = self._next_look
                self._far.add(deadline)
            else:
                self._set_timer(deadline)

    def _set_timer(self, deadline: Deadline) -> None:
        deadline.looked_at = deadline.at
        deadline.timer = deadline.loop.call_at(deadline.at, self._wake, deadline)

    def _wake(self, deadline: Deadline) -> None:
        deadline.timer = None
        deadline.looked_at = math.inf
        if deadline.name is None:
            return
        if deadline.loop.time() < deadline.at:
            self.watch(deadline)
        else:
            name, deadline.name = deadline.name, None
            deadline.expired(name)


class Deadline:
    """Calls `expired(name)` when the wait that was armed last has lasted too long.

    Args:
        loop: the running event loop.
        timers: schedules it.
        expired: called with the name given to `arm`; may arm again.

    Attributes:
        name: of the running wait; None if there is none.
        at: loop time at which it ends.
        looked_at: loop time at which `timers` checks it next.
        timer: its own timer, if it has one.
    """

    __slots__ = ("at", "expired", "looked_at", "loop", "name", "timer", "timers")

    def __init__(self, loop: asyncio.AbstractEventLoop, timers: Timers, expired: Callable[[str], None]) -> None:
        self.loop = loop
        self.timers = timers
        self.expired = expired
        self.name: str | None = None
        self.at = 0.0
        self.looked_at = math.inf
        self.timer: asyncio.TimerHandle | None = None

    def arm(self, name: str, seconds: float) -> None:
        """Start a wait, which replaces the previous one."""
        self.name = name
        self.at = at = self.loop.time() + seconds
        if at < self.looked_at:
            self.timers.watch(self)

    def arm_at(self, at: float, name: str) -> None:
        """The same, for a wait that ends at a given loop time."""
        self.name = name
        self.at = at
        if at < self.looked_at:
            self.timers.watch(self)

    def disarm(self) -> None:
        """End the wait."""
        self.name = None

    def close(self) -> None:
        """The exchange is over: nothing expires from now on."""
        self.name = None
        self.expired = _nothing  # no reference cycle is left for the garbage collector
        self.timers.forget(self)

    def cancel_timer(self) -> None:
        """Cancel its own timer. For `timers` only."""
        assert self.timer is not None
        self.timer.cancel()
        self.timer = None


def _nothing(_: str) -> None:
    """What a closed deadline calls."""
