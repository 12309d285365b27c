"""Parses times as people write them: `7d`, `yesterday`, `2026-11-01`, `2026-11-01T10:00+09:00`. Pure."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo

from claude_proxy.ledger.periods import Period

_AGO = re.compile(r"(\d{1,5})([hdw])", re.ASCII)
_MONTH = re.compile(r"\d{4}-\d\d", re.ASCII)
_UNQUOTED_PLUS = re.compile(r"(?<=\d) (?=\d\d:?\d\d$)")  # in a URL's query an unquoted "+" means a space
_YEARS = range(1970, 9990)


def moment(text: str, where: tzinfo, now: float, *, end: bool = False) -> float:
    """The Unix time that a text names.

    Args:
        text: `24h` is so many hours before now. `7d` and `2w` begin with a day: today and the six before it. A day is `today`,
            `yesterday` or `2026-11-01`, a month `2026-11`; a time is written as in ISO 8601, in `where` if it names no offset.
        where: the time zone whose days are meant.
        now: Unix seconds.
        end: a day or month means its end, as in "until yesterday".

    Raises:
        ValueError: a sentence that says what was expected.
    """
    try:
        return _moment(text.strip(), where, now, end)
    except (ValueError, OverflowError):
        shown = text[:40]
        raise ValueError(
            f"{shown!r} is not a time known here: expected one such as 7d, 24h, 2026-11-01, 2026-11 or 2026-11-01T10:00+09:00."
        ) from None


def _moment(text: str, where: tzinfo, now: float, end: bool) -> float:
    today = datetime.fromtimestamp(now, where).date()
    ago = _AGO.fullmatch(text.lower())
    if ago is not None and ago[2] == "h":
        return max(0.0, now - int(ago[1]) * 3600)
    if ago is not None:
        days = int(ago[1]) * (7 if ago[2] == "w" else 1)
        return _midnight(today - timedelta(days=max(0, days - 1)), where)
    if text.lower() == "now":
        return now
    if text.lower() in ("today", "yesterday"):
        day = today if text.lower() == "today" else today - timedelta(days=1)
        return _midnight(day + timedelta(days=int(end)), where)
    if _MONTH.fullmatch(text):
        first = date.fromisoformat(f"{text}-01")
        return _midnight((first + timedelta(days=32)).replace(day=1) if end else first, where)
    return _iso(text, where, end)


def _iso(text: str, where: tzinfo, end: bool) -> float:
    if len(text) in (8, 10):
        day = date.fromisoformat(text)
        return max(_midnight(day, where), _midnight(day + timedelta(days=int(end)), where))
    at = datetime.fromisoformat(_UNQUOTED_PLUS.sub("+", text))
    if at.year not in _YEARS:
        raise ValueError(text)
    return (at if at.tzinfo is not None else at.replace(tzinfo=where)).timestamp()


def check_order(since: float | None, until: float | None) -> None:
    """Check that a time is not empty.

    Raises:
        ValueError: a sentence; `until` is not after `since`.
    """
    if since is not None and until is not None and until <= since:
        raise ValueError("until is not after since, so there is no time between them.")


def last(period: Period, count: int, where: tzinfo, now: float) -> float:
    """The Unix time at which the last `count` periods begin, the running one included.

    Raises:
        ValueError: they reach back before 1970.
    """
    local = datetime.fromtimestamp(now, where)
    back = count - 1
    try:
        if period == "hour":
            return now - local.minute * 60 - local.second - local.microsecond / 1e6 - back * 3600
        if period == "month":
            month = local.year * 12 + local.month - 1 - back
            return _midnight(date(month // 12, month % 12 + 1, 1), where)
        day = local.date() - timedelta(days=local.weekday() if period == "week" else 0)
        return _midnight(day - timedelta(days=back * (7 if period == "week" else 1)), where)
    except (ValueError, OverflowError):
        raise ValueError(f"The last {count} of {period} reach back too far.") from None


def _midnight(day: date, where: tzinfo) -> float:
    if day.year not in _YEARS:
        raise ValueError(day.isoformat())
    return datetime(day.year, day.month, day.day, tzinfo=where).timestamp()


def spoken(at: float, where: tzinfo = UTC) -> str:
    """A Unix time as ISO 8601 with its offset, to the second."""
    return datetime.fromtimestamp(at, where).isoformat(timespec="seconds")
