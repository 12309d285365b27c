"""Plays events to the rules on a clock that the test moves, and keeps what would be pushed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from typing import Any

import msgspec

from claude_proxy.notify.events import (
    Action,
    Answered,
    Event,
    Failed,
    Figures,
    Push,
    QuotaSeen,
    QuotaWindow,
    Record,
    Report,
    Tick,
    Withdraw,
)
from claude_proxy.notify.events import Summarise as Summarise
from claude_proxy.notify.fault import Fault
from claude_proxy.notify.notice import Notice
from claude_proxy.notify.rules import Rules, RulesState
from claude_proxy.notify.wording import Wording
from tests.notify.exchanges import WALL

MINUTE, HOUR = 60.0, 3600.0


class Play:
    """The rules of one proxy; `at` is seconds after the beginning.

    Attributes:
        pushed: (when, notice) for each push.
        records: the last state of each incident.
    """

    def __init__(self, zone: tzinfo = UTC, language: Any = "en", **values: Any) -> None:
        self.pushed: list[tuple[float, Notice]] = []
        self.actions: list[Action] = []
        self.records: dict[int, Report] = {}
        self.opened: list[int] = []
        self.closed: list[int] = []
        self.now = 0.0
        self._values = values
        self._zone = zone
        self._language = language
        self._ids = itertools.count(1)
        self.rules = self._made(None)

    def _made(self, state: RulesState | None) -> Rules:
        wording = Wording(self._language, self._zone)
        local = lambda now: datetime.fromtimestamp(now, self._zone)  # noqa: E731
        return Rules(wording, lambda: next(self._ids), WALL + self.now, local=local, state=state, **self._values)

    def restart(self) -> None:
        """As a new process does it: all that survives is what was written."""
        kept = msgspec.json.encode(self.rules.state)
        self.rules = self._made(msgspec.json.decode(kept, type=RulesState))
        self.do(Tick())

    def do(self, event: Event) -> list[Notice]:
        """Hand an event to the rules now; returns what is pushed."""
        pushed = []
        for action in self.rules.decide(event, WALL + self.now):
            self.actions.append(action)
            if isinstance(action, Push):
                pushed.append(action.notice)
                self.pushed.append((self.now, action.notice))
            elif isinstance(action, Record):
                self._note(action.incident)
        return pushed

    def _note(self, report: Report) -> None:
        before = self.records.get(report.id)
        if before is None:
            self.opened.append(report.id)
        if report.closed is not None and (before is None or before.closed is None):
            self.closed.append(report.id)
        self.records[report.id] = report

    def to(self, at: float) -> list[Notice]:
        """Let time pass, as the notifier's timer does; returns what is pushed on the way."""
        count = len(self.pushed)
        for _ in range(10_000):
            due = self.rules.next_due(WALL + self.now)
            if due is None or due - WALL > at:
                break
            self.now = max(self.now, due - WALL)
            self.do(Tick())
        else:
            raise AssertionError("the timer spins")
        self.now = at
        return [notice for _, notice in self.pushed[count:]]

    def fail(self, at: float, fault: Fault) -> list[Notice]:
        """A client sees a failure; returns what is pushed until then and by it."""
        return self.to(at) + self.do(Failed(fault))

    def answer(
        self, at: float, model: str = "glm-5.3", *, took: float = 0.1, upstream: str = "default", **values: Any
    ) -> list[Notice]:
        """A client gets a good answer."""
        return self.to(at) + self.do(Answered(upstream, "z.ai", model, took, **values))

    def quota(
        self, at: float, used: float, *, resets: float | None = 5 * HOUR, name: str = "5h", account: str = ""
    ) -> list[Notice]:
        """The plan's window is asked; it resets `resets` seconds after the beginning."""
        window = QuotaWindow(name, used, None if resets is None else WALL + resets)
        return self.to(at) + self.do(QuotaSeen("default", f"z.ai/{account}" if account else "z.ai", (window,), account))

    def figures(self, **values: Any) -> list[Notice]:
        """What the books say, once the rules have asked."""
        asked = next(action for action in reversed(self.actions) if isinstance(action, Summarise))
        return self.do(Figures(asked.since, asked.until, **values))

    @property
    def titles(self) -> list[str]:
        return [notice.title for _, notice in self.pushed]

    @property
    def withdrawn(self) -> list[str]:
        return [action.sequence for action in self.actions if isinstance(action, Withdraw)]


def titles(notices: Iterable[Notice]) -> list[str]:
    return [notice.title for notice in notices]
