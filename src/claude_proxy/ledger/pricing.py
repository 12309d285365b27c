"""Pricing records: from an upstream's name to its provider's prices."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from claude_proxy.exchange import Usage
from claude_proxy.ledger.prices import Prices
from claude_proxy.ledger.record import UNPRICED, Priced, Record


class Pricer:
    """Prices records; called in the writer's thread.

    Args:
        load: gives the table in force; called once, with the first record.
        hosts: of the upstreams, by their names.
    """

    def __init__(self, load: Callable[[], Prices], hosts: Mapping[str, str]) -> None:
        self._load = load
        self._hosts = hosts
        self._table: Prices | None = None

    def __call__(self, record: Record) -> Priced:
        """Cost at list price when the record's last attempt was sent, plan credits, and what a broken cache cost."""
        if not record.used:
            return UNPRICED
        table = self._table = self._table or self._load()
        provider = table.provider_of(self._hosts.get(record.upstream or "", ""))
        usage, model, at = usage_of(record), record.model_served or record.model, record.sent_at / 1000
        cost = table.cost(usage, provider, model, at)
        lost = table.lost(record.verdict_tokens, usage, provider, model, at) if record.verdict_tokens else None
        return Priced(cost.nano_dollars, table.credits(usage, provider, model, at), cost.price_id, lost)


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
