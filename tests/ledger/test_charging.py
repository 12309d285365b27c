"""What the writer books: the price table's own numbers, by the upstream's provider and the model that served."""

import pytest

from claude_proxy.exchange import CacheVerdict, Usage
from claude_proxy.ledger.charging import Charging, usage_of
from claude_proxy.ledger.prices import load
from claude_proxy.ledger.record import UNKNOWN, record
from tests.ledger.books import WALL, exchange_of
from tests.ledger.test_record import later

PRICES = load().prices
CHARGING = Charging(lambda: PRICES, {"default": "api.z.ai", "claude": "api.anthropic.com", "home": "localhost"})
USAGE = Usage(1000, 200, 30_000, 400, 300, 100, None, None, "standard", None, None)


@pytest.mark.parametrize(
    ("upstream", "model", "provider"),
    [
        ("claude", "claude-opus-5-5", "anthropic"),
        ("claude", "claude-haiku-4-5-20251001", "anthropic"),
        ("default", "glm-5.3", "z.ai"),
    ],
)
def test_an_exchange_is_charged_by_its_upstreams_table(upstream: str, model: str, provider: str) -> None:
    host = {"claude": "api.anthropic.com", "default": "api.z.ai"}[upstream]
    found = CHARGING(record(exchange_of(upstream=upstream, model=model, usage=USAGE)))
    wanted = PRICES.cost(USAGE, PRICES.provider_of(host), model, WALL)
    assert (found.cost_nano, found.price_id) == (wanted.nano_dollars, wanted.price_id)
    assert found.cost_nano
    assert found.credits_micro == PRICES.credits(USAGE, PRICES.provider_of(host), model, WALL)


@pytest.mark.parametrize(
    ("sent", "served"), [(None, "glm-5.3"), ("glm-5.3", None), ("glm-5.3", "glm-5.3"), ("glm-5.3-flash", "glm-5.3")]
)
def test_the_model_that_worked_is_charged_not_the_one_that_was_asked(sent: str | None, served: str | None) -> None:
    asked = exchange_of(upstream="default", model="claude-opus-5-5", model_sent=sent, model_served=served, usage=USAGE)
    wanted = exchange_of(upstream="default", model="glm-5.3", usage=USAGE)
    assert CHARGING(record(asked)) == CHARGING(record(wanted))
    assert (CHARGING.cost_of(asked), CHARGING.credits_of(asked)) == (CHARGING.cost_of(wanted), CHARGING.credits_of(wanted))
    assert CHARGING.cost_of(asked)


@pytest.mark.parametrize(
    ("upstream", "model"),
    [("home", "qwen"), ("claude", "claude-opus-5-5-turbo-x"), ("default", None), ("never", "glm-5.3"), ("", "glm-5.3")],
)
def test_what_has_no_price_has_no_charge(upstream: str, model: str | None) -> None:
    assert CHARGING(record(exchange_of(upstream=upstream, model=model, usage=USAGE))) == UNKNOWN


def test_without_usage_there_is_no_charge() -> None:
    assert CHARGING(record(exchange_of(upstream="claude", model="claude-opus-5-5", usage=None))) == UNKNOWN


def test_what_a_broken_cache_cost_is_charged_too() -> None:
    broken = later(upstream="claude", model="claude-opus-5-5", usage=USAGE, cache=CacheVerdict("changed", "tools", 0, None, 5000))
    found = CHARGING(record(broken))
    assert found.lost_nano == PRICES.lost(5000, USAGE, "anthropic", "claude-opus-5-5", WALL)
    assert found.lost_nano


def test_usage_is_given_to_the_table_as_it_was_reported() -> None:
    assert usage_of(record(exchange_of(usage=USAGE))) == USAGE
