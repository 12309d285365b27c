"""Formats numbers and times for people. An unknown value is never shown as zero."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Any

UNPRICED = "unpriced"
LIST_PRICES = "Costs are API list prices, not a bill."


def count(number: int | float | None) -> str:
    """A number with thousands separators; `-` if it is not known."""
    if number is None:
        return "-"
    return f"{number:,}" if isinstance(number, int) else f"{number:,.1f}"


def exchanges(number: int) -> str:
    """A number of exchanges, in words."""
    return f"{number:,} exchange{'' if number == 1 else 's'}"


def dollars(amount: float) -> str:
    """An amount rounded to the cent; below a cent, to two significant digits."""
    if amount == 0 or abs(amount) >= 0.01:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if abs(amount) >= 0.0001 else f"${Decimal(f'{amount:.2g}'):f}"


def cost(sums: Mapping[str, Any]) -> str:
    """The cost of sums or of one exchange; with `≥` if some of the exchanges have no price."""
    amount = sums["cost_usd"]
    if amount is None:
        return UNPRICED
    return f"≥ {dollars(amount)}" if sums.get("unpriced_exchanges") else dollars(amount)


def tokens(sums: Mapping[str, Any]) -> int:
    """The total number of tokens."""
    kinds = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return sum(sums[kind] or 0 for kind in kinds)


def seconds(ms: int | None) -> str:
    """A duration, in a unit from milliseconds to hours."""
    if ms is None:
        return "-"
    if ms < 1000:
        return f"{ms} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    minutes, rest = divmod(round(ms / 1000), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(number: int) -> str:
    """A number of bytes, in a suitable unit."""
    amount, unit = float(number), "bytes"
    for larger in ("KiB", "MiB", "GiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{number} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"


def clock(stamp: str, where: tzinfo, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """An RFC 3339 time, converted to a time zone."""
    return datetime.fromisoformat(stamp).astimezone(where).strftime(form)


def span(report: Mapping[str, Any]) -> str:
    """The time of a report, such as "2026-11-28 00:00 to 2026-11-29 03:30, Asia/Seoul"."""
    begin, end = (report[name][:16].replace("T", " ") for name in ("from", "to"))
    return f"{begin} to {end}, {report['timezone']}"


def of_filters(filters: Mapping[str, str]) -> str:
    """Filters in words, such as "of model glm-5.3 and without agent ", with a space at the end; empty without filters."""
    words = [f"of {name} {text!r}" if text else f"without {name}" for name, text in filters.items()]
    return f"{' and '.join(words)} " if words else ""


def named(text: str | None) -> str:
    """A name; `(none)` if there is none."""
    return "(none)" if text is None else text
