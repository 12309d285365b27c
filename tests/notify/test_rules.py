"""When a person hears of an incident: only of harm that clients saw, once, and in place."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from claude_proxy.notify.events import Condition, Figures, Happened, Hurry, Published, Summarise
from claude_proxy.notify.fault import condition
from claude_proxy.notify.incident import ENOUGH, GOOD, HOLD, QUIET
from claude_proxy.notify.incidents import OPENINGS
from tests.notify.exchanges import WALL, fault
from tests.notify.playing import HOUR, MINUTE, Play, titles

STOPS = ["1308", "1309", "1310", "1311", "1313", "1113", "1002"]
LIMITS = [(code, "rate_limit_error") for code in ("1302", "1303")]
TRANSIENT = [*LIMITS, *((code, "overloaded_error") for code in ("1305", "1312"))]
TRANSIENT_OURS = ["stream_cut", "connect_failed", "upstream_timeout", "http_502", "unavailable", "internal"]
KINDS = [*TRANSIENT, *((None, kind) for kind in TRANSIENT_OURS)]


@pytest.mark.parametrize("code", STOPS)
def test_what_no_retry_can_help_is_told_at_once(code: str) -> None:
    (notice,) = Play().fail(10, fault(code, "rate_limit_error"))
    assert notice.title.endswith(f"({code})")
    assert notice.priority >= 4
    assert not notice.update


@pytest.mark.parametrize(("code", "kind"), KINDS)
def test_what_clients_retry_is_held_and_told_after_three_failures_and_30_seconds(code: str | None, kind: str) -> None:
    play = Play()
    for n in range(ENOUGH):
        assert play.fail(10 + n, fault(code, kind)) == []
    assert play.to(10 + HOLD - 0.1) == []
    (notice,) = play.to(10 + HOLD)
    assert "3 requests failed in 30 s" in notice.message


@pytest.mark.parametrize(("code", "kind"), KINDS)
def test_a_burst_that_heals_within_30_seconds_is_never_told(code: str | None, kind: str) -> None:
    play = Play()
    for n in range(300):
        play.fail(10 + n / 100, fault(code, kind))
    for n in range(GOOD):
        play.answer(20 + n)
    play.to(HOUR)
    assert play.pushed == []
    (report,) = play.records.values()
    assert (report.told, report.failures, report.closed) == (False, 300, WALL + 21)


@pytest.mark.parametrize("failures", range(1, ENOUGH))
def test_fewer_than_three_failures_are_never_told(failures: int) -> None:
    play = Play()
    for n in range(failures):
        play.fail(10 + n, fault())
    play.to(HOUR)
    assert play.pushed == []


def test_the_third_failure_tells_however_late_it_comes() -> None:
    play = Play()
    for at in (10, 60, 119):
        said = play.fail(at, fault())
    assert titles(said) == ["z.ai: overloaded (1305)"]


def told(**values: object) -> Play:
    """One about whose overload a notice went out at 40 s."""
    play = Play(**values)
    for at in (10, 11, 12):
        play.fail(at, fault())
    assert titles(play.to(40)) == ["z.ai: overloaded (1305)"]
    play.pushed.clear()
    return play


def test_updates_come_at_10_30_and_60_minutes_then_hourly_silently_and_in_place() -> None:
    play = told()
    for minute in range(1, 8 * 60):
        play.fail(minute * MINUTE, fault())
    assert [round((at - 10) / MINUTE) for at, _ in play.pushed] == [10, 30, 60, 120, 180, 240, 300, 360, 420]
    assert {notice.priority for _, notice in play.pushed} == {2}
    assert all(notice.update for _, notice in play.pushed)
    assert len({notice.sequence for _, notice in play.pushed}) == 1
    assert play.titles[-1] == "z.ai: overloaded (1305), 423 failed"


def test_two_good_answers_end_it_in_place() -> None:
    play = told()
    assert play.answer(50) == []
    (notice,) = play.answer(51)
    assert notice.title == "z.ai: works again"
    assert "3 requests failed in 2 s" in notice.message
    assert notice.priority == 2
    assert not notice.update


def test_a_failure_between_two_good_answers_starts_the_count_again() -> None:
    play = told()
    play.answer(50)
    play.fail(51, fault())
    assert play.answer(52) == []
    assert titles(play.answer(53)) == ["z.ai: works again"]


def test_an_answer_that_was_under_way_proves_nothing() -> None:
    play = told()
    assert play.answer(50, took=45) == []
    assert play.answer(51, took=45) == []
    assert play.answer(52) == []
    assert len(play.answer(53)) == 1


def test_two_quiet_minutes_end_it_and_the_words_claim_no_more() -> None:
    play = told()
    (notice,) = play.to(12 + QUIET)
    assert notice.title == "z.ai: no more failures"
    assert play.to(HOUR) == []


def test_another_upstreams_answers_end_nothing() -> None:
    play = told()
    assert [play.answer(50 + n, upstream="other") for n in range(5)] == [[]] * 5


def test_a_busy_model_recovers_by_its_own_answers_only() -> None:
    play = Play()
    for n in range(3):
        play.fail(10 + n, fault("1312", model="glm-5.3"))
    assert len(play.to(40)) == 1
    assert [play.answer(50 + n, "glm-4.7") for n in range(5)] == [[]] * 5
    assert len(play.answer(60, "glm-5.3")) == 1


def test_one_outage_of_many_kinds_is_one_incident_named_by_the_most_frequent() -> None:
    play = Play()
    kinds = [("1305", "overloaded_error")] * 3 + [(None, "stream_cut"), (None, "http_502"), (None, "upstream_timeout")]
    for n, (code, kind) in enumerate(kinds):
        play.fail(10 + n, fault(code, kind))
    (notice,) = play.to(50)
    assert notice.title == "z.ai: overloaded (1305)"
    assert "6 requests failed in 30 s: overloaded ×3, answers break off ×1, HTTP 502 ×1, no answer in time ×1." in notice.message


def test_limits_overload_and_a_used_up_plan_are_different_matters() -> None:
    play = Play()
    for code in ("1302", "1305", "1308"):
        for n in range(3):
            play.fail(10 + n / 10, fault(code, "rate_limit_error"))
            play.now = 10
    play.to(60)
    assert sorted(play.titles) == [
        "z.ai: concurrency limit (1302)",
        "z.ai: overloaded (1305)",
        "z.ai: usage window used up (1308)",
    ]


def test_a_used_up_plan_is_not_over_because_nobody_tries() -> None:
    play = Play()
    play.fail(10, fault("1308", reset_at=WALL + 2 * HOUR))
    assert [notice.update for notice in play.to(2 * HOUR - 1)] == [True] * 3
    (notice,) = play.to(2 * HOUR)
    assert notice.title == "z.ai: usable again"
    assert notice.priority == 3


def test_a_reset_time_that_has_passed_already_ends_nothing() -> None:
    play = Play()
    play.fail(10, fault("1308", reset_at=WALL - 7 * HOUR))
    play.to(HOUR)
    assert play.records[1].closed is None


# -- coming and going


def flap(play: Play, at: float) -> None:
    """An outage of 40 s that is told, and over after it."""
    for n in range(3):
        play.fail(at + n, fault())
    play.to(at + 35)
    play.answer(at + 40)
    play.answer(at + 41)


def test_three_openings_in_half_an_hour_are_unstable_and_silent_for_an_hour() -> None:
    play = Play()
    for n in range(40):
        flap(play, 10 + n * 90)
    loud = [(at, notice.title) for at, notice in play.pushed if notice.priority > 2]
    assert [title for _, title in loud] == ["z.ai: overloaded (1305)"] * 2 + ["z.ai: unstable (overloaded (1305))"]
    assert len({notice.sequence for _, notice in play.pushed}) == 1
    assert len(play.opened) == OPENINGS  # the rest is the third one's
    play.to(play.now + 2 * HOUR)
    assert play.titles[-1] == "z.ai: works again"
    assert play.opened == play.closed


def test_openings_far_apart_are_told_each_time() -> None:
    play = Play()
    for n in range(4):
        flap(play, 10 + n * 31 * MINUTE)
    assert [notice.title for _, notice in play.pushed if notice.priority > 2] == ["z.ai: overloaded (1305)"] * 4


def test_a_night_of_flapping_is_three_sounds_and_one_sequence() -> None:
    play = Play()
    rng = random.Random(7)
    while play.now < 8 * HOUR:
        at = play.now + rng.expovariate(1 / 8)
        if rng.random() < 0.75:
            play.fail(at, fault())
        else:
            play.answer(at)
    assert sum(notice.priority > 2 for _, notice in play.pushed) <= 3
    assert len({notice.sequence for _, notice in play.pushed}) == 1


# -- the network


def unreachable(play: Play, at: float, *upstreams: str) -> None:
    for n in range(3):
        for upstream in upstreams:
            play.fail(at + n, fault(None, "connect_failed", upstream=upstream))


def test_everything_failing_and_ntfy_too_is_one_incident_that_stands_for_the_others() -> None:
    play = Play()
    unreachable(play, 10, "default", "second", "third")
    assert len(play.to(45)) == 3
    said = play.do(Published(reached=False))
    assert titles(said) == ["claude-proxy: your network"]
    assert sorted(play.withdrawn) == sorted(notice.sequence for _, notice in play.pushed[:3])
    for at in (60, 300):
        unreachable(play, at, "default", "second", "third")
    assert play.to(10 * MINUTE) == []
    (back,) = play.answer(11 * MINUTE)
    assert back.title == "claude-proxy: your network: over"
    assert back.sequence == said[0].sequence
    assert "27 requests failed" in back.message
    assert sorted(play.opened) == sorted(play.closed)


def test_ntfy_alone_out_of_reach_is_no_incident() -> None:
    play = told()
    assert play.do(Published(reached=False)) == []
    assert play.withdrawn == []


def test_what_was_delivered_before_the_network_failed_is_not_taken_back() -> None:
    play = Play()
    unreachable(play, 10, "default")
    (notice,) = play.to(45)
    play.do(Published(reached=True, sequence=notice.sequence))
    assert play.do(Published(reached=False)) == []
    play.answer(60)
    assert titles(play.answer(61)) == ["z.ai: works again"]


def test_a_good_answer_makes_the_waiting_notices_go_now() -> None:
    play = Play()
    play.do(Published(reached=False))
    play.answer(10)
    play.answer(11)
    assert play.actions.count(Hurry()) == 1


def test_an_upstream_that_stays_away_when_the_network_is_back_is_told_for_itself() -> None:
    play = Play()
    unreachable(play, 10, "default", "second")
    play.to(45)
    play.do(Published(reached=False))
    play.do(Published(reached=True, sequence=play.pushed[-1][1].sequence))
    assert play.titles[-1] == "claude-proxy: your network: over"
    unreachable(play, 100, "second")
    assert titles(play.to(140)) == ["z.ai: not reachable"]


# -- the machine


@pytest.mark.parametrize("word", ["ledger_losing", "disk_low"])
def test_a_condition_is_told_when_it_begins_and_when_it_ends(word: str) -> None:
    play = Play()
    (begun,) = play.do(Condition(condition(word, "Numbers."), on=True))
    assert play.do(Condition(condition(word, "Other numbers."), on=True)) == []
    play.to(5 * HOUR)
    (over,) = play.do(Condition(condition(word, ""), on=False))
    assert begun.title.startswith("claude-proxy: ")
    assert over.title == f"{begun.title}: over"
    assert "It lasted 5 h." in over.message
    assert play.do(Condition(condition(word, ""), on=False)) == []


def test_a_crash_is_told_and_a_crash_loop_three_times() -> None:
    play = Play()
    for n in range(10):
        play.to(60.0 * n)
        play.restart()
        play.do(Happened(condition("crashed", "It was last seen at noon.")))
    assert play.titles == [
        "claude-proxy: was killed and has started again",
        "claude-proxy: was killed and has started again",
        "claude-proxy: killed 3 times within 30 minutes",
    ]
    assert play.opened == play.closed


def test_an_upstream_that_is_far_slower_than_usual_is_told() -> None:
    play = Play()
    for n in range(100):
        assert play.answer(n * 30.0, head=2.0) == []
    base = play.now + 700
    for n in range(20):
        play.answer(base + n * 60, head=25.0)
    assert play.titles == ["z.ai: unusually slow"]
    assert "took 25 s to begin; 2 s is usual" in play.pushed[0][1].message
    base = play.now
    for n in range(40):
        play.answer(base + n * 30, head=2.0)
    assert play.titles[-1] == "z.ai: unusually slow: over"


def test_answers_that_are_slow_but_usual_or_fast_but_slower_are_no_news() -> None:
    for usual, lately in ((20.0, 30.0), (0.5, 8.0)):
        play = Play()
        for n in range(100):
            play.answer(n * 30.0, head=usual)
        for n in range(40):
            play.answer(4000 + n * 30.0, head=lately)
        assert play.pushed == []


# -- the daily summary


def test_the_daily_summary_has_the_books_figures_and_what_was_hidden() -> None:
    play = Play(daily="15:00")
    for n in range(10):
        play.answer(10.0 + n, hidden=2)
    play.fail(30, fault("1308"))
    play.to(HOUR)
    (asked,) = [action for action in play.actions if isinstance(action, Summarise)]
    assert asked.until == WALL + 46 * MINUTE + 40  # 15:00 UTC
    (notice,) = play.figures(exchanges=12, failed=1, tokens=123_456, cost_usd=1.5)
    assert "Requests: 12, failed: 1." in notice.message
    assert "Failed attempts that a retry hid: 20." in notice.message
    assert "Tokens: 123,456." in notice.message
    assert "1.50 USD" in notice.message
    assert "usage window used up (1308)" in notice.message
    play.to(25 * HOUR)
    assert "Requests: 0, failed: 0." in play.figures()[0].message  # counted from the last one on


def test_without_the_books_the_summary_has_what_was_counted() -> None:
    play = Play(daily="15:00")
    play.answer(10)
    play.fail(30, fault())
    play.to(HOUR)
    (notice,) = play.figures()
    assert "Requests: 2, failed: 1." in notice.message
    assert "USD" not in notice.message


def test_a_daily_summary_comes_without_a_sound_whatever_the_least_priority() -> None:
    play = Play(daily="15:00", min_priority=5)
    play.fail(30, fault("1308"))
    play.to(HOUR)
    (notice,) = play.figures()
    assert notice.priority == 2


def test_nobody_who_has_not_asked_for_it_gets_a_daily_summary() -> None:
    play = Play()
    play.to(30 * HOUR)
    assert play.actions == []


# -- restarts and languages


def test_a_restart_in_the_middle_repeats_nothing_and_loses_nothing() -> None:
    play = Play()
    for n in range(3):
        play.fail(10 + n, fault())
        play.restart()
    assert len(play.to(45)) == 1
    play.restart()
    play.fail(60, fault())
    play.restart()
    play.answer(61)
    play.restart()
    assert titles(play.answer(62)) == ["z.ai: works again"]
    assert len(play.pushed) == 2
    assert play.opened == play.closed == [1]


def test_korean_notices_have_no_english_sentence() -> None:
    play = Play(language="ko", daily="15:00")
    flap(play, 10)
    for n in range(3):
        flap(play, 100 + 60.0 * n)
    play.fail(600, fault("1308", reset_at=WALL + 2 * HOUR))
    play.quota(700, 0.97)
    play.do(Condition(condition("disk_low", "1 MiB"), on=True))
    play.do(Condition(condition("disk_low", ""), on=False))
    play.to(3 * HOUR)
    play.do(Figures(WALL, WALL + HOUR, 5, 1, 3, 0.1))
    for _, notice in play.pushed:
        for text in (notice.title, *notice.message.splitlines()):
            assert re.search("[가-힣]", text) or text == "words" or "UTC" in text or "MiB" in text, text


@pytest.mark.parametrize("seed", range(6))
def test_an_hour_of_chaos_in_a_second_keeps_the_promises(seed: int) -> None:
    rng = random.Random(seed)
    play = Play()
    upstreams = ["default", "second", "third"]
    kinds = [*KINDS, *((code, "rate_limit_error") for code in STOPS)]
    failing = dict.fromkeys(upstreams, False)
    while play.now < HOUR:
        at = play.now + rng.expovariate(2.0)
        upstream = rng.choice(upstreams)
        failing[upstream] ^= rng.random() < 0.01
        if failing[upstream]:
            play.fail(at, fault(*rng.choice(kinds), upstream=upstream))
        else:
            play.answer(at, upstream=upstream)
        if rng.random() < 0.01:
            play.do(Published(reached=rng.random() < 0.7))
        if rng.random() < 0.005:
            play.restart()
    loud = [at for at, notice in play.pushed if notice.priority > 2]
    assert all(later - earlier > HOUR - 0.001 for earlier, later in zip(loud, loud[6:], strict=False)), f"seed {seed}"
    assert len(play.opened) == len(set(play.opened))
    assert len(play.closed) == len(set(play.closed))
    for (_, before), (_, after) in itertools.pairwise(sorted(play.pushed, key=lambda push: (push[1].sequence, push[0]))):
        assert before.sequence == after.sequence or not after.update, "an update of nothing"
