"""What z.ai's quota endpoint answers: how much of each window of a plan is used, by the provider's own count.

`GET /api/monitor/usage/quota/limit` lists windows in any order, each with a type: `TOKENS_LIMIT` (plans before 2026-07-30),
`CREDIT_LIMIT` (since), `TIME_LIMIT` (calls of the plan's tools). Types that are not known are kept and never counted as
the plan's. A window's length is `unit` (3: hours, 6: weeks, 5: months) times `number`; its place in the list and its reset
say nothing about it. `percentage` is floored (1438 of 12000 says 11), so the ratio comes from the amounts where there are any.
"""

from __future__ import annotations

import enum
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple, TypeGuard

import msgspec

MICRO = 1_000_000
_HOUR = 3600
_SPANS = {3: _HOUR, 6: 7 * 24 * _HOUR}  # a month's length is not known from its unit
_NAMES = {3: "h", 6: "week", 5: "month"}
_MAX_ANSWER = 256 * 1024
_MAX_LIMITS = 50
_MAX_AMOUNT = 10**15


class Meter(enum.StrEnum):
    """What a window counts."""

    CREDITS = "credits"
    TOKENS = "tokens"
    TOOL_CALLS = "tool-calls"
    OTHER = "other"


_METERS = {"CREDIT_LIMIT": Meter.CREDITS, "TOKENS_LIMIT": Meter.TOKENS, "TIME_LIMIT": Meter.TOOL_CALLS}


class QuotaUnreadable(ValueError):
    """The answer is not one of the quota endpoint's; the text says in what."""


class Window(NamedTuple):
    """One window of a plan. Amounts are millionths of what it counts (micro-credits for credits).

    Attributes:
        name: "5h", "week", "month", or unit and number where the unit is not known ("unit 9 x 2").
        type: as the provider writes it.
        allowance: None where the provider gives a percentage only, as `used` and `left` are then.
        ratio: used share, 0 to 1 and more; None if nothing says.
        seconds: length; None if not known.
        resets_at: Unix seconds; None if the provider does not say.
    """

    name: str
    meter: Meter
    type: str
    allowance: int | None
    used: int | None
    left: int | None
    ratio: float | None
    seconds: int | None
    resets_at: float | None

    @property
    def started(self) -> float | None:
        """Unix time at which the window began; None if it cannot be told."""
        return None if self.resets_at is None or self.seconds is None else self.resets_at - self.seconds


class Quota(NamedTuple):
    """All windows, in the order in which they came.

    Attributes:
        level: the plan's name ("pro"), if it was given.
    """

    level: str | None
    windows: tuple[Window, ...]

    @property
    def in_credits(self) -> bool:
        """Whether the plan is metered in credits; credits are shown only then."""
        return any(window.meter is Meter.CREDITS for window in self.windows)

    @property
    def plan(self) -> tuple[Window, ...]:
        """The windows of what models use: credits, or tokens where no window counts credits."""
        meter = Meter.CREDITS if self.in_credits else Meter.TOKENS
        return tuple(window for window in self.windows if window.meter is meter)

    def window(self, name: str) -> Window | None:
        """The plan's window of this name."""
        return next((window for window in self.plan if window.name == name), None)


_decode = msgspec.json.Decoder(float_hook=Decimal).decode


def parse(answer: bytes) -> Quota:
    """Read an answer of the quota endpoint.

    A window with fields of an unexpected kind keeps what can be read of it: a new kind of row must not hide the others.

    Raises:
        QuotaUnreadable: it is an error, or no such answer at all.
    """
    if len(answer) > _MAX_ANSWER:
        raise QuotaUnreadable(f"the quota answer has {len(answer)} bytes, more than {_MAX_ANSWER}")
    try:
        body = _decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise QuotaUnreadable("the quota answer is not JSON") from None
    body = body if isinstance(body, dict) else {}
    data = body.get("data")
    data = data if isinstance(data, dict) else {}
    limits = data.get("limits")
    if body.get("success") is False or body.get("code") not in (None, 200, "200") or not isinstance(limits, list):
        raise QuotaUnreadable(f"the provider reported no quota: {_said(body)}")
    level = data.get("level")
    windows = tuple(_window(limit) for limit in limits[:_MAX_LIMITS] if isinstance(limit, dict))
    return Quota(level[:40] if isinstance(level, str) and level else None, windows)


def _said(body: dict[str, Any]) -> str:
    message = body.get("msg") or body.get("message")
    words = message if isinstance(message, str) else "no data.limits in its answer"
    return "".join(c if c.isprintable() else " " for c in words[:200])


def _window(limit: dict[str, Any]) -> Window:
    kind = limit.get("type")
    kind = kind[:40] if isinstance(kind, str) else ""
    unit, number = limit.get("unit"), limit.get("number")
    allowance, used, left = _amounts(limit)
    reset = _amount(limit.get("nextResetTime"))
    return Window(
        name=_name(unit, number),
        meter=_METERS.get(kind, Meter.OTHER),
        type=kind,
        allowance=allowance,
        used=used,
        left=left,
        ratio=_ratio(allowance, used, _amount(limit.get("percentage"))),
        seconds=_SPANS[unit] * number if _is_count(unit) and unit in _SPANS and _is_count(number) else None,
        resets_at=float(reset) / 1000 if reset else None,
    )


def _name(unit: object, number: object) -> str:
    if not _is_count(unit) or unit not in _NAMES:
        return f"unit {str(unit)[:20]} x {str(number)[:20]}"
    if unit == 3:
        return f"{str(number)[:20]}h"
    return _NAMES[unit] if number in (1, None) else f"{str(number)[:20]} {_NAMES[unit]}s"


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1000


def _amounts(limit: dict[str, Any]) -> tuple[int | None, int | None, int | None]:
    """Allowance, used and left in millionths; each is worked out of the other two where it is missing."""
    allowance, used, left = (_micro(limit.get(name)) for name in ("usage", "currentValue", "remaining"))
    if not allowance:  # 0 is no allowance to use up
        return None, used, None
    if used is None and left is not None:
        used = max(0, allowance - left)
    if used is None:
        return allowance, None, None
    return allowance, used, max(0, allowance - used) if left is None else left


def _ratio(allowance: int | None, used: int | None, percentage: Decimal | None) -> float | None:
    if allowance and used is not None:
        return used / allowance
    return None if percentage is None else float(percentage / 100)


def _micro(value: object) -> int | None:
    amount = _amount(value)
    return None if amount is None else int((amount * MICRO).to_integral_value())


def _amount(value: object) -> Decimal | None:
    """A number from 0 to 10^15, also one written as a string; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal) or len(str(value)) > 40:
        return None
    try:
        amount = Decimal(value)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and 0 <= amount <= _MAX_AMOUNT else None
