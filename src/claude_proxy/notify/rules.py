"""The rules for when to notify a person: `decide(event, now) -> actions`. Pure: no I/O, no clock.

Only what a client saw is told. Incidents (`incidents.py`) and plans' windows (`quotas.py`) say what there is to tell; the desk
(`desk.py`) says whether it goes out now, later in a digest, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import msgspec

from claude_proxy.notify.advice import ACCOUNT_OUT
from claude_proxy.notify.desk import Desk, DeskState, Draft, Kind, QuietHours, minutes_of, next_time
from claude_proxy.notify.events import (
    Action,
    Answered,
    Condition,
    Event,
    Failed,
    Figures,
    Happened,
    Hurry,
    Published,
    Push,
    QuotaSeen,
    Record,
    Report,
    Summarise,
    Tick,
    Withdraw,
)
from claude_proxy.notify.fault import Fault, condition
from claude_proxy.notify.incident import Incident
from claude_proxy.notify.incidents import Incidents, Past
from claude_proxy.notify.latency import Latency
from claude_proxy.notify.notice import SILENT, Notice
from claude_proxy.notify.quotas import Quotas, WindowState
from claude_proxy.notify.wording import Wording

RECORD_EVERY = 10.0  # seconds between two records of an incident that only counts
JUDGE_EVERY = 60.0  # seconds between two looks at the latency of an upstream
MAX_RECORDED = 500
MAX_LATE = 6 * 3600.0  # seconds by which a daily summary may be late, after a stop


class Counters(msgspec.Struct):
    """What happened since the last daily summary."""

    since: float
    answered: int = 0
    failed: int = 0
    hidden: int = 0


class RulesState(msgspec.Struct):
    """Everything that a restart must not lose."""

    counters: Counters
    open: dict[str, Incident] = {}
    past: dict[str, Past] = {}
    over: list[Incident] = []
    windows: dict[str, WindowState] = {}
    desk: DeskState = msgspec.field(default_factory=DeskState)
    daily: str | None = None
    daily_at: float | None = None


class Rules:
    """Decides about notices.

    Args:
        wording: writes them.
        make_id: makes the ids of incidents.
        now: seconds of the clock that `decide` is given too: Unix time at the start, and monotonic from there.
        local: turns that clock into the user's local time.
        quiet_hours: `23:00-07:00`; None for none.
        daily: time of the daily summary, `09:00`; None for none.
        min_priority: of notices that may alert.
        state: of an earlier run.

    Attributes:
        hidden: failed attempts that a retry hid from clients, by upstream.
    """

    def __init__(
        self,
        wording: Wording,
        make_id: Callable[[], int],
        now: float,
        *,
        local: Callable[[float], datetime] = lambda now: datetime.fromtimestamp(now, UTC),
        quiet_hours: str | None = None,
        daily: str | None = None,
        min_priority: int = 1,
        state: RulesState | None = None,
    ) -> None:
        found = state or RulesState(Counters(now))
        self.hidden: dict[str, int] = {}
        self._wording = wording
        self._local = local
        self._incidents = Incidents(wording, make_id)
        self._incidents.open, self._incidents.past, self._incidents.over = found.open, found.past, found.over
        self._quotas = Quotas(wording, found.windows)
        quiet = QuietHours(quiet_hours, local)
        digest = lambda lines, overnight: wording.digest(lines, overnight=overnight)  # noqa: E731 - keeps the desk free of wording
        self._desk = Desk(digest, quiet, min_priority=min_priority, state=found.desk)
        self._latencies: dict[str, tuple[Latency, str]] = {}
        self._judged: dict[str, float] = {}
        self._recorded: dict[int, tuple[float, bool, bool, int]] = {}
        self._ntfy_down = False
        self._counters = found.counters
        self._daily = daily
        self._daily_at = found.daily_at if found.daily == daily and daily is not None else self._next_daily(now)
        if self._daily_at is not None and now - self._daily_at > MAX_LATE:
            self._daily_at = self._next_daily(now)

    def decide(self, event: Event, now: float) -> list[Action]:
        """Take an event, and do what is due.

        Args:
            now: seconds; it never goes back.
        """
        actions: list[Action] = []
        calm = isinstance(event, Answered) and not self.anything_open
        drafts = self._drafts(event, now, actions)
        if calm and not drafts:
            return actions  # nearly every event: nothing can be due that the timer does not bring
        for draft in drafts:
            self._send(self._desk.offer(draft, now), now, actions)
        self._due(now, actions)
        for sequence in self._incidents.withdrawn:
            self._desk.withdraw(sequence)
            actions.insert(0, Withdraw(sequence))
        self._incidents.withdrawn.clear()
        actions += self._records(now)
        return actions

    def next_due(self, now: float) -> float | None:
        """When something is due next; None if nothing is."""
        times = [self._incidents.next_due(), self._quotas.next_due(), self._desk.next_due(now), self._daily_at]
        times += [self._recorded[number][0] + RECORD_EVERY for number in self._incidents.changed]
        times += [self._judged[name] + JUDGE_EVERY for name, (latency, _) in self._latencies.items() if latency.slow]
        return min((time for time in times if time is not None), default=None)

    @property
    def state(self) -> RulesState:
        """What a later run needs."""
        incidents = self._incidents
        return RulesState(
            counters=self._counters,
            open=incidents.open,
            past=incidents.past,
            over=incidents.over,
            windows=self._quotas.states,
            desk=self._desk.state,
            daily=self._daily,
            daily_at=self._daily_at,
        )

    @property
    def anything_open(self) -> bool:
        """Whether a good answer is news."""
        return bool(self._incidents.open) or self._ntfy_down

    def reports(self) -> list[Report]:
        """The incidents that are open or were lately, the last failure first."""
        known = [*self._incidents.open.values(), *self._incidents.over]
        return [incident.report() for incident in sorted(known, key=lambda one: one.failed_at, reverse=True)]

    # -- events

    def _drafts(self, event: Event, now: float, actions: list[Action]) -> list[Draft]:
        match event:
            case Failed(fault):
                self._counters.failed += 1
                return self._failed(fault, now)
            case Answered():
                return self._answered(event, now, actions)
            case QuotaSeen():
                here = (one for one in self._of_upstream(event.upstream) if one.last.is_about(event.upstream, event.account))
                return self._quotas.seen(
                    event, now, [one.last.reset_at for one in here if one.told and one.last.about.until_reset]
                )
            case Condition(fault, on):
                return self._incidents.holds(fault, now) if on else self._incidents.ended(fault, now)
            case Happened(fault):
                return self._incidents.happened(fault, now)
            case Published():
                return self._published(event, now)
            case Figures():
                return [self._summary(event, now)]
            case Tick():
                return []

    def _failed(self, fault: Fault, now: float) -> list[Draft]:
        if fault.word == ACCOUNT_OUT and (cause := self._incidents.cause_of(fault)) is not None:
            fault = msgspec.structs.replace(cause.last, model=fault.model)  # the same once more, in our words
        begins = fault.key not in self._incidents.open
        drafts = self._incidents.failed(fault, now)
        if begins and fault.about.until_reset and self._quotas.used_up(fault.upstream, fault.reset_at, fault.account):
            self._incidents.told_elsewhere(fault.key)
            return []
        return drafts + (self._incidents.network_fails(now) if self._ntfy_down else [])

    def _answered(self, event: Answered, now: float, actions: list[Action]) -> list[Draft]:
        self._counters.answered += 1
        if event.hidden:
            self._counters.hidden += event.hidden
            self.hidden[event.upstream] = self.hidden.get(event.upstream, 0) + event.hidden
        if self._ntfy_down:
            self._ntfy_down = False
            actions.append(Hurry())
        drafts: list[Draft] = []
        if self._incidents.open:
            drafts = self._incidents.answered(event.upstream, event.model, now - event.took, now, event.account)
        if event.head is not None:
            latency, _ = self._latencies.setdefault(event.upstream, (Latency(), event.label))
            latency.add(event.head, now)
            if now - self._judged.get(event.upstream, 0.0) >= JUDGE_EVERY:
                drafts += self._judge(event.upstream, now)
        return drafts

    def _judge(self, upstream: str, now: float) -> list[Draft]:
        """Look whether an upstream is slow."""
        self._judged[upstream] = now
        latency, label = self._latencies[upstream]
        found = latency.judge(now)
        if found is None:
            return []
        lately, usual = found
        fault = condition("slow", self._wording.slowness(lately, usual), upstream=upstream, label=label)
        return self._incidents.holds(fault, now) if latency.slow else self._incidents.ended(fault, now)

    def _published(self, event: Published, now: float) -> list[Draft]:
        self._ntfy_down = not event.reached
        if not event.reached:
            return self._incidents.network_fails(now)
        if event.sequence:
            self._incidents.delivered(event.sequence)
        return self._incidents.network_works(now)

    def _of_upstream(self, upstream: str) -> Iterable[Incident]:
        return (one for one in self._incidents.open.values() if one.last.upstream == upstream)

    # -- time

    def _due(self, now: float, actions: list[Action]) -> None:
        drafts = self._incidents.due(now) + self._quotas.due(now)
        for name in [name for name, (latency, _) in self._latencies.items() if latency.slow]:
            if now - self._judged[name] >= JUDGE_EVERY:
                drafts += self._judge(name, now)
        for draft in drafts:
            self._send(self._desk.offer(draft, now), now, actions)
        self._send(self._desk.due(now), now, actions)
        if self._daily_at is not None and now >= self._daily_at:
            self._daily_at = self._next_daily(now)
            actions.append(Summarise(self._counters.since, now))

    def _send(self, drafts: list[Draft], now: float, actions: list[Action]) -> None:
        known = {one.id: one for one in (*self._incidents.open.values(), *self._incidents.over)} if drafts else {}
        for draft in drafts:
            for number in draft.incidents:
                if number in known:
                    known[number].note_push(now, draft.notice.title)
                    self._incidents.changed[number] = known[number]
            actions.append(Push(draft.notice))

    def _records(self, now: float) -> list[Action]:
        """Incidents to write down: at once what began, was told or ended; mere counts now and then."""
        actions: list[Action] = []
        for number, incident in [*self._incidents.changed.items()]:
            face = (incident.told, incident.closed_at is not None, len(incident.pushed))
            known = self._recorded.get(number)
            if known is None or known[1:] != face or now - known[0] >= RECORD_EVERY:
                del self._incidents.changed[number]
                self._recorded[number] = (now, *face)
                actions.append(Record(incident.report()))
        if len(self._recorded) > MAX_RECORDED:
            wanted = {one.id for one in self._incidents.open.values()} | self._incidents.changed.keys()
            self._recorded = {number: known for number, known in self._recorded.items() if number in wanted}
        return actions

    # -- the daily summary

    def _next_daily(self, now: float) -> float | None:
        return None if self._daily is None else next_time(minutes_of(self._daily), self._local(now), now)

    def _summary(self, figures: Figures, now: float) -> Draft:
        counters, self._counters = self._counters, Counters(now)
        known = [*self._incidents.over, *self._incidents.open.values()]
        recent = [one for one in known if one.told and (one.closed_at or now) >= figures.since]
        lines = [self._wording.line(one, now) for one in recent[-20:]]
        title, message = self._wording.daily(figures, counters.answered, counters.failed, counters.hidden, lines)
        notice = Notice(title, message, SILENT, ("bar_chart",), f"cp-daily-{int(now)}")
        return Draft(Kind.ALERT, notice, title, asked=True)
