"""What a simulation counts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from benchmarks.policy.loads import Call
from benchmarks.policy.world import Account, Clock
from claude_proxy.routing.classes import Urgency
from claude_proxy.routing.lane import Lane

LONG = 30.0  # seconds after which an adjustment that is overtaken by the next move counts as it is
WINDOW = 1800.0  # seconds over which the shares of equal sessions are compared as well


class State(NamedTuple):
    """An account between two changes: requests that run, and slots that are taken of those that could be."""

    running: int
    taken: int
    limit: int


@dataclass
class Measures:
    """Counts the calls of one simulation, and adds up what the accounts were used.

    Attributes:
        used, usable: slot-seconds while somebody waited: those that were taken, and those that could have been.
        visible: calls of which an attempt was refused visibly.
        denied: tool checks that were given up.
        slow_checks: tool checks that took more than 60 s from the first attempt.
        waits: of the main agents, in seconds.
        shares: slot-seconds by session, in all and by half hour.
    """

    clock: Clock
    accounts: list[Account]
    used: float = 0.0
    usable: float = 0.0
    asked_for: int = 0
    open: set[Call] = field(default_factory=set)
    calls: int = 0
    checks: int = 0
    visible: int = 0
    failed: int = 0
    denied: int = 0
    slow_checks: int = 0
    waits: list[float] = field(default_factory=list)
    shares: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    recent: dict[int, dict[str, float]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))
    _since: float = 1.0
    _changed: dict[Account, None] = field(default_factory=dict)
    _state: dict[Account, State] = field(default_factory=dict)
    _running: int = 0
    _taken: int = 0
    _limit: int = 0

    def __post_init__(self) -> None:
        for account in self.accounts:
            self._changed[account] = None
            account.before_change.append(partial(self._changes, account))

    def _changes(self, account: Account) -> None:
        self.add_up()
        self._changed[account] = None

    def add_up(self) -> None:
        """Account for the time since the last change."""
        now = self.clock.now
        seconds, self._since = now - self._since, now
        if not seconds:
            return
        for account in self._changed:
            self._look(account)
        self._changed.clear()
        waiting = len(self.open) - self._running
        if waiting > 0:
            self.used += seconds * self._taken
            self.usable += seconds * min(self._limit, self._taken + waiting)

    def _look(self, account: Account) -> None:
        """Put its state in the place of the one before: a sum over all accounts for each event would take most of the time."""
        limit = 0 if account.dark else account.limit
        after = State(account.running, min(account.occupied, limit), limit)
        before = self._state.get(account, State(0, 0, 0))
        self._state[account] = after
        self._running += after.running - before.running
        self._taken += after.taken - before.taken
        self._limit += after.limit - before.limit

    def asked(self, call: Call) -> None:
        self.add_up()
        self.open.add(call)

    def over(self, call: Call, *, answered: bool) -> None:
        self.add_up()
        self.open.discard(call)
        self.calls += 1
        self.visible += call.refused > 0
        self.failed += not answered and call.urgency is not Urgency.BACKGROUND
        if call.urgency is Urgency.BLOCKING:
            self.checks += 1
            self.denied += not answered
            self.slow_checks += not answered or self.clock.now - call.asked_at > 60
        elif call.urgency is Urgency.MAIN and call.sent_at is not None:
            self.waits.append(call.sent_at - call.asked_at)
        if answered:
            self.shares[call.session] += call.lasts
            self.recent[int(self.clock.now / WINDOW)][call.session] += call.lasts


@dataclass
class Learning:
    """How fast a learned limit follows the true one, while somebody waits; looked at once per second.

    Attributes:
        cold, up, down: seconds that each adjustment took.
    """

    lane: Lane
    account: Account
    clock: Clock
    cold: list[float] = field(default_factory=list)
    up: list[float] = field(default_factory=list)
    down: list[float] = field(default_factory=list)
    _known: int = 0
    _waited: float = 0.0
    _pending: list[float] | None = None

    def __post_init__(self) -> None:
        self._known, self._pending = self.account.limit, self.cold
        self.look()

    def look(self) -> None:
        """Compare what is learned with what is true."""
        true, value = self.account.limit, self.lane.limit.value
        if true != self._known:
            if self._pending is not None and self._waited > LONG:
                self._pending.append(self._waited)
            self._pending = self.up if true > self._known else self.down
            self._known, self._waited = true, 0.0
        if self._pending is not None:
            self._waited += bool(self.lane.waiting) and not self.account.dark
            if value is not None and self._reached(value, true):
                self._pending.append(self._waited)
                self._pending = None
        self.clock.after(1.0, self.look)

    def _reached(self, value: int, true: int) -> bool:
        if self._pending is self.cold:
            return value == true
        return value >= true if self._pending is self.up else value <= true
