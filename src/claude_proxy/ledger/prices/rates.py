"""The arithmetic of prices, in integers: rates, context tiers, modes and peak hours.

A rate is a whole number of pico-dollars per token, so that $0.003625 per million tokens is the integer 3625. A factor is a
fraction of two integers. Everything is multiplied out first and divided once, at the end: the cost of an exchange is its exact
cost rounded to a nano-dollar, half to even. Sums over exchanges add integers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from claude_proxy.exchange import Usage

PICO_PER_NANO = 1000
_DAY = 86_400


class Factor(NamedTuple):
    """A fraction that amounts are multiplied by."""

    numerator: int
    denominator: int


ONE = Factor(1, 1)


class Tokens(NamedTuple):
    """The tokens of one exchange by the rate they are billed at."""

    input: int
    output: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int

    @property
    def prompt(self) -> int:
        """All tokens of the prompt, which is what context tiers go by."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h


def tokens(usage: Usage) -> Tokens:
    """The tokens that an upstream reported; what it left out counts as none.

    Writes without a lifetime are five-minute writes, as Claude Code prices them. Where the parts exceed the sum, the sum holds.
    """
    hour = usage.cache_write_1h or 0
    written = usage.cache_write or (usage.cache_write_5m or 0) + hour
    if hour > written:
        hour = written
    return Tokens(usage.input or 0, usage.output or 0, usage.cache_read or 0, written - hour, hour)


class Rates(NamedTuple):
    """Pico-dollars per token, in the order of `Tokens`. $1 per million tokens is 1,000,000."""

    input: int
    output: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int

    def cost(self, count: Tokens) -> int:
        """Pico-dollars for these tokens."""
        return (
            count.input * self.input
            + count.output * self.output
            + count.cache_read * self.cache_read
            + count.cache_write_5m * self.cache_write_5m
            + count.cache_write_1h * self.cache_write_1h
        )

    def scaled(self, factor: Factor) -> Rates:
        """These rates times a factor.

        Raises:
            ValueError: a rate would not be a whole number of pico-dollars.
        """
        if any(rate * factor.numerator % factor.denominator for rate in self):
            raise ValueError("the factor leaves fractions of a pico-dollar per token")
        return Rates(*(rate * factor.numerator // factor.denominator for rate in self))


class Tier(NamedTuple):
    """Rates for every token of an exchange whose prompt is longer than `above` tokens."""

    above: int
    rates: Rates


class Schedule(NamedTuple):
    """Peak hours of a provider, in a time zone without daylight saving.

    Attributes:
        utc_offset: seconds east of UTC.
        days: weekdays with peak hours, ascending; 0 is Monday.
        bounds: seconds from midnight at which peak hours begin, end, begin again ... ascending.
        holidays: days without peak hours, as days since 1970-01-01 in that zone, ascending.
        peak: factor inside peak hours.
        off_peak: factor outside of them.
    """

    utc_offset: int
    days: tuple[int, ...]
    bounds: tuple[int, ...]
    holidays: tuple[int, ...]
    peak: Factor
    off_peak: Factor

    def is_peak(self, at: float) -> bool:
        """Whether a Unix time lies in peak hours; they hold from their first second and end before their last."""
        day, second = divmod(int(at // 1) + self.utc_offset, _DAY)
        if (day + 3) % 7 not in self.days or day in self.holidays:  # 1970-01-01 was a Thursday
            return False
        return bisect_right(self.bounds, second) % 2 == 1

    def factor(self, at: float) -> Factor:
        """The factor in force at a Unix time."""
        return self.peak if self.is_peak(at) else self.off_peak


class Price(NamedTuple):
    """One price of one model, in force from `starts` until a later one of the same model starts.

    Attributes:
        id: names this price, and changes with any of its figures.
        starts: Unix seconds; 0 for always.
        tiers: ascending.
        speeds: factors by the usage's `speed`; a speed that is not listed has no known price.
        geos: factors by the usage's `inference_geo`; 1 for those not listed.
        web_search: nano-dollars for one search of the server's own tool; None if not known.
    """

    id: str
    starts: float
    rates: Rates
    tiers: tuple[Tier, ...] = ()
    speeds: Mapping[str, Factor] = MappingProxyType({"standard": ONE})
    geos: Mapping[str, Factor] = MappingProxyType({})
    schedule: Schedule | None = None
    web_search: int | None = None

    def rates_for(self, prompt: int) -> Rates:
        """The rates for a prompt of this many tokens."""
        rates = self.rates
        for tier in self.tiers:
            if prompt > tier.above:
                rates = tier.rates
        return rates

    def nano_dollars(self, usage: Usage, at: float) -> int | None:
        """The cost of an exchange.

        Factors apply to tokens; searches have one price, as Claude Code counts them.

        Args:
            usage: as the upstream reported it.
            at: Unix time at which the successful attempt was sent.

        Returns:
            Nano-dollars; None where a part of it has no known price.
        """
        count = tokens(usage)
        factor = self.factor(usage, at)
        searches = usage.web_searches or 0
        if factor is None or (searches and self.web_search is None):
            return None
        rates = self.rates if not self.tiers else self.rates_for(count.prompt)
        numerator, denominator = factor
        return rounded(rates.cost(count) * numerator, denominator * PICO_PER_NANO) + searches * (self.web_search or 0)

    def factor(self, usage: Usage, at: float) -> Factor | None:
        """What the rates are multiplied by: speed, geography, time of day. None for a speed without a known price."""
        numerator = denominator = 1
        if usage.speed is not None and usage.speed != "standard":
            speed = self.speeds.get(usage.speed)
            if speed is None:
                return None
            numerator, denominator = speed
        if self.geos and usage.inference_geo is not None:
            geo = self.geos.get(usage.inference_geo, ONE)
            numerator, denominator = numerator * geo[0], denominator * geo[1]
        if self.schedule is not None:
            now = self.schedule.factor(at)
            numerator, denominator = numerator * now[0], denominator * now[1]
        return Factor(numerator, denominator)


def rounded(numerator: int, denominator: int) -> int:
    """The fraction as a whole number, half to even. Not for negative numbers."""
    whole, rest = divmod(numerator, denominator)
    twice = 2 * rest
    return whole + 1 if twice > denominator or (twice == denominator and whole & 1) else whole
