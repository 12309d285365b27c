"""When failures take an account out, for how long, and how many hidden retries it may cost."""

from __future__ import annotations

from random import Random

import pytest

from claude_proxy.routing import ejection as rules
from claude_proxy.routing.ejection import Bucket, Ejection

NOW = 1000.0


def ejected(ejection: Ejection, now: float) -> float:
    """Fail until it is out; returns when that happened."""
    for _ in range(100):
        now += 0.5
        if ejection.failure(now, now):
            return now
    raise AssertionError("it was never ejected")


def test_five_failures_in_a_row_over_two_seconds() -> None:
    ejection = Ejection(Random(1))
    assert [ejection.failure(NOW + second, NOW + second) for second in (0, 0.5, 1, 1.5)] == [False] * 4
    assert ejection.failure(NOW + 2, NOW + 2)
    assert 9 <= ejection.until - (NOW + 2) <= 11


def test_many_at_once_are_one_event() -> None:
    ejection = Ejection(Random(1))
    assert not any(ejection.failure(NOW, NOW + 0.01 * index) for index in range(25))


def test_of_many_parallel_failures_only_one_ejects() -> None:
    ejection = Ejection(Random(1))
    out = [ejection.failure(NOW, NOW + 0.2 * index) for index in range(25)]
    assert out.count(True) == 1
    assert ejection.times == 1


def test_a_success_between_ends_the_row() -> None:
    ejection = Ejection(Random(1))
    for second in range(20):
        assert not ejection.failure(NOW + second, NOW + second)
        if second % 4 == 3:
            ejection.success(NOW + second)


def test_each_time_out_is_longer_up_to_five_minutes() -> None:
    ejection, now, outs = Ejection(Random(1)), NOW, []
    for _ in range(35):
        now = ejected(ejection, now)
        outs.append(ejection.until - now)
        now = ejection.until
    assert outs == sorted(outs) or all(out >= 0.9 * 10 * (index + 1) for index, out in enumerate(outs[:30]))
    assert 18 <= outs[1] <= 22
    assert max(outs) <= 330


def test_the_first_request_after_a_return_decides() -> None:
    ejection = Ejection(Random(1))
    ejected(ejection, NOW)
    back = ejection.until + 1
    assert ejection.failure(back, back)
    assert ejection.times == 2
    back = ejection.until + 1
    ejection.success(back)
    assert not ejection.returning
    assert not ejection.failure(back, back)


def test_a_later_failure_never_shortens_a_time_out() -> None:
    ejection = Ejection(Random(1))
    now = ejected(ejection, NOW)
    ejection.until = now + 250
    ejected(ejection, now)
    assert ejection.until == now + 250


@pytest.mark.parametrize(("minutes", "left"), [(0.5, 3), (1, 2), (2.5, 1), (60, 0)])
def test_quiet_minutes_take_ejections_back(minutes: float, left: int) -> None:
    ejection, now = Ejection(Random(1)), NOW
    for _ in range(3):
        now = ejected(ejection, now)
        ejection.success(now)
        ejection.until = now
    ejection.failure(now + minutes * rules.QUIET, now + minutes * rules.QUIET)
    assert ejection.times == left


def test_the_bucket_allows_five_hidden_retries_and_then_needs_successes() -> None:
    bucket = Bucket()
    for _ in range(5):
        assert bucket.open
        bucket.take()
    assert not bucket.open
    bucket.success()
    assert bucket.open
    bucket.take()
    for _ in range(9):
        assert not bucket.open
        bucket.success()
    assert not bucket.open or bucket.tokens > Bucket.CLOSED
    for _ in range(1000):
        bucket.success()
    assert bucket.tokens == Bucket.FULL
