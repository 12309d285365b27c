"""What the price packages say of a model, in one form: figures by name, in dollars per million tokens.

`input`, `output`, `cache_read`, `cache_write_5m`, `cache_write_1h`; the same with ` fast` behind it for fast mode, and with
` above N` for prompts of more than N tokens. A figure that a source does not state is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from functools import cache
from importlib.metadata import version

import model_prices
from genai_prices import types as genai
from genai_prices.data import providers as genai_providers

from claude_proxy.ledger.prices.rates import Price, Rates

Figures = dict[str, Decimal]
PICO = 10**6
_NAMES = {"moonshot": "moonshotai"}  # theirs, where they call a provider differently
_GENAI = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write_5m": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
}


def of_ours(price: Price) -> Figures:
    """The figures of a price of our own."""
    found = _of_rates(price.rates, "")
    for tier in price.tiers:
        found |= _of_rates(tier.rates, f" above {tier.above}")
    if fast := price.speeds.get("fast"):
        found |= _of_rates(price.rates.scaled(fast), " fast")
    return found


def _of_rates(rates: Rates, suffix: str) -> Figures:
    return {name + suffix: Decimal(value) / PICO for name, value in rates._asdict().items()}


class GenaiPrices:
    """pydantic's genai-prices."""

    name = "genai-prices"
    version = version(name)

    def models(self, provider: str) -> dict[str, str]:
        """The names it lists, by their lower case."""
        return {model.id.lower(): model.id for model in _genai(provider).models}

    def figures(self, provider: str, model: str, at: datetime) -> Figures | None:
        """Off-peak list prices in force at a time; None if it does not know the model."""
        for info in _genai(provider).models:
            if info.is_match(model):
                found = _genai_figures(_in_force(info, at), "")
                for variant in info.price_variants or ():
                    if variant.when == {"speed": "fast"}:
                        found |= _genai_figures(variant.prices, " fast")
                return found
        return None


@cache
def _genai(provider: str) -> genai.Provider:
    return next(one for one in genai_providers if one.id == _NAMES.get(provider, provider))


def _in_force(info: genai.ModelInfo, at: datetime) -> genai.ModelPrice:
    if isinstance(info.prices, genai.ModelPrice):
        return info.prices
    begun = [
        one.prices
        for one in info.prices
        if one.constraint is None
        or (isinstance(one.constraint, genai.StartDateConstraint) and one.constraint.start_date <= at.date())
    ]
    return begun[-1]


def _genai_figures(prices: genai.ModelPrice, suffix: str) -> Figures:
    found: Figures = {}
    for name, field in _GENAI.items():
        value = getattr(prices, field)
        if isinstance(value, genai.TieredPrices):
            found |= {f"{name} above {tier.start}": tier.price for tier in value.tiers}
            value = value.base
        if value is not None:
            found[name + suffix] = value
    return found


class ModelPrices:
    """model-prices, which follows models.dev."""

    name = "model-prices"
    version = version(name)

    def models(self, provider: str) -> dict[str, str]:
        """The names it lists, by their lower case; without those that the provider has removed."""
        data, provider = model_prices._data(), _NAMES.get(provider, provider)
        gone = {model for model, state in data["status"].get(provider, {}).items() if state == "removed"}
        return {model.lower(): model for model in data["prices"].get(provider, {}) if model not in gone}

    def figures(self, provider: str, model: str, at: datetime) -> Figures | None:
        """Off-peak list prices in force at a time; None if it does not know the model."""
        provider = _NAMES.get(provider, provider)
        name = self.models(provider).get(model.lower())
        plain = None if name is None else model_prices._lookup(provider, name, at, None, True)
        if plain is None:
            return None
        fast = model_prices._lookup(provider, name, at, "fast", True)
        found = dict(_model_figures(plain, "", plain.cache_write_1h_multiple))
        for tier in plain.tiers:
            found |= _model_figures(tier, f" above {tier.above}", plain.cache_write_1h_multiple)
        if fast is not None:
            found |= _model_figures(fast, " fast", fast.cache_write_1h_multiple)
        return found


def _model_figures(
    rates: model_prices.Rates | model_prices.Tier, suffix: str, hour: float | None
) -> Iterator[tuple[str, Decimal]]:
    written = rates.cache_write
    for name, value in (
        ("input", rates.input),
        ("output", rates.output),
        ("cache_read", rates.cache_read),
        ("cache_write_5m", written),
    ):
        if value is not None:
            yield name + suffix, Decimal(str(value))
    if hour is not None and written and rates.input:
        yield "cache_write_1h" + suffix, Decimal(str(rates.input)) * Decimal(str(hour))


SOURCES = (GenaiPrices(), ModelPrices())
