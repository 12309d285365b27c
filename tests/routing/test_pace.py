"""Pauses after refusals, one careful request after them, and the cap on starts per minute."""

from __future__ import annotations

from random import Random

import pytest

from claude_proxy.routing import pace as rules
from claude_proxy.routing.limit import Lease
from claude_proxy.routing.pace import Pace

NOW = 1000.0


def pace() -> Pace:
    return Pace(Random(1))


def sent(pace: Pace, now: float) -> Lease:
    lease = Lease(1, now)
    pace.send(lease, now)
    return lease


def refused(pace: Pace, now: float, *, alone: bool = False, retry_after: float | None = None, delay: float | None = None) -> None:
    lease = sent(pace, now)
    lease.refused = True
    pace.concurrency(lease, now, alone=alone, retry_after=retry_after, delay=delay)


def pauses_of(one: Pace, count: int, *, alone: bool, delay: float | None) -> list[float]:
    """The lengths of the pauses after so many refusals in a row."""
    now, found = NOW, []
    for _ in range(count):
        refused(one, now, alone=alone, delay=delay)
        found.append(one.until - now)
        now = one.until
    return found


def about(seconds: list[float]) -> list[object]:
    return [pytest.approx(each, rel=rules.JITTER + 0.001) for each in seconds]


def test_nothing_is_in_the_way_at_first() -> None:
    assert pace().opens_at(NOW) is None


def test_a_refusal_pauses_for_about_a_second() -> None:
    one = pace()
    refused(one, NOW)
    opens = one.opens_at(NOW)
    assert opens is not None
    assert 0.8 <= opens - NOW <= 1.2


@pytest.mark.parametrize(
    ("delay", "alone", "lengths"),
    [
        pytest.param(0.02, False, [0.1, 0.2, 0.4, 0.8, 1, 1], id="beside others"),
        pytest.param(0.02, True, [0.1, 0.2, 0.4, 0.8, 1, 2, 4], id="alone"),
        pytest.param(0.3, False, [0.3, 0.6, 1, 1], id="a longer delay"),
        pytest.param(2.0, False, [1, 1], id="a long one"),
    ],
)
def test_the_pause_is_brief_at_first_if_a_late_slot_explains_the_refusal(delay: float, alone: bool, lengths: list[float]) -> None:
    assert pauses_of(pace(), len(lengths), alone=alone, delay=delay) == about(lengths)


def test_thousands_of_refusals_in_a_row_are_paused_for_as_any() -> None:
    one = pace()
    pauses_of(one, 5000, alone=False, delay=0.02)
    accepted = sent(one, one.until)
    one.head(accepted)
    now = one.until + 5
    refused(one, now, delay=0.02)
    assert [one.until - now] == about([0.4])


def test_after_an_accepted_request_the_next_brief_pause_is_shorter_but_not_the_shortest_at_once() -> None:
    one = pace()
    pauses_of(one, 4, alone=False, delay=0.02)  # the last of 0.8 s
    lengths = []
    for _ in range(3):
        accepted = sent(one, one.until)
        accepted.headed = True
        one.head(accepted)
        now = one.until + 5
        refused(one, now, delay=0.02)
        lengths.append(one.until - now)
    assert lengths == about([0.4, 0.2, 0.1])


def test_after_the_pause_one_request_at_a_time_until_a_head_comes() -> None:
    one = pace()
    refused(one, NOW)
    now = one.until
    assert one.opens_at(now) is None
    trial = sent(one, now)
    assert one.opens_at(now) == now + rules.CAREFUL
    trial.headed = True
    one.head(trial)
    assert one.opens_at(now) is None
    assert one.calm


def test_a_second_without_a_refusal_is_enough() -> None:
    one = pace()
    refused(one, NOW)
    now = one.until
    sent(one, now)
    assert one.opens_at(now + rules.CAREFUL) is None
    sent(one, now + rules.CAREFUL)
    assert one.opens_at(now + rules.CAREFUL) is None


def test_if_the_careful_request_is_cancelled_the_next_one_is_careful() -> None:
    one = pace()
    refused(one, NOW)
    now = one.until
    sent(one, now).ended_at = now
    assert one.opens_at(now) is None
    sent(one, now)
    assert one.opens_at(now) == now + rules.CAREFUL


def test_the_head_of_an_older_request_does_not_end_the_care() -> None:
    one = pace()
    old = sent(one, NOW - 5)
    refused(one, NOW)
    one.head(old)
    sent(one, one.until)
    assert one.opens_at(one.until) is not None


@pytest.mark.parametrize("kind", ["concurrency", "rate"])
def test_refusals_in_a_row_pause_for_longer_and_longer(kind: str) -> None:
    """With nothing in flight, the key is used elsewhere, or all is refused for a while."""
    one, now, pauses = pace(), NOW, []
    for _ in range(8):
        if kind == "rate":
            one.rate(sent(one, now), now, None)
        else:
            refused(one, now, alone=True)
        pauses.append(one.until - now)
        now = one.until
    for pause, expected in zip(pauses, (1, 2, 4, 8, 16, 30, 30, 30), strict=True):
        assert 0.8 * expected - 1e-6 <= pause <= 1.2 * expected + 1e-6


def test_an_accepted_request_ends_the_row() -> None:
    one, now = pace(), NOW
    for _ in range(4):
        refused(one, now, alone=True)
        now = one.until
    one.head(sent(one, now))
    refused(one, now, alone=True)
    assert one.until - now <= 1.2


def test_what_was_under_way_when_the_pause_began_does_not_prolong_it() -> None:
    one = pace()
    leases = [sent(one, NOW) for _ in range(20)]
    for index, lease in enumerate(leases):
        one.rate(lease, NOW + 0.01 * (index + 1), None)
    assert one.until <= NOW + 1.21
    assert one.cap == 19


@pytest.mark.parametrize("seconds", [0.0, 3.0, 59.0])
def test_retry_after_is_obeyed_and_not_capped(seconds: float) -> None:
    one = pace()
    one.rate(sent(one, NOW), NOW, seconds)
    assert one.until == NOW + seconds
    assert one.cap is None


def test_a_concurrency_refusal_with_retry_after_pauses_for_the_longer_time() -> None:
    one = pace()
    refused(one, NOW, retry_after=7.0)
    assert one.until == NOW + 7.0
    refused(one, one.until, retry_after=0.0)
    assert one.until > NOW + 7.5


def test_a_rate_refusal_caps_the_starts_per_minute() -> None:
    one, now = pace(), NOW
    for _ in range(4):
        lease = sent(one, now)
        now += 5
    one.rate(lease, now, None)
    assert one.cap == 3
    opens = one.opens_at(one.until)
    assert opens == NOW + 5 + rules.WINDOW, "the refused ones count too: two of the four have to be older than a minute"
    assert one.opens_at(opens) is None


def test_the_cap_rises_by_one_every_five_minutes() -> None:
    one = pace()
    one.rate(sent(one, NOW), NOW, None)
    assert one.cap == 1
    one.opens_at(NOW + 2 * rules.CAP_UP)
    assert one.cap == 3


def test_a_cap_above_everything_is_dropped() -> None:
    one = pace()
    one.rate(sent(one, NOW), NOW, None)
    assert one.opens_at(NOW + rules.MOST_STARTS * rules.CAP_UP) is None
    assert one.cap is None
