"""Hours, days, weeks and months of time zones, in quarter hours."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.ledger.periods import MAX_SPANS, PERIODS, Period, quarter, quarter_after, spans, zone

FIRST = quarter(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
ZONES = [
    "UTC",
    "Asia/Seoul",
    "Asia/Kathmandu",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Havana",
    "Africa/Cairo",
    "Asia/Beirut",
]


def at(text: str, name: str = "UTC") -> int:
    return quarter(datetime.fromisoformat(text).replace(tzinfo=zone(name)).timestamp())


def local(period: Period, since: str, until: str, name: str) -> list[tuple[str, int]]:
    """Each period's key and its length in quarter hours."""
    return [(span.key, span.end - span.first) for span in spans(period, at(since, name), at(until, name), zone(name))]


@pytest.mark.parametrize("name", ["UTC", "Asia/Seoul", "Asia/Kathmandu"])
def test_a_day_begins_at_local_midnight(name: str) -> None:
    assert local("day", "2026-09-20T00:00", "2026-09-22T00:00", name) == [("2026-09-20", 96), ("2026-09-21", 96)]


def test_a_day_of_kathmandu_begins_at_a_quarter_past_six_in_utc() -> None:
    (span,) = spans("day", at("2026-09-20T18:15"), at("2026-09-21T18:15"), zone("Asia/Kathmandu"))
    assert span.key == "2026-09-21"


@pytest.mark.parametrize(
    ("name", "day", "quarters"),
    [
        ("America/New_York", "2026-03-08", 92),
        ("America/New_York", "2026-11-01", 100),
        ("Australia/Lord_Howe", "2026-04-05", 98),
        ("Australia/Lord_Howe", "2026-10-04", 94),
        ("Africa/Cairo", "2026-04-24", 92),  # midnight itself is skipped
        ("America/Havana", "2026-11-01", 100),  # midnight comes twice
    ],
)
def test_a_day_on_which_clocks_change_has_its_own_length(name: str, day: str, quarters: int) -> None:
    after = (datetime.fromisoformat(day) + timedelta(days=1)).isoformat()
    assert local("day", day + "T00:00", after, name) == [(day, quarters)]


def test_weeks_begin_on_monday_and_months_on_their_first() -> None:
    assert local("week", "2026-09-19T00:00", "2026-09-29T00:00", "Asia/Seoul") == [
        *(("2026-09-14", 2 * 96), ("2026-09-21", 7 * 96), ("2026-09-28", 96)),
    ]
    assert local("month", "2026-01-31T00:00", "2026-03-02T00:00", "Asia/Seoul") == [
        *(("2026-01", 96), ("2026-02", 28 * 96), ("2026-03", 96)),
    ]


def test_hours_are_the_zones_own_also_where_they_begin_at_a_quarter() -> None:
    assert local("hour", "2026-09-20T00:30", "2026-09-20T02:00", "Asia/Kathmandu") == [
        *(("2026-09-20T00:00+05:45", 2), ("2026-09-20T01:00+05:45", 4)),
    ]


def test_the_hour_that_comes_twice_is_two() -> None:
    assert local("hour", "2026-11-01T01:00", "2026-11-01T03:00", "America/New_York") == [
        *(("2026-11-01T01:00-04:00", 4), ("2026-11-01T01:00-05:00", 4), ("2026-11-01T02:00-05:00", 4)),
    ]


@given(st.sampled_from(PERIODS), st.integers(0, 300_000), st.integers(1, 9000), st.sampled_from(ZONES))
def test_periods_cover_a_time_without_gap_or_overlap(period: Period, start: int, length: int, name: str) -> None:
    since, until = FIRST + start, FIRST + start + length
    found = spans(period, since, until, zone(name))
    assert (found[0].first, found[-1].end) == (since, until)
    assert all(one.end == other.first for one, other in pairwise(found))
    assert all(span.first < span.end for span in found)
    assert len({span.key for span in found}) == len(found)


@given(st.sampled_from(ZONES), st.integers(0, 300_000))
def test_every_quarter_hour_is_in_the_day_of_its_local_date(name: str, start: int) -> None:
    number = FIRST + start
    (span,) = spans("day", number, number + 1, zone(name))
    assert span.key == f"{datetime.fromtimestamp(number * 900, zone(name)):%Y-%m-%d}"


def test_every_zones_day_begins_with_a_quarter_hour() -> None:
    for name in sorted(available_timezones() - {"localtime", "posixrules"}):
        for month in (1, 7):
            assert datetime(2026, month, 1, tzinfo=ZoneInfo(name)).timestamp() % 900 == 0, name


@pytest.mark.parametrize("name", ["Asia/Pyeongyang", "", "../../etc/passwd", "/etc/localtime", "Asia\0Seoul", "x" * 200])
def test_a_zone_that_is_none_is_a_sentence(name: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone known here: expected one such as Asia/Seoul"):
        zone(name)


def test_no_time_has_no_periods() -> None:
    assert spans("day", FIRST, FIRST, UTC) == []


def test_too_many_periods_are_refused() -> None:
    with pytest.raises(ValueError, match="choose a shorter time or a longer period"):
        spans("hour", FIRST, FIRST + 4 * (MAX_SPANS + 5), UTC)


@pytest.mark.parametrize(("second", "floor", "ceiling"), [(0, 0, 0), (1, 0, 1), (899.5, 0, 1), (900, 1, 1)])
def test_a_time_is_taken_to_the_quarter_hours_around_it(second: float, floor: int, ceiling: int) -> None:
    assert (quarter(second), quarter_after(second)) == (floor, ceiling)
