"""Plan credits: what an exchange takes from a z.ai plan, what was spent elsewhere, and when the plan will be empty.

z.ai's plans are metered in credits since 2026-07-30: `credits = (input * a + cached * b + output * c) / 10,000`, with
coefficients per model, half of it outside peak hours. The coefficients and their dates stand in `prices.toml`; a model
without any has no known credits. Amounts are whole micro-credits. Everything here is pure: `now` is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from claude_proxy.exchange import Usage
from claude_proxy.ledger.prices.quota import Window
from claude_proxy.ledger.prices.rates import Schedule, rounded, tokens

BURN_SPAN = 30 * 60
_HOUR = 3600


class CreditRate(NamedTuple):
    """Micro-credits per token of one model.

    Attributes:
        starts: Unix seconds from which it is in force.
        input: also for tokens written to the cache.
        cached: for tokens read from the cache.
    """

    starts: float
    input: int
    cached: int
    output: int
    schedule: Schedule

    def micro_credits(self, usage: Usage, at: float) -> int:
        """Credits for an exchange sent at a Unix time, in millionths, rounded half to even."""
        count = tokens(usage)
        new = count.input + count.cache_write_5m + count.cache_write_1h
        amount = new * self.input + count.cache_read * self.cached + count.output * self.output
        numerator, denominator = self.schedule.factor(at)
        return rounded(amount * numerator, denominator)


class Spent(NamedTuple):
    """A moment at which we counted credits."""

    at: float
    micro_credits: int


class Empty(NamedTuple):
    """The window that will be used up first, before it resets.

    Attributes:
        at: Unix time at which nothing is left of it, at the present burn rate.
    """

    window: Window
    at: float


def spent_outside(reported: int, ours: int) -> int:
    """What the plan was charged for outside of this proxy.

    Args:
        reported: micro-credits used in a window, by the provider's count (`Window.used`).
        ours: micro-credits that we counted since that window began (`Window.started`).

    Returns:
        The difference; 0 while the provider's count is behind ours, as it is updated late.
    """
    return max(0, reported - ours)


def burn_rate(spent: Iterable[Spent], now: float, span: float = BURN_SPAN) -> int:
    """Micro-credits per hour, from those of the last `span` seconds (those at `now - span` are out, at `now` in)."""
    recent = sum(one.micro_credits for one in spent if now - span < one.at <= now)
    return rounded(recent * _HOUR, int(span))


def time_to_empty(windows: Iterable[Window], per_hour: int, now: float) -> Empty | None:
    """The window that binds first: used up at this rate, before its own reset and before every other.

    Args:
        windows: those of the plan's tokens or credits (`Quota.plan`), in any order.
        per_hour: micro-credits per hour, from `burn_rate`.
        now: Unix time.

    Returns:
        None if every window resets before it is used up, or nothing is being spent, or the amounts are not known.
    """
    ends = [Empty(window, at) for window in windows if (at := _empty_at(window, per_hour, now)) is not None]
    return min(ends, key=lambda end: end.at, default=None)


def _empty_at(window: Window, per_hour: int, now: float) -> float | None:
    if window.left is None:
        return None
    if window.left == 0:
        return now
    if per_hour <= 0:
        return None
    at = now + window.left * _HOUR / per_hour
    return None if window.resets_at is not None and at >= window.resets_at else at
