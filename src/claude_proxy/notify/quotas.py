"""When a plan's window is worth a notice: 80 %, 95 %, used up and reset, each once per window. Pure: time is an argument."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from claude_proxy.notify.desk import Draft, Kind
from claude_proxy.notify.events import QuotaSeen, QuotaWindow
from claude_proxy.notify.notice import SILENT, Notice
from claude_proxy.notify.wording import DEFAULT, HIGH, Wording

LEVELS = (100, 95, 80)  # percent
LOUD = 95  # a reset makes a sound if this much was used
SAME = 600.0  # seconds by which the provider's reset time of one window may move
MAX_WINDOWS = 64
_TAGS = {80: "chart_with_upwards_trend", 95: "hourglass_flowing_sand", 100: "hourglass"}


class WindowState(msgspec.Struct):
    """What is known of one window of one plan, and what a notice has told.

    Attributes:
        name: of the window.
        resets_at: Unix seconds; None if the provider does not say.
        told: the highest level that was reached, in percent; 0 for none.
        used: the share when it was last seen.
        over: its reset was told, and no later window was seen yet.
        covered: an incident tells that it is used up and when it is usable again.
    """

    label: str
    name: str
    sequence: str
    resets_at: float | None
    told: int = 0
    used: float = 0.0
    over: bool = False
    covered: bool = False


class Quotas:
    """All windows of all plans.

    Args:
        wording: writes the notices.
        states: by plan and window, from an earlier run.
    """

    def __init__(self, wording: Wording, states: dict[str, WindowState] | None = None) -> None:
        self._wording = wording
        self.states = states or {}

    def seen(self, event: QuotaSeen, now: float, incidents: Sequence[float | None] = ()) -> list[Draft]:
        """A provider told its windows.

        Args:
            incidents: of each incident that tells already that this plan is used up, when that resets.
        """
        plan = _plan(event.upstream, event.account)
        drafts = [draft for window in event.windows for draft in self._seen(plan, event.label, window, now)]
        for state in self._of(plan) if incidents else ():
            if state.told >= 100 and not state.over and any(_is_same(state.resets_at, at) for at in incidents):
                state.covered = True
        hidden = {state.sequence for state in self.states.values() if state.covered}
        return [draft for draft in drafts if draft.notice.sequence not in hidden]

    def used_up(self, upstream: str, reset_at: float | None, account: str = "") -> bool:
        """An incident says that a plan of `upstream` is used up; returns whether a notice has told that already.

        Args:
            reset_at: when it resets, if the incident says so: that tells which window it is.
            account: as in `QuotaSeen`.
        """
        nearly = [state for state in self._of(_plan(upstream, account)) if state.used >= LOUD / 100 and not state.over]
        full = [state for state in nearly if _is_same(state.resets_at, reset_at)]
        state = max(full, key=lambda one: one.used, default=None)
        if state is None or state.covered:
            return False
        if state.told >= 100:
            return True
        state.told, state.covered = 100, True
        return False

    def due(self, now: float) -> list[Draft]:
        """Tell the resets whose time has come."""
        return [draft for state in self.states.values() if _ended(state, now) for draft in self._reset(state)]

    def next_due(self) -> float | None:
        """When `due` has something to do next; None if never."""
        waiting = (state for state in self.states.values() if state.told and not state.over)
        return min((state.resets_at for state in waiting if state.resets_at is not None), default=None)

    def _of(self, plan: str) -> Iterable[WindowState]:
        return [state for key, state in self.states.items() if key == f"{plan}\n{state.name}"]

    def _seen(self, plan: str, label: str, window: QuotaWindow, now: float) -> list[Draft]:
        key = f"{plan}\n{window.name}"
        state = self.states.get(key)
        drafts: list[Draft] = []
        if state is not None and _is_next(state, window):
            drafts += [] if state.over else self._reset(state)
            state = None
        if state is None:
            if len(self.states) >= MAX_WINDOWS:
                del self.states[next(iter(self.states))]
            state = self.states[key] = WindowState(label, window.name, _sequence(key, window, now), window.resets_at)
        if state.over:
            return drafts  # what the provider told of the window that has ended
        state.used = window.used
        state.resets_at = window.resets_at or state.resets_at
        level = next((level for level in LEVELS if window.used >= level / 100), 0)
        if level > state.told:
            state.told = level
            drafts.append(self._level(state, window, level, now))
        return drafts

    def _level(self, state: WindowState, window: QuotaWindow, level: int, now: float) -> Draft:
        title, message = self._wording.quota(state.label, window, level, now)
        priority = HIGH if level >= 100 else DEFAULT
        return Draft(Kind.ALERT, Notice(title, message, priority, (_TAGS[level],), state.sequence), title)

    def _reset(self, state: WindowState) -> list[Draft]:
        state.over = True
        if not state.told or state.covered:
            return []
        title, message = self._wording.quota_reset(state.label, state.name)
        loud = state.told >= LOUD
        notice = Notice(title, message, DEFAULT if loud else SILENT, ("white_check_mark",), state.sequence)
        return [Draft(Kind.ALERT if loud else Kind.CLOSE, notice, title)]


def _plan(upstream: str, account: str) -> str:
    """What identifies a plan in the keys of `Quotas.states`."""
    return f"{upstream}\n{account}" if account else upstream


def _ended(state: WindowState, now: float) -> bool:
    return state.resets_at is not None and now >= state.resets_at and bool(state.told) and not state.over


def _is_next(state: WindowState, window: QuotaWindow) -> bool:
    """Whether this is a later window than the known one, by the provider's reset time, else by a share that fell."""
    if state.resets_at is not None and window.resets_at is not None:
        return window.resets_at > state.resets_at + SAME
    return window.used < state.used / 2


def _is_same(one: float | None, other: float | None) -> bool:
    """Whether two reset times may be of the same window; an unknown one may be any."""
    return one is None or other is None or abs(one - other) <= SAME


def _sequence(key: str, window: QuotaWindow, now: float) -> str:
    name = f"{key}\n{int(window.resets_at or now) // int(SAME)}"
    return "cp-quota-" + hashlib.blake2s(name.encode("utf-8", "replace"), digest_size=8).hexdigest()
