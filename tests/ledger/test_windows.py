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
HOUR = 3_600_000
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


def test_windows_that_were_reported_twice_do_not_count_anything_twice() -> None:
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


def usage(place: Place, **more: Any) -> dict[str, Any]:
    books = Books(place.engine(reading=True), timeout=20, wall=place.clock)
    return books.usage("window", until=NOW / 1000 + 30 * 3600, **more)


def windows(report: dict[str, Any]) -> list[tuple[str, str | None, str | None, int]]:
    return [(one["key"], one["upstream"], one["account"], one["exchanges"]) for one in report["groups"]]


def sampled(resets: float) -> Window:
    """The window of five hours that ends at a Unix time."""
    return Window("5h", Meter.CREDITS, "CREDIT_LIMIT", 12_000, 10, 11_990, 0.1, 5 * 3600, resets)


def hour(number: float, sign: str = "") -> str:
    """The key of a window that begins so many hours after NOW's quarter hour."""
    return sign + datetime.fromtimestamp(NOW // 1000 // Q * Q + number * 3600, UTC).isoformat(timespec="minutes")


@pytest.fixture
def two_plans(place: Place) -> Place:
    """Two accounts of one upstream, one of which is sampled, and another upstream; all work at the same time."""
    store = place.store()
    for account, hours in (("work", (0, 1, 4, 7)), ("home", (0, 2, 3))):
        write_all(store, [entry(NOW + number * HOUR, account=account, model=account) for number in hours])
    write_all(store, [entry(NOW + HOUR, upstream="other", account="work")])
    store.sample(Sample(NOW, "default", "work", (sampled(NOW / 1000 + 3 * 3600),)))
    store.close(0)
    return place


def test_each_account_has_windows_of_its_own(two_plans: Place) -> None:
    report = usage(two_plans)
    assert windows(report) == [
        (hour(-2), "default", "work", 2),
        (hour(0, "~"), "default", "home", 3),
        (hour(1, "~"), "other", "work", 1),
        (hour(4, "~"), "default", "work", 2),
    ]
    assert report["totals"]["exchanges"] == 8
    whole = usage(two_plans, breakdown=True)
    assert windows(whole) == windows(report)
    assert [[(part["model"], part["exchanges"]) for part in one["breakdown"]] for one in whole["groups"]] == [
        [("work", 2)], [("home", 3)], [("glm-5.3", 1)], [("work", 2)],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"account": "home"}, [(0, 3)]),
        ({"upstream": "other"}, [(1, 1)]),
        ({"account": "work", "upstream": "default"}, [(-2, 2), (4, 2)]),
        ({"account": "away"}, []),
        ({"model": "work"}, [(-2, 2), (4, 2)]),
    ],
)
def test_a_filter_scopes_the_windows(two_plans: Place, filters: dict[Any, str], found: list[tuple[int, int]]) -> None:
    report = usage(two_plans, filters=filters)
    assert [(key.lstrip("~"), count) for key, _, _, count in windows(report)] == [(hour(start), count) for start, count in found]
    assert report["totals"]["exchanges"] == sum(count for _, count in found)


@pytest.mark.parametrize("last", [1, 2, 9])
def test_the_last_windows_have_totals_of_their_own(two_plans: Place, last: int) -> None:
    report, whole = usage(two_plans, last=last), usage(two_plans)
    assert report["groups"] == whole["groups"][-last:]
    assert report["totals"]["exchanges"] == sum(one["exchanges"] for one in report["groups"])
    assert report["from"] == {1: hour(4), 2: hour(1), 9: hour(0)}[last][:16] + ":00+00:00"


def test_no_exchanges_make_no_windows(place: Place) -> None:
    place.store().close(0)
    report = Books(place.engine(reading=True), timeout=20, wall=place.clock).usage("window")
    assert report["groups"] == []


def test_too_many_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="More than 10000 windows"):
        cut([], range(0, 20 * 10_002, 20), 0, 2**40, UTC)
