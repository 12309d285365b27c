"""A plan's windows of five hours as groups: by the provider's word where there is one, else worked out."""

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.ledger.options import Sample
from claude_proxy.ledger.prices.quota import Meter, Window
from claude_proxy.ledger.queries import Books
from claude_proxy.ledger.windows import LENGTH, cut
from tests.ledger.books import NOW, entry, write_all
from tests.ledger.places import Place

Q = 900  # seconds
BASE = 1_988_888  # a quarter hour


def keys(starts: list[int], active: list[int], since: int = 0, until: int = 2**40) -> list[tuple[str, int, int]]:
    return [(span.key, span.first - BASE, span.end - BASE) for span in cut(starts, active, since, until, UTC)]


def key(quarter: int, sign: str = "") -> str:
    return sign + datetime.fromtimestamp((BASE + quarter) * Q, UTC).isoformat(timespec="minutes")


def test_a_window_begins_with_the_first_request_after_the_one_before() -> None:
    active = [BASE, BASE + 3, BASE + 19, BASE + 20, BASE + 50]
    assert keys([], active) == [(key(0, "~"), 0, 20), (key(20, "~"), 20, 40), (key(50, "~"), 50, 70)]


def test_what_the_provider_said_goes_before_what_is_worked_out() -> None:
    active = [BASE, BASE + 12, BASE + 29, BASE + 31]
    assert keys([BASE + 10], active) == [(key(0, "~"), 0, 10), (key(10), 10, 30), (key(31, "~"), 31, 51)]


def test_windows_of_two_accounts_do_not_count_anything_twice() -> None:
    assert keys([BASE, BASE + 8], [BASE + 1, BASE + 9]) == [(key(0), 0, 8), (key(8), 8, 28)]


def test_windows_are_cut_to_the_time_that_was_asked_for() -> None:
    assert keys([BASE], [BASE + 5, BASE + 6], BASE + 5, BASE + 7) == [(key(0), 5, 7)]


quarters = st.integers(BASE, BASE + 200)


@given(st.lists(quarters, max_size=8, unique=True), st.lists(quarters, min_size=1, max_size=60, unique=True))
def test_every_active_quarter_is_in_exactly_one_window(starts: list[int], active: list[int]) -> None:
    spans = cut(sorted(starts), sorted(active), BASE, BASE + 201, UTC)
    for bucket in active:
        assert sum(span.first <= bucket < span.end for span in spans) == 1
    for before, after in itertools.pairwise(spans):
        assert before.first < before.end <= after.first
    assert all(span.end - span.first <= LENGTH for span in spans)


def test_sums_by_window_add_up(place: Place) -> None:
    store = place.store()
    hour = 3_600_000
    write_all(store, [entry(NOW + number * hour) for number in range(0, 24, 2)])
    window = Window("5h", Meter.CREDITS, "CREDIT_LIMIT", 12_000, 10, 11_990, 0.1, 5 * 3600, NOW / 1000 + 8 * 3600)
    store.sample(Sample(NOW + 4 * hour, "default", None, (window,)))
    store.close(0)
    report = Books(place.engine(reading=True), timeout=20, wall=place.clock).usage("window", until=NOW / 1000 + 30 * 3600)
    groups: list[dict[str, Any]] = report["groups"]
    assert sum(group["exchanges"] for group in groups) == report["totals"]["exchanges"] == 12
    known = [group["key"] for group in groups if not group["key"].startswith("~")]
    start = (NOW // 1000 + 3 * 3600) // Q * Q
    assert known == [datetime.fromtimestamp(start, UTC).isoformat(timespec="minutes")]
    assert [group["exchanges"] for group in groups if group["key"] in known] == [2]  # after 4 and 6 h
    assert report["by"] == "window"


def test_no_exchanges_make_no_windows(place: Place) -> None:
    place.store().close(0)
    report = Books(place.engine(reading=True), timeout=20, wall=place.clock).usage("window")
    assert report["groups"] == []


def test_too_many_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="More than 10000 windows"):
        cut([], range(0, 20 * 10_002, 20), 0, 2**40, UTC)
