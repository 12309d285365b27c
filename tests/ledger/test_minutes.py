"""What *Now* and *Upstreams* read: the last hour by the minute, errors by code, speeds by upstream, projects of sessions."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.exchange import Failure, Kind, Outcome
from claude_proxy.ledger.minutes import STEP, percentile
from claude_proxy.ledger.queries import Books
from tests.ledger.books import NOW, WALL, entry, write_all
from tests.ledger.places import Place

MINUTE = 60_000


@pytest.fixture
def books(place: Place) -> Books:
    place.store().close(0)
    return Books(place.engine(reading=True), timeout=20, wall=lambda: WALL)


def fill(place: Place, *entries: Any) -> None:
    store = place.store()
    write_all(store, list(entries))
    store.close(0)


def test_minutes_hold_what_began_in_them(place: Place, books: Books) -> None:
    failure = Failure("upstream", "overloaded_error", "Overloaded")
    fill(
        place,
        entry(NOW - 70 * MINUTE),
        entry(NOW - 5 * MINUTE, first_byte=0.1),
        entry(NOW - 5 * MINUTE + 1, first_byte=0.3),
        entry(NOW - 5 * MINUTE + 2, first_byte=9.0, failure=failure, status=529),
        entry(NOW - 5 * MINUTE + 3, kind=Kind.COUNT_TOKENS),
        entry(NOW, outcome=Outcome.CANCELLED, status=499, first_byte=None),
    )
    found = books.minutes(60)
    assert len(found["minutes"]) == 60
    assert [minute["at"] for minute in found["minutes"]][-1] == "2026-09-21T14:13:00.000Z"
    assert (found["exchanges"], found["failed"]) == (4, 1)
    busy = {minute["at"]: minute for minute in found["minutes"] if minute["exchanges"]}
    five = busy["2026-09-21T14:08:00.000Z"]
    assert (five["exchanges"], five["failed"]) == (3, 1)
    assert abs(five["first_byte_p50_ms"] - 300) <= STEP
    assert abs(five["first_byte_p95_ms"] - 9000) <= STEP
    assert busy["2026-09-21T14:13:00.000Z"]["first_byte_p50_ms"] is None, "a cancelled call had none"


def test_empty_books_have_empty_minutes(books: Books) -> None:
    found = books.minutes(3)
    assert [minute["exchanges"] for minute in found["minutes"]] == [0, 0, 0]
    assert found["first_byte_p50_ms"] is None
    assert books.errors(0) == []
    assert books.speeds(0) == {}
    assert books.projects(["session-1"]) == {}


@given(st.lists(st.integers(0, 100_000), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_right_to_the_step(times: list[int], share: float) -> None:
    steps: dict[int, int] = {}
    for ms in times:
        steps[ms // STEP] = steps.get(ms // STEP, 0) + 1
    found = percentile(steps, share)
    assert found is not None
    within = sum(ms // STEP * STEP <= found for ms in times)
    assert within >= share * len(times)
    assert found // STEP in steps


def test_errors_are_counted_by_upstream_and_code_and_the_last_one_is_named(place: Place, books: Books) -> None:
    burst = Failure("upstream", "rate_limit_error", "Too many", "1302")
    entries = [
        entry(NOW - 90_000_000, failure=burst, status=429),
        entry(NOW - 3000, failure=burst, status=429, upstream="second"),
        entry(NOW - 2000, failure=burst, status=429),
        entry(NOW - 1000, failure=burst, status=429),
        entry(NOW, outcome=Outcome.ABORTED, status=200),
        entry(NOW, outcome=Outcome.CANCELLED, status=499),
        entry(NOW),
    ]
    fill(place, *entries)
    found = books.errors(WALL - 86_400)
    assert [(one["outcome"], one["upstream"], one["provider_code"], one["count"]) for one in found] == [
        ("aborted", "default", None, 1),
        ("completed", "default", "1302", 2),
        ("completed", "second", "1302", 1),
    ]
    last = found[1]
    assert (last["kind"], last["status"], last["message"], last["side"]) == ("rate_limit_error", 429, "Too many", "upstream")
    assert last["last_at"] == "2026-09-21T14:13:19.000Z"
    assert books.exchange(last["last_id"]) is not None


def test_speeds_are_by_upstream(place: Place, books: Books) -> None:
    fill(
        place,
        entry(NOW, first_byte=0.2),
        entry(NOW, first_byte=0.2, status=500),
        entry(NOW, first_byte=4.0, upstream="second"),
        entry(NOW, upstream=None),
        entry(NOW - 7_200_000),
    )
    found = books.speeds(WALL - 3600)
    assert {name: (one["exchanges"], one["failed"]) for name, one in found.items()} == {
        "default": (2, 1),
        "second": (1, 0),
        "": (1, 0),
    }
    assert abs(found["second"]["first_byte_p50_ms"] - 4000) <= STEP


def test_projects_are_found_by_session(place: Place, books: Books) -> None:
    one, two = entry(NOW, session="a"), entry(NOW, session="b")
    one.record = msgspec.structs.replace(one.record, project="checkout")
    fill(place, one, two)
    assert books.projects(["a", "b", "nobody"]) == {"a": "checkout"}
