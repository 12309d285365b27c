"""A plan's window: 80 %, 95 %, used up and reset, each once per window, with the time in the user's zone."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.notify.exchanges import WALL, fault
from tests.notify.playing import HOUR, MINUTE, Play

SEOUL = ZoneInfo("Asia/Seoul")
ALL = [
    "z.ai: 80 % of the 5-hour quota used",
    "z.ai: 95 % of the 5-hour quota used",
    "z.ai: 5-hour quota used up",
    "z.ai: 5-hour quota has been reset",
]


def test_each_level_is_told_once_and_so_is_the_reset() -> None:
    play = Play(SEOUL)
    for minute in range(1, 240):
        play.quota(minute * MINUTE, min(1.0, minute / 200))
    play.to(6 * HOUR)
    assert play.titles == ALL
    assert len({notice.sequence for _, notice in play.pushed}) == 1
    assert [notice.priority for _, notice in play.pushed] == [3, 3, 4, 3]


def test_the_reset_is_in_the_users_zone() -> None:
    play = Play(SEOUL)
    (notice,) = play.quota(10, 0.85)
    assert "Resets at 2026-09-22 04:13 KST, in 5 h." in notice.message  # 19:13 UTC


@pytest.mark.parametrize("name", ["5h", "week", "month", "unit 9 x 2"])
@pytest.mark.parametrize(("first", "title"), [(0.83, "80 %"), (0.96, "95 %"), (1.0, "used up"), (1.4, "used up")])
def test_a_first_look_tells_only_the_highest_level(name: str, first: float, title: str) -> None:
    play = Play()
    (notice,) = play.quota(10, first, name=name)
    assert title in notice.title
    assert play.quota(70, first, name=name) == []


def test_a_window_that_was_never_nearly_used_up_resets_silently() -> None:
    play = Play()
    play.quota(10, 0.85)
    (reset,) = play.to(6 * HOUR)
    assert reset.priority == 2


def test_a_window_that_was_hardly_used_is_never_told() -> None:
    play = Play()
    play.quota(10, 0.79)
    play.to(6 * HOUR)
    assert play.quota(6 * HOUR, 0.1, resets=11 * HOUR) == []
    assert play.pushed == []


def test_a_reset_that_comes_with_the_next_window_is_told_once() -> None:
    play = Play()
    play.quota(10, 1.0)
    play.quota(3 * HOUR, 0.02, resets=8 * HOUR)  # the plan was changed, say
    play.to(7 * HOUR)
    assert play.titles == [ALL[2], ALL[3]]
    play.quota(7.5 * HOUR, 0.81, resets=8 * HOUR)
    assert play.titles[-1] == ALL[0]


def test_a_stale_answer_after_the_reset_tells_nothing_again() -> None:
    play = Play()
    play.quota(10, 1.0)
    play.to(5 * HOUR)
    for minute in range(5):
        assert play.quota(5 * HOUR + minute * MINUTE, 1.0, resets=5 * HOUR) == []


def test_a_reset_time_that_wanders_is_the_same_window() -> None:
    play = Play()
    for n in range(20):
        play.quota(60.0 * n, 0.85, resets=5 * HOUR + n * 7)
    assert play.titles == [ALL[0]]


def test_without_a_reset_time_a_share_that_falls_is_a_new_window() -> None:
    play = Play()
    for n, used in enumerate((0.85, 0.97, 1.0, 0.01, 0.85)):
        play.quota(60.0 * n, used, resets=None)
    assert play.titles == [*ALL, ALL[0]]


def test_an_incident_that_says_used_up_is_not_repeated_by_the_quota() -> None:
    play = Play()
    play.quota(10, 0.96)
    play.fail(20, fault("1308", reset_at=WALL + 5 * HOUR))
    play.quota(80, 1.0)
    play.to(6 * HOUR)
    assert [title for title, (_, notice) in zip(play.titles, play.pushed, strict=True) if not notice.update] == [
        ALL[1],
        "z.ai: usage window used up (1308)",
        "z.ai: usable again",
    ]


def test_an_incident_tells_nothing_that_the_quota_has_told() -> None:
    play = Play()
    play.quota(10, 1.0)
    play.fail(20, fault("1308", reset_at=WALL + 5 * HOUR))
    play.fail(30, fault("1308", reset_at=WALL + 5 * HOUR))
    play.to(6 * HOUR)
    assert play.titles == ALL[2:]


def test_an_incident_before_the_first_look_is_not_repeated_either() -> None:
    play = Play()
    play.fail(20, fault("1308", reset_at=WALL + 5 * HOUR))
    assert play.quota(80, 1.0) == []


def test_the_week_is_not_meant_when_the_hours_are_used_up() -> None:
    play = Play()
    play.quota(10, 0.96, resets=100 * HOUR, name="week")
    play.quota(11, 0.97)
    play.fail(20, fault("1308", reset_at=WALL + 5 * HOUR))
    (notice,) = play.quota(30, 1.0, resets=100 * HOUR, name="week")
    assert notice.title == "z.ai: weekly quota used up"


def test_each_account_has_a_plan_of_its_own() -> None:
    play = Play()
    play.quota(10, 0.85, account="work")
    play.quota(11, 0.85, account="home")
    play.quota(12, 0.85)
    assert play.titles == [f"{who}: 80 % of the 5-hour quota used" for who in ("z.ai/work", "z.ai/home", "z.ai")]
    assert len({notice.sequence for _, notice in play.pushed}) == 3


def test_an_incident_of_one_account_hides_nothing_of_another() -> None:
    """Their windows may reset at the same time."""
    play = Play()
    play.quota(10, 0.96, account="work")
    play.quota(11, 0.96, account="home")
    play.fail(20, fault("1308", reset_at=WALL + 5 * HOUR, account="work"))
    assert play.quota(80, 1.0, account="work") == []
    (notice,) = play.quota(81, 1.0, account="home")
    assert notice.title == "z.ai/home: 5-hour quota used up"


SAMPLES = st.lists(st.tuples(st.floats(0, 1.2), st.integers(0, 40), st.booleans()), max_size=60)


@given(SAMPLES)
def test_whatever_is_sampled_no_level_of_a_window_is_told_twice(samples: list[tuple[float, int, bool]]) -> None:
    """Windows of five hours; samples come at any time and in any order of shares, with restarts between them."""
    play = Play()
    told: set[tuple[str, str]] = set()
    for used, minutes, restarts in samples:
        at = play.now + minutes * MINUTE
        resets = (at // (5 * HOUR) + 1) * 5 * HOUR
        play.quota(at, used, resets=resets)
        if restarts:
            play.restart()
    for _, notice in play.pushed:
        if "more notices (" in notice.title:
            continue
        assert (notice.sequence, notice.title) not in told
        told.add((notice.sequence, notice.title))
