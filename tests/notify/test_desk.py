"""What goes out now, later in a digest, or not at all: six an hour, quiet hours, the least priority."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from claude_proxy.notify.desk import PER_HOUR, Desk, Draft, Kind, QuietHours, next_time
from claude_proxy.notify.notice import Notice
from tests.notify.exchanges import fault
from tests.notify.playing import HOUR, MINUTE, Play

MIDNIGHT = datetime(2026, 9, 21, tzinfo=UTC).timestamp()


def desk(quiet: str | None = None, **values: Any) -> Desk:
    local = lambda now: datetime.fromtimestamp(now, UTC)  # noqa: E731
    return Desk(lambda lines, overnight: (f"{len(lines)} {overnight}", "\n".join(lines)), QuietHours(quiet, local), **values)


def draft(sequence: str, kind: Kind = Kind.ALERT, priority: int = 3, title: str = "") -> Draft:
    notice = Notice(title or sequence, "text", priority, (), sequence, update=kind is Kind.UPDATE)
    return Draft(kind, notice, f"{sequence} {kind}")


def titles(drafts: list[Draft]) -> list[str]:
    return [one.notice.title for one in drafts]


def test_six_go_out_and_the_rest_is_one_digest_when_there_is_room_again() -> None:
    subject = desk()
    out = [len(subject.offer(draft(f"{n}"), n)) for n in range(10)]
    assert out == [1] * PER_HOUR + [0] * 4
    assert subject.next_due(10) == HOUR
    assert subject.due(HOUR - 1) == []
    (digest,) = subject.due(HOUR)
    assert digest.notice.title == "4 False"
    assert digest.notice.message.splitlines() == [f"{n} alert" for n in range(6, 10)]
    assert subject.next_due(HOUR) is None


def test_a_single_one_that_was_held_back_is_sent_as_it_is() -> None:
    subject = desk()
    for n in range(PER_HOUR + 1):
        subject.offer(draft(f"{n}"), n)
    assert titles(subject.due(HOUR)) == ["6"]


def test_what_is_over_before_its_digest_says_so_and_is_quiet() -> None:
    subject = desk()
    for n in range(PER_HOUR + 2):
        subject.offer(draft(f"{n}", priority=5), n)
    for n in (6, 7):
        assert subject.offer(draft(f"{n}", Kind.CLOSE, 2), 10) == []
    (digest,) = subject.due(HOUR)
    assert digest.notice.message.splitlines() == ["6 close", "7 close"]
    assert digest.notice.priority == 2


def test_replacements_do_not_count_and_need_something_on_the_phone() -> None:
    subject = desk()
    assert subject.offer(draft("a", Kind.UPDATE, 2), 0) == []
    assert len(subject.offer(draft("a"), 1)) == 1
    for n in range(20):
        assert len(subject.offer(draft("a", Kind.UPDATE, 2), 2 + n)) == 1
    assert len(subject.offer(draft("b"), 30)) == 1


def test_an_update_of_what_is_held_is_told_with_it() -> None:
    subject = desk()
    for n in range(PER_HOUR + 1):
        subject.offer(draft(f"{n}", priority=4), n)
    subject.offer(draft("6", Kind.UPDATE, 2, title="newer"), 10)
    (late,) = subject.due(HOUR)
    assert (late.notice.title, late.notice.priority, late.notice.update) == ("newer", 4, False)


@pytest.mark.parametrize(("least", "passes"), [(1, True), (3, True), (4, False), (5, False)])
def test_nothing_below_the_least_priority_goes_out_nor_what_would_replace_it(least: int, passes: bool) -> None:
    subject = desk(min_priority=least)
    assert bool(subject.offer(draft("a", priority=3), 0)) is passes
    assert bool(subject.offer(draft("a", Kind.CLOSE, 2), 1)) is passes


def test_what_was_loud_enough_is_brought_up_to_date_by_what_is_not() -> None:
    subject = desk(min_priority=4)
    assert len(subject.offer(draft("a", priority=4), 0)) == 1
    assert len(subject.offer(draft("a", priority=3), 1)) == 1
    assert len(subject.state.pushes) == 1


# -- quiet hours


@pytest.mark.parametrize(
    ("span", "quiet", "loud"),
    [
        ("23:00-07:00", ["23:00", "00:00", "06:59"], ["07:00", "12:00", "22:59"]),
        ("00:00-06:00", ["00:00", "05:59"], ["06:00", "23:59"]),
        ("12:30-13:30", ["12:30", "13:29"], ["12:29", "13:30", "00:00"]),
    ],
)
def test_quiet_hours_may_go_past_midnight(span: str, quiet: list[str], loud: list[str]) -> None:
    hours = QuietHours(span, lambda now: datetime.fromtimestamp(now, UTC))

    def at(time: str) -> float:
        return MIDNIGHT + int(time[:2]) * HOUR + int(time[3:]) * MINUTE

    assert all(hours.at(at(time)) for time in quiet)
    assert not any(hours.at(at(time)) for time in loud)
    end = hours.end(at(quiet[0]))
    assert f"{datetime.fromtimestamp(end, UTC):%H:%M}" == span[6:]


@pytest.mark.parametrize(
    ("now", "hours"),
    [("2026-03-08T01:00:00-05:00", 5), ("2026-11-01T00:30:00-04:00", 7.5), ("2026-07-01T23:00:00-04:00", 8)],
)
def test_the_end_is_exact_on_days_on_which_clocks_change(now: str, hours: float) -> None:
    zone = ZoneInfo("America/New_York")
    local = datetime.fromisoformat(now).astimezone(zone)
    assert next_time(7 * 60, local, local.timestamp()) - local.timestamp() == hours * HOUR


def test_nothing_is_said_in_quiet_hours_and_one_summary_at_their_end() -> None:
    play = Play(quiet_hours="15:00-23:00")  # the play begins at 14:13:20
    play.fail(10, fault("1308"))
    play.to(47 * MINUTE)
    play.pushed.clear()
    for n, code in enumerate(("1310", "1311", "1313", "1304")):
        play.fail(HOUR + n, fault(code, "rate_limit_error"))
    for n in range(2):
        play.answer(2 * HOUR + n)
    assert play.pushed == []
    summary_at = 8 * HOUR + 46 * MINUTE + 40
    said = play.to(summary_at)
    assert [notice.title for notice in said] == ["z.ai: works again", "claude-proxy: during the quiet hours (4)"]
    assert all(line.endswith("over") for line in said[1].message.splitlines())
    assert [notice.priority for notice in said] == [2, 2]  # replaced in place, and nothing that still goes on
    assert play.to(summary_at + 20 * HOUR) == []


def test_a_quiet_night_without_incidents_says_nothing() -> None:
    play = Play(quiet_hours="23:00-07:00", daily=None)
    play.answer(HOUR)
    play.to(30 * HOUR)
    assert play.pushed == []


def test_what_still_goes_on_in_the_morning_is_loud_and_ends_in_place() -> None:
    play = Play(quiet_hours="14:00-15:00")
    play.fail(10, fault("1309"))
    (summary,) = play.to(HOUR)
    assert summary.title == "claude-proxy: during the quiet hours (1)"
    assert "still going on" in summary.message
    assert summary.priority == 5
    play.answer(HOUR + 10)
    assert [notice.title for notice in play.answer(HOUR + 11)] == ["z.ai: works again"]


class Hours(RuleBasedStateMachine):
    """Any order of alerts, updates, ends and hours."""

    def __init__(self) -> None:
        super().__init__()
        self.subject = desk("22:00-06:00")
        self.now = MIDNIGHT + 12 * HOUR
        self.alerts: list[float] = []
        self.asked: set[str] = set()
        self.mentioned: set[str] = set()

    def out(self, drafts: list[Draft]) -> None:
        for one in drafts:
            assert not self.subject._quiet.at(self.now)
            if one.kind is Kind.ALERT:
                self.alerts.append(self.now)
                self.mentioned |= {one.notice.sequence, *(line.split()[0] for line in one.notice.message.splitlines())}
            else:
                assert one.notice.sequence in self.mentioned

    @rule(name=st.integers(0, 30))
    def alert(self, name: int) -> None:
        self.asked.add(f"n{name}")
        self.out(self.subject.offer(draft(f"n{name}"), self.now))

    @rule(name=st.integers(0, 30), kind=st.sampled_from([Kind.UPDATE, Kind.CLOSE]))
    def replacement(self, name: int, kind: Kind) -> None:
        self.out(self.subject.offer(draft(f"n{name}", kind, 2), self.now))

    @rule(minutes=st.integers(0, 300))
    def time_passes(self, minutes: int) -> None:
        end = self.now + minutes * MINUTE
        while (due := self.subject.next_due(self.now)) is not None and due <= end:
            self.now = max(self.now, due)
            self.out(self.subject.due(self.now))
        self.now = end

    @invariant()
    def at_most_six_an_hour(self) -> None:
        assert all(later - earlier >= HOUR for earlier, later in zip(self.alerts, self.alerts[PER_HOUR:], strict=False))

    @precondition(lambda self: self.asked)
    @rule()
    def nothing_is_lost(self) -> None:
        self.time_passes(24 * 60)
        assert self.asked <= self.mentioned


Hours.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
TestHours = Hours.TestCase
