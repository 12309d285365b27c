"""Times as people write them, in the days of their own time zone."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from claude_proxy.ledger.when import last, moment, spoken

SEOUL, KATHMANDU, NEW_YORK = ZoneInfo("Asia/Seoul"), ZoneInfo("Asia/Kathmandu"), ZoneInfo("America/New_York")
UTC = ZoneInfo("UTC")


def at(text: str, zone: ZoneInfo = UTC) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


NOW = at("2026-11-28T15:30:10")  # a Saturday; in Seoul it is Sunday already


@pytest.mark.parametrize(
    ("text", "zone", "start", "end"),
    [
        ("7d", UTC, "2026-11-22T00:00", None),
        ("1d", UTC, "2026-11-28T00:00", None),
        ("7d", SEOUL, "2026-11-23T00:00", None),
        ("2w", KATHMANDU, "2026-11-15T00:00", None),
        ("24h", SEOUL, "2026-11-28T00:30:10", None),
        ("now", SEOUL, "2026-11-29T00:30:10", None),
        ("today", SEOUL, "2026-11-29T00:00", "2026-11-30T00:00"),
        ("yesterday", UTC, "2026-11-27T00:00", "2026-11-28T00:00"),
        ("2026-11-01", KATHMANDU, "2026-11-01T00:00", "2026-11-02T00:00"),
        ("20261101", UTC, "2026-11-01T00:00", "2026-11-02T00:00"),
        ("2026-10", SEOUL, "2026-10-01T00:00", "2026-11-01T00:00"),
        ("2026-12", SEOUL, "2026-12-01T00:00", "2027-01-01T00:00"),
        ("2026-11-01T10:20", KATHMANDU, "2026-11-01T10:20", None),
        (" Yesterday ", UTC, "2026-11-27T00:00", "2026-11-28T00:00"),
    ],
)
def test_a_time_is_that_of_the_zone(text: str, zone: ZoneInfo, start: str, end: str | None) -> None:
    assert moment(text, zone, NOW) == at(start, zone)
    assert moment(text, zone, NOW, end=True) == at(end or start, zone)


@pytest.mark.parametrize(
    "text", ["2026-11-01T10:00+09:00", "2026-11-01T10:00 09:00", "2026-11-01T01:00:00Z", "2026-11-01T10:00 0900"]
)
def test_an_offset_goes_before_the_zone(text: str) -> None:
    """A "+" that nobody quoted arrives as a space in a URL's query."""
    assert moment(text, KATHMANDU, NOW) == at("2026-11-01T01:00")


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-08", 23), ("2026-11-01", 25), ("2026-07-01", 24)], ids=["spring", "autumn", "summer"]
)
def test_a_day_is_as_long_as_the_clock_makes_it(day: str, hours: int) -> None:
    assert moment(day, NEW_YORK, NOW, end=True) - moment(day, NEW_YORK, NOW) == hours * 3600


@pytest.mark.parametrize(
    "text",
    ["", "soon", "7", "d", "-7d", "7m", "2026-13", "2026-02-30", "2026-11-01T25:00", "0001-01-01", "9999-12-31", "99999d",
     "999999d", "٧d", "1969-12-31", "2026-11-01T10:00+99:00", "\x00", "1" * 5000],
)  # fmt: skip
@pytest.mark.parametrize("end", [False, True])
def test_what_is_no_time_is_said(text: str, end: bool) -> None:
    with pytest.raises(ValueError, match="is not a time known here: expected one such as 7d, 24h") as caught:
        moment(text, UTC, NOW, end=end)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("period", "count", "zone", "start"),
    [
        ("day", 1, UTC, "2026-11-28T00:00"),
        ("day", 7, SEOUL, "2026-11-23T00:00"),
        ("week", 1, UTC, "2026-11-23T00:00"),
        ("week", 1, SEOUL, "2026-11-23T00:00"),
        ("week", 3, UTC, "2026-11-09T00:00"),
        ("month", 1, KATHMANDU, "2026-11-01T00:00"),
        ("month", 12, UTC, "2025-12-01T00:00"),
        ("month", 11, UTC, "2026-01-01T00:00"),
        ("hour", 1, KATHMANDU, "2026-11-28T21:00"),
        ("hour", 24, UTC, "2026-11-27T16:00"),
    ],
)
def test_the_last_periods_include_the_running_one(period: str, count: int, zone: ZoneInfo, start: str) -> None:
    assert last(period, count, zone, NOW) == pytest.approx(at(start, zone))  # type: ignore[arg-type]


@pytest.mark.parametrize("period", ["day", "week", "month"])
def test_periods_before_1970_are_refused(period: str) -> None:
    with pytest.raises(ValueError, match=f"The last 100000000 of {period} reach back too far"):
        last(period, 100_000_000, UTC, NOW)  # type: ignore[arg-type]


def test_a_time_is_spoken_with_its_offset() -> None:
    assert spoken(NOW, KATHMANDU) == "2026-11-28T21:15:10+05:45"
