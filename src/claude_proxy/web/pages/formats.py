"""Numbers, durations, sizes and money in the viewer's language. What is not known is a dash or is named, never shown as zero.

Times are not here: the server writes them in UTC and the browser puts them into the viewer's own zone (`page.js`).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from claude_proxy.web.texts import text

if TYPE_CHECKING:
    from claude_proxy.web.negotiation import Language

DASH = "–"


def count(number: float | None) -> str:
    """A number with thousands separators: "12,480"."""
    if number is None:
        return DASH
    return f"{number:,}" if isinstance(number, int) else f"{number:,.1f}"


def compact(number: float | None, language: Language = "en") -> str:
    """A number in at most five characters: "12.5k", "1.2M"; in Korean by ten thousands: "1.2만"."""
    if number is None:
        return DASH
    steps = ((10**8, "억"), (10**4, "만")) if language == "ko" else ((10**9, "B"), (10**6, "M"), (10**3, "k"))
    for step, unit in steps:
        if number >= step * 0.99995:
            amount = number / step
            return f"{amount:,.0f}{unit}" if amount >= 99.95 else f"{amount:.1f}".removesuffix(".0") + unit
    return f"{number:,.0f}"


def round_off(number: int) -> int:
    """An estimate to two digits, so that it does not look more exact than it is."""
    return round(number, 2 - len(str(number)))


def short(name: str, length: int = 8) -> str:
    """The beginning of an id; a name that is not much longer stays whole."""
    return name if len(name) <= length * 2 else f"{name[:length]}…"


def duration(ms: float | None, language: Language = "en") -> str:
    """A time span: "812 ms", "9.1 s", "2 min 5 s", "3 h 12 min", "2 d 4 h"."""
    if ms is None:
        return DASH
    if ms < 1000:
        return text(language, "shell.ms", n=f"{ms:.0f}")
    if ms < 59_950:
        return text(language, "shell.s", n=f"{ms / 1000:.1f}")
    seconds = round(ms / 1000)
    units = (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1))
    large, size, small, part = next(unit for unit in units if seconds >= unit[1] or unit[0] == "min")
    whole, rest = divmod(seconds, size)
    first = text(language, f"shell.{large}", n=whole)
    return f"{first} {text(language, f'shell.{small}', n=rest // part)}" if rest // part else first


def size(number: int | None) -> str:
    """Bytes: "812 B", "1.2 KiB"."""
    if number is None:
        return DASH
    amount, unit = float(number), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{number} B" if unit == "B" else f"{amount:.1f} {unit}"


def share(ratio: float | None) -> str:
    """A part of one as a percentage."""
    if ratio is None:
        return DASH
    return f"{ratio:.0%}" if ratio == 0 or ratio >= 0.01 else "<1%"


def dollars(amount: float) -> str:
    """An amount to the cent, below a cent to a hundredth of it."""
    if amount == 0 or abs(amount) >= 0.01:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if abs(amount) >= 0.0001 else "<$0.0001"


def cost(amount: float | None, unpriced: int = 0, *, estimated: bool = False, language: Language = "en") -> str:
    """The cost of one exchange or of sums.

    Args:
        amount: US dollars; None if nothing of it has a price.
        unpriced: exchanges of the sums that have no price, so that it is at least so much.
        estimated: whether it was derived from counts that the upstream has not confirmed.
    """
    if amount is None:
        return text(language, "shell.unpriced")
    mark = "≥ " if unpriced else "~" if estimated else ""
    return mark + dollars(amount)


def all_tokens(sums: dict[str, int | None]) -> int | None:
    """All tokens of a usage or of sums; None if nothing is known of them."""
    kinds = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    known = [number for kind in kinds if (number := sums[kind]) is not None]
    return sum(known) if known else None


def cached(sums: dict[str, int | None]) -> float | None:
    """The share of the prompt that was read from the cache, 0 to 1; None without a prompt."""
    read = sums["cache_read_input_tokens"] or 0
    prompt = read + (sums["input_tokens"] or 0) + (sums["cache_creation_input_tokens"] or 0)
    return read / prompt if prompt else None


def milliseconds(stamp: str) -> int:
    """Unix milliseconds of an RFC 3339 time."""
    return round(datetime.fromisoformat(stamp).timestamp() * 1000)
