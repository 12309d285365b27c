"""What an exchange costs, by the price table: joins the writer and the metrics with `prices`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from claude_proxy.exchange import Exchange, Usage
from claude_proxy.ledger.prices.table import Prices
from claude_proxy.ledger.record import UNKNOWN, Charge, Record

if TYPE_CHECKING:
    from sqlalchemy import Row


class Charging:
    """Prices exchanges, and the records made of them; give it to the writer as `price`.

    Args:
        load: reads the price table; called once, by `ready` or with the first price.
        hosts: the host name of each upstream, by the upstream's name.
    """

    def __init__(self, load: Callable[[], Prices], hosts: Mapping[str, str]) -> None:
        self._load = load
        self._hosts = hosts
        self._table: Prices | None = None

    def ready(self) -> Prices:
        """The price table."""
        if self._table is None:
            self._table = self._load()
        return self._table

    def has_prices(self, upstream: str) -> bool:
        """Whether anything is known about prices or credits at the upstream of that name."""
        return self._provider(upstream) is not None

    def cost_of(self, exchange: Exchange) -> int | None:
        """The cost of a finished exchange in nano-dollars; None where no price is known."""
        provider = self._provider(exchange.upstream)
        if provider is None:
            return None
        return self.ready().cost(exchange.usage, provider, *_asked(exchange)).nano_dollars

    def credits_of(self, exchange: Exchange) -> int | None:
        """The plan credits of a finished exchange, in millionths; None where it went to no plan."""
        provider = self._provider(exchange.upstream)
        if provider is None:
            return None
        return self.ready().credits(exchange.usage, provider, *_asked(exchange))

    def __call__(self, record: Record) -> Charge:
        """The charge of one exchange; unknown where the upstream reported no usage, or has no price."""
        provider = self._provider(record.upstream)
        if provider is None or not record.used:
            return UNKNOWN
        prices, usage, at = self.ready(), usage_of(record), record.sent_at / 1000
        model = record.model_served or record.model_sent or record.model
        cost = prices.cost(usage, provider, model, at)
        lost = prices.lost(record.verdict_lost, usage, provider, model, at) if record.verdict_lost else None
        return Charge(cost.nano_dollars, prices.credits(usage, provider, model, at), cost.price_id, lost)

    def _provider(self, upstream: str | None) -> str | None:
        return self.ready().provider_of(self._hosts.get(upstream or "", ""))


def _asked(exchange: Exchange) -> tuple[str | None, float]:
    """The model that answered, by the most certain name for it, and when it was asked in Unix seconds."""
    sent = exchange.attempts[-1].started - exchange.started if exchange.attempts else 0.0
    return exchange.model_served or exchange.model_sent or exchange.model, exchange.started_at + sent


def usage_of(record: Record) -> Usage:
    """The usage as it was reported."""
    return usage_with(record, record.service_tier, record.geo, record.speed)


def usage_with(counts: Record | Row[Any], service_tier: str | None, geo: str | None, speed: str | None) -> Usage:
    """The usage as it was reported, from a record or its row in the database, which has ids in place of texts."""
    short, long = counts.cache_write_5m, counts.cache_write_1h
    return Usage(
        input=counts.input,
        output=counts.output,
        cache_read=counts.cache_read,
        cache_write=None if short is None and long is None else (short or 0) + (long or 0),
        cache_write_5m=short,
        cache_write_1h=long,
        web_searches=counts.web_searches,
        service_tier=service_tier,
        inference_geo=geo,
        speed=speed,
    )
