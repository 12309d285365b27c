"""Pricing records: the cost of what was used, and the part of it that a broken prompt cache is to blame for."""

from __future__ import annotations

import pytest

from claude_proxy.exchange import CacheVerdict, Usage
from claude_proxy.ledger import prices
from claude_proxy.ledger.options import Entry
from claude_proxy.ledger.pricing import Pricer
from claude_proxy.ledger.record import UNPRICED, Priced, record
from claude_proxy.ledger.rows import Rows, texts
from claude_proxy.ledger.statements import EXCHANGE_COLUMNS
from tests.ledger.books import exchange_of

MISSED = Usage(input=100, output=0, cache_read=0, cache_write=100_000)


def pricer() -> Pricer:
    return Pricer(lambda: prices.load(None).prices, {"anthropic": "api.anthropic.com", "nowhere": "localhost"})


def priced(**values: object) -> Priced:
    fields = {"upstream": "anthropic", "model": "claude-opus-5-5", "usage": MISSED, **values}
    return pricer()(record(exchange_of(**fields)))


def test_tokens_that_were_lost_cost_the_difference_between_a_write_and_a_read() -> None:
    found = priced(cache=CacheVerdict("changed", 1, "tools", 80_000))
    table = prices.load(None).prices
    assert found.lost_nano == table.lost(80_000, MISSED, "anthropic", "claude-opus-5-5", exchange_of().started_at)
    assert found.cost_nano is not None
    assert found.lost_nano is not None
    assert 0 < found.lost_nano < found.cost_nano


@pytest.mark.parametrize("cache", [None, CacheVerdict("grew"), CacheVerdict("first"), CacheVerdict("changed", 1, "tools", 0)])
def test_where_nothing_was_lost_nothing_is_said(cache: CacheVerdict | None) -> None:
    assert priced(cache=cache).lost_nano is None


@pytest.mark.parametrize("unknown", [{"upstream": "nowhere"}, {"model": "claude-unheard-of"}])
def test_without_a_price_the_loss_has_none(unknown: dict[str, str]) -> None:
    found = priced(cache=CacheVerdict("provider", lost_tokens=80_000), **unknown)
    assert (found.cost_nano, found.lost_nano) == (None, None)


def test_what_used_nothing_is_not_priced() -> None:
    assert priced(usage=None, cache=CacheVerdict("first")) == UNPRICED


def test_the_loss_stands_in_the_row() -> None:
    entry = Entry(record(exchange_of(cache=CacheVerdict("changed", 4, "system", 9))), Priced(100, None, None, 55))
    names: dict[str, dict[str, int]] = {}
    for kind, text in texts([entry]):
        names.setdefault(kind, {})[text] = len(names) + 1
    (row,) = Rows([entry], names, 1).exchanges
    found = dict(zip(EXCHANGE_COLUMNS, row, strict=True))
    assert [found[name] for name in ("verdict_block", "verdict_tokens", "verdict_nano", "cost_nano")] == [4, 9, 55, 100]
