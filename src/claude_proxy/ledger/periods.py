"""Hours, days, weeks and months of a time zone, as spans of rollup buckets (quarter hours). Pure.

Every zone's offset has been a multiple of 15 minutes since 1972, so each of its days begins with a quarter hour of UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal, NamedTuple, TypeAlias, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

QUARTER = 900  # seconds
MAX_SPANS = 10_000

Period: TypeAlias = Literal["hour", "day", "week", "month"]
PERIODS: tuple[Period, ...] = get_args(Period)


class Span(NamedTuple):
    """A period's key, its first quarter hour, and the first one after it (Unix time divided by 900 s)."""

    key: str
    first: int
    end: int


def zone(name: str) -> tzinfo:
    """A time zone by its IANA name.

    Raises:
        ValueError: this system knows no zone of that name.
    """
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name[:60]!r} is not a time zone known here: expected one such as Asia/Seoul or UTC.") from None


def quarter(at: float) -> int:
    """The quarter hour of a Unix time."""
    return int(at // QUARTER)


def quarter_after(at: float) -> int:
    """The first quarter hour that begins at a Unix time or later."""
    return -int(-at // QUARTER)


def spans(period: Period, since: int, until: int, where: tzinfo) -> list[Span]:
    """The periods that touch a range of quarter hours, each cut to the range.

    Raises:
        ValueError: there are more than MAX_SPANS.
    """
    if since >= until:
        return []
    starts = _starts(period, since * QUARTER, where)
    key, first = next(starts)
    found: list[Span] = []
    for next_key, start in starts:
        found.append(Span(key, max(first, since), min(start, until)))
        if start >= until:
            return found
        if len(found) >= MAX_SPANS:
            raise ValueError(f"More than {MAX_SPANS} of {period}: choose a shorter time or a longer period.")
        key, first = next_key, start
    return found


def _starts(period: Period, at: int, where: tzinfo) -> Iterator[tuple[str, int]]:
    """The key and the first quarter hour of the period that holds a Unix time, and of those after it."""
    if period == "hour":
        yield from _hours(at, where)
        return
    floor, after, key = _CALENDAR[period]
    day = floor(datetime.fromtimestamp(at, where).date())
    while day.year < 9999:
        yield key(day), quarter(datetime(day.year, day.month, day.day, tzinfo=where).timestamp())
        day = after(day)


def _hours(at: int, where: tzinfo) -> Iterator[tuple[str, int]]:
    while True:
        local = datetime.fromtimestamp(at, where)
        at -= local.minute * 60 + local.second  # always later than the hour before, even where a zone shifts by half an hour
        yield datetime.fromtimestamp(at, where).isoformat(timespec="minutes"), quarter(at)
        at += 3600


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


_Calendar: TypeAlias = tuple[Callable[[date], date], Callable[[date], date], Callable[[date], str]]
_CALENDAR: dict[str, _Calendar] = {
    "day": (lambda day: day, lambda day: day + timedelta(days=1), date.isoformat),
    "week": (lambda day: day - timedelta(days=day.weekday()), lambda day: day + timedelta(days=7), date.isoformat),
    "month": (lambda day: day.replace(day=1), _next_month, lambda day: f"{day:%Y-%m}"),
}
