"""What an exchange costs, by the price table: joins the writer with `prices`."""

from __future__ import annotations

from collections.abc import Mapping

from claude_proxy.exchange import Usage
from claude_proxy.ledger.prices.table import Prices
from claude_proxy.ledger.record import UNKNOWN, Charge, Record


class Charging:
    """Prices records; give it to the writer as `price`.

    Args:
        prices: the price table.
        hosts: the host name of each upstream, by the upstream's name.
    """

    def __init__(self, prices: Prices, hosts: Mapping[str, str]) -> None:
        self._prices = prices
        self._providers = {name: prices.provider_of(host) for name, host in hosts.items()}

    def __call__(self, record: Record) -> Charge:
        """The charge of one exchange; unknown where the upstream reported no usage, or has no price."""
        if not record.used:
            return UNKNOWN
        prices, usage, at = self._prices, usage_of(record), record.sent_at / 1000
        provider = self._providers.get(record.upstream or "")
        model = record.model_served or record.model
        cost = prices.cost(usage, provider, model, at)
        lost = prices.lost(record.verdict_lost, usage, provider, model, at) if record.verdict_lost else None
        return Charge(cost.nano_dollars, prices.credits(usage, provider, model, at), cost.price_id, lost)


def usage_of(record: Record) -> Usage:
    """The usage as it was reported."""
    short, long = record.cache_write_5m, record.cache_write_1h
    return Usage(
        input=record.input,
        output=record.output,
        cache_read=record.cache_read,
        cache_write=None if short is None and long is None else (short or 0) + (long or 0),
        cache_write_5m=short,
        cache_write_1h=long,
        web_searches=record.web_searches,
        service_tier=record.service_tier,
        inference_geo=record.geo,
        speed=record.speed,
    )
