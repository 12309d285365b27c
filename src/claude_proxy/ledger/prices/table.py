"""The price table: which price a provider's model had at a time, and what an exchange cost by it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from claude_proxy.exchange import Usage
from claude_proxy.ledger.prices.plan import CreditRate
from claude_proxy.ledger.prices.priced import UNPRICED, Priced, Provenance
from claude_proxy.ledger.prices.rates import PICO_PER_NANO, Factor, Price, Schedule, rounded, tokens

# A dated snapshot of a model costs what the model costs: claude-haiku-4-5-20251001, claude-haiku-4-5@20251001.
_DATED = re.compile(r"[-@]20\d{6}$", re.ASCII)
_MEMORY = 1000  # names that clients choose are remembered up to this many

_Row = TypeVar("_Row", Price, CreditRate)
Key = tuple[str, str]
"""Provider and model, the model in lower case."""


class Provider(NamedTuple):
    """What holds for all models of a provider; see `Price`."""

    web_search: int | None
    geos: Mapping[str, Factor]


class Rows(NamedTuple):
    """What a price file says.

    Attributes:
        hosts: the provider that a host name belongs to.
        providers, schedules: by name.
        prices: per model, the latest first.
        credits: coefficients of plan credits per model, the latest first.
    """

    hosts: Mapping[str, str]
    providers: Mapping[str, Provider]
    schedules: Mapping[str, Schedule]
    prices: Mapping[Key, tuple[Price, ...]]
    credits: Mapping[Key, tuple[CreditRate, ...]]

    def overlaid(self, other: Rows) -> Rows:
        """These rows with those of `other` in the place of those for the same host or model."""
        return Rows(
            {**self.hosts, **other.hosts},
            {**self.providers, **other.providers},
            {**self.schedules, **other.schedules},
            {**self.prices, **other.prices},
            {**self.credits, **other.credits},
        )


class Prices:
    """Looks prices up and applies them; 2 to 3 us each. Threads may share it.

    Model names match exactly, but for case and for the date of a snapshot; a name that merely begins like a known one has no
    price.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._plans = frozenset(provider for provider, _ in rows.credits)
        self._prices: dict[Key, tuple[Price, ...]] = {}  # by the names that were asked for, as `_rates`
        self._rates: dict[Key, tuple[CreditRate, ...]] = {}
        self._providers: dict[str, str | None] = {}  # by the host names that were asked for

    def provider_of(self, host: str) -> str | None:
        """The provider behind an upstream's host name (without port); None if its prices are not known."""
        if host not in self._providers:
            _make_room(self._providers)
            self._providers[host] = self.rows.hosts.get(host.lower().rstrip("."))
        return self._providers[host]

    def price(self, provider: str | None, model: str | None, at: float) -> Price | None:
        """The price in force at a Unix time; None if there is none."""
        if provider is None or model is None:
            return None
        for price in _remembered(self._prices, self.rows.prices, provider, model):
            if price.starts <= at:
                return price
        return None

    def cost(self, usage: Usage | None, provider: str | None, model: str | None, at: float) -> Priced:
        """What an exchange cost, by the API's list price.

        Args:
            usage: as the upstream reported it; None if it reported none.
            provider: from `provider_of`.
            model: as the answer names it, else as the request does.
            at: Unix time at which the successful attempt was sent.
        """
        if usage is None:
            return UNPRICED
        price = self.price(provider, model, at)
        if price is None:
            return UNPRICED
        amount = price.nano_dollars(usage, at)
        return UNPRICED if amount is None else Priced(amount, price.id, Provenance.COMPUTED)

    def has_plan(self, provider: str | None) -> bool:
        """Whether this provider sells a plan whose credits are known."""
        return provider in self._plans

    def credits(self, usage: Usage | None, provider: str | None, model: str | None, at: float) -> int | None:
        """Micro-credits that an exchange takes from a plan; None if not known. Arguments as for `cost`."""
        if usage is None or provider is None or model is None or provider not in self._plans:
            return None
        for rate in _remembered(self._rates, self.rows.credits, provider, model):
            if rate.starts <= at:
                return rate.micro_credits(usage, at)
        return None

    def lost(self, count: int, usage: Usage, provider: str | None, model: str | None, at: float) -> int | None:
        """What a broken prompt cache cost: tokens billed as new that would have been read from the cache.

        Args:
            count: tokens lost, from a cache verdict.
            usage: of the exchange that paid for them. If it wrote to the cache, they cost a write each, else an input token.
            provider, model, at: as for `cost`.

        Returns:
            Nano-dollars, an estimate; None if no price is known.
        """
        price = self.price(provider, model, at)
        factor = price.factor(usage, at) if price is not None else None
        if price is None or factor is None:
            return None
        found = tokens(usage)
        rates = price.rates_for(found.prompt)
        paid = rates.input
        if found.cache_write_1h or found.cache_write_5m:
            paid = rates.cache_write_1h if found.cache_write_1h > found.cache_write_5m else rates.cache_write_5m
        return rounded(max(0, paid - rates.cache_read) * count * factor.numerator, factor.denominator * PICO_PER_NANO)


def _remembered(
    known: dict[Key, tuple[_Row, ...]], rows: Mapping[Key, tuple[_Row, ...]], provider: str, model: str
) -> tuple[_Row, ...]:
    found = known.get((provider, model))
    if found is None:
        _make_room(known)
        found = known[provider, model] = _named(rows, provider, model)
    return found


def _named(rows: Mapping[Key, tuple[_Row, ...]], provider: str, model: str) -> tuple[_Row, ...]:
    name = model.lower()
    found = rows.get((provider, name))
    return found if found is not None else rows.get((provider, _DATED.sub("", name)), ())


def _make_room(known: dict[Any, Any]) -> None:
    if len(known) >= _MEMORY:
        known.clear()


def newest_first(rows: Iterable[_Row]) -> tuple[_Row, ...]:
    """Rows of one model in the order in which `Prices` looks through them."""
    return tuple(sorted(rows, key=lambda row: row.starts, reverse=True))
