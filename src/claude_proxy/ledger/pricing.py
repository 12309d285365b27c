"""Pricing records: from an upstream's name to its provider's prices."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from claude_proxy.exchange import Exchange, Usage
from claude_proxy.ledger.prices import Prices
from claude_proxy.ledger.record import UNPRICED, Priced, Record


class Pricer:
    """Prices exchanges and the records made of them: from any thread, once `ready`.

    Args:
        load: gives the table in force; called once.
        hosts: of the upstreams, by their names.
    """

    def __init__(self, load: Callable[[], Prices], hosts: Mapping[str, str]) -> None:
        self._load = load
        self._hosts = hosts
        self._table: Prices | None = None

    def ready(self) -> Prices:
        """The price table, read now if it has not been yet."""
        if self._table is None:
            self._table = self._load()
        return self._table

    def cost_of(self, exchange: Exchange) -> int | None:
        """The cost of a finished exchange in nano-dollars; None if no price is known."""
        table = self.ready()
        return table.cost(exchange.usage, self._provider(table, exchange.upstream), *_asked(exchange)).nano_dollars

    def credits_of(self, exchange: Exchange) -> int | None:
        """The plan credits that a finished exchange took, in millionths; None where it went to no plan."""
        table = self.ready()
        return table.credits(exchange.usage, self._provider(table, exchange.upstream), *_asked(exchange))

    def _provider(self, table: Prices, upstream: str | None) -> str | None:
        return table.provider_of(self._hosts.get(upstream or "", ""))

    def __call__(self, record: Record) -> Priced:
        """The cost at list price when the record's last attempt was sent, and the plan credits it took."""
        if not record.used:
            return UNPRICED
        table = self.ready()
        provider = self._provider(table, record.upstream)
        usage, model, at = usage_of(record), record.model_served or record.model, record.sent_at / 1000
        cost = table.cost(usage, provider, model, at)
        return Priced(cost.nano_dollars, table.credits(usage, provider, model, at), cost.price_id)


def _asked(exchange: Exchange) -> tuple[str | None, float]:
    """The model that answered, and when it was asked in Unix seconds."""
    sent = exchange.attempts[-1].started - exchange.started if exchange.attempts else 0.0
    return exchange.model_served or exchange.model, exchange.started_at + sent


def usage_of(record: Record) -> Usage:
    """What a record says was used."""
    write_5m, write_1h = record.cache_write_5m, record.cache_write_1h
    return Usage(
        input=record.input,
        output=record.output,
        cache_read=record.cache_read,
        cache_write=None if write_5m is None and write_1h is None else (write_5m or 0) + (write_1h or 0),
        cache_write_5m=write_5m,
        cache_write_1h=write_1h,
        web_searches=record.web_searches,
        service_tier=record.service_tier,
        inference_geo=record.geo,
        speed=record.speed,
    )
