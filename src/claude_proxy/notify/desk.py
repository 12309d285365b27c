"""Whether a notice goes out now: at most six an hour, none in quiet hours, nothing below the wanted priority. Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec

from claude_proxy.notify.notice import SILENT, Notice

PER_HOUR = 6
HOUR = 3600.0
SHOWN = 2 * 86_400.0  # seconds for which a message on the phone is still brought up to date
MAX_HELD = 100


class Kind(enum.StrEnum):
    """What a notice is in the life of its sequence."""

    ALERT = "alert"  # it makes a new notification, or a sound
    UPDATE = "update"  # replaces one silently
    CLOSE = "close"  # the same, for the last time


class Draft(msgspec.Struct):
    """A notice that wants to go out.

    Attributes:
        line: what it says, in one line, for a digest.
        incidents: ids of the incidents that it is about.
        over: what it is about has ended meanwhile.
        asked: a setting of its own asks for it, so the least priority does not hold it back.
    """

    kind: Kind
    notice: Notice
    line: str
    incidents: tuple[int, ...] = ()
    over: bool = False
    asked: bool = False


class DeskState(msgspec.Struct):
    """What the desk remembers.

    Attributes:
        pushes: when notifications were made in the last hour.
        held: by sequence: what waits for the next digest or the end of the quiet hours.
        replacements: by sequence: what replaces a message on the phone once the quiet hours are over.
        shown: sequences that are on the phone, and since when.
        quiet_since: when the quiet hours began that are not summed up yet.
    """

    pushes: list[float] = []
    held: dict[str, Draft] = {}
    replacements: dict[str, Draft] = {}
    shown: dict[str, float] = {}
    quiet_since: float | None = None


class QuietHours:
    """A span of each day.

    Args:
        span: `23:00-07:00`, or None for no quiet hours.
        local: turns the rules' clock into the user's local time.
    """

    def __init__(self, span: str | None, local: Callable[[float], datetime]) -> None:
        self._span = None if span is None else [minutes_of(time) for time in span.split("-")]
        self._local = local

    def at(self, now: float) -> bool:
        """Whether it is quiet now."""
        if self._span is None:
            return False
        start, end = self._span
        local = self._local(now)
        minute = local.hour * 60 + local.minute
        return start <= minute < end if start < end else minute >= start or minute < end

    def end(self, now: float) -> float:
        """When the quiet hours that last now end, on the rules' clock."""
        assert self._span is not None
        return next_time(self._span[1], self._local(now), now)


def minutes_of(time: str) -> int:
    """`HH:MM` as minutes after midnight."""
    hours, _, minutes = time.partition(":")
    return int(hours) * 60 + int(minutes)


def next_time(minutes: int, local: datetime, now: float) -> float:
    """When it is so many minutes after local midnight next, strictly after `now`. Days on which clocks change are exact."""
    at = local.replace(hour=minutes // 60, minute=minutes % 60, second=0, microsecond=0, fold=0)
    if at.timestamp() <= local.timestamp():
        at = (at.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=local.tzinfo)
    return now + (at.timestamp() - local.timestamp())


class Desk:
    """Decides when drafts go out.

    Args:
        digest: title and message of lines; `overnight` for those of quiet hours.
        quiet: the quiet hours.
        min_priority: of a notice that may alert.
    """

    def __init__(
        self,
        digest: Callable[[list[str], bool], tuple[str, str]],
        quiet: QuietHours,
        *,
        min_priority: int = 1,
        state: DeskState | None = None,
    ) -> None:
        self._digest = digest
        self._quiet = quiet
        self._min_priority = min_priority
        self.state = state or DeskState()

    def offer(self, draft: Draft, now: float) -> list[Draft]:
        """Take a draft; returns what goes out now."""
        if draft.kind is Kind.ALERT:
            return self._alert(draft, now)
        return self._replace(draft, now)

    def due(self, now: float) -> list[Draft]:
        """Return what goes out because the quiet hours or a full hour are over."""
        state = self.state
        state.pushes = [at for at in state.pushes if now - at < HOUR]
        state.shown = {sequence: at for sequence, at in state.shown.items() if now - at < SHOWN}
        if self._quiet.at(now):
            return []
        late, state.replacements = list(state.replacements.values()), {}
        if state.held and len(state.pushes) >= PER_HOUR:
            return late
        overnight, state.quiet_since = state.quiet_since is not None, None
        return [*late, self._collected(now, overnight)] if state.held else late

    def next_due(self, now: float) -> float | None:
        """When `due` has something to do next; None if never."""
        state = self.state
        if not state.held and not state.replacements:
            return None
        if self._quiet.at(now):
            return self._quiet.end(now)
        return state.pushes[0] + HOUR if len(state.pushes) >= PER_HOUR else now

    def withdraw(self, sequence: str) -> None:
        """Forget what waits under a sequence."""
        self.state.held.pop(sequence, None)
        self.state.shown.pop(sequence, None)

    def _alert(self, draft: Draft, now: float) -> list[Draft]:
        state, notice = self.state, draft.notice
        if notice.priority < self._min_priority and not draft.asked:
            return self._replace(draft, now)  # what is on the phone must not stay untrue
        state.pushes = [at for at in state.pushes if now - at < HOUR]
        quiet = self._quiet.at(now)
        if quiet or len(state.pushes) >= PER_HOUR:
            if quiet and state.quiet_since is None:
                state.quiet_since = now
            if notice.sequence in state.held or len(state.held) < MAX_HELD:
                state.held[notice.sequence] = draft
            state.replacements.pop(notice.sequence, None)
            return []
        self._note(notice.sequence, now)
        return [draft]

    def _replace(self, draft: Draft, now: float) -> list[Draft]:
        state, sequence = self.state, draft.notice.sequence
        held = state.held.get(sequence)
        if held is not None:
            held.line, held.over = draft.line, draft.kind is Kind.CLOSE
            if not held.over:
                held.notice = replace(draft.notice, priority=held.notice.priority, update=False)
            return []
        if sequence not in state.shown:
            return []
        if self._quiet.at(now):
            state.replacements[sequence] = draft
            return []
        return [draft]

    def _collected(self, now: float, overnight: bool) -> Draft:
        """All that is held, as one message."""
        state = self.state
        held, state.held = list(state.held.values()), {}
        for draft in held:
            state.shown[draft.notice.sequence] = now
        if len(held) == 1 and not held[0].over and not overnight:
            self._note(held[0].notice.sequence, now)
            return held[0]
        title, message = self._digest([draft.line for draft in held], overnight)
        priority = max(SILENT if draft.over else draft.notice.priority for draft in held)
        notice = replace(held[0].notice, title=title, message=message, priority=priority, tags=("clipboard",))
        notice = replace(notice, sequence=f"cp-digest-{int(now)}", update=False)
        self._note(notice.sequence, now)
        return Draft(Kind.ALERT, notice, title, tuple(number for draft in held for number in draft.incidents))

    def _note(self, sequence: str, now: float) -> None:
        self.state.pushes.append(now)
        self.state.shown[sequence] = now
