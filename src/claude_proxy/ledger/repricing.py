"""Computes the costs of recorded exchanges again with the current price table: rows and rollups together, 500 at a time.

Each exchange gets the price that was valid when its last attempt was sent, as in the writer. The provider comes from the price
that the row has, or from the host of its upstream if it has none. Unpriced rows of upstreams that are no longer configured stay
as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Row, Select, bindparam, func, select

from claude_proxy import ids
from claude_proxy.exchange import Usage
from claude_proxy.ledger.charging import usage_with
from claude_proxy.ledger.names import Names
from claude_proxy.ledger.prices import Prices
from claude_proxy.ledger.prices.read import OWN_PREFIX
from claude_proxy.ledger.statements import Statements, compile_for
from claude_proxy.ledger.tables import BUCKET_MS, DAY_MS, ROLLUP_KEYS, ROLLUP_SUMS, TOKENS, attempt, exchange
from claude_proxy.ledger.usage import texts_of

CHUNK = 500
_SUMS = ("cost_nano", "priced", "unpriced", "credits_micro", "credited")
_TEXTS = ("upstream", "model", "model_sent", "model_served", "price", "service_tier", "speed", "geo")
_set = exchange.update().where(exchange.c.id == bindparam("of")).values(
    cost_nano=bindparam("cost"), credits_micro=bindparam("credits"), lost_nano=bindparam("lost"), price=bindparam("priced")
)  # fmt: skip


class Change(NamedTuple):
    """The exchanges of one model that had one price and get another; None for no price."""

    model: str | None
    old_price: str | None
    new_price: str | None


class Sums(NamedTuple):
    """How many exchanges change, and their cost in nano-dollars; `credits` counts those whose plan credits change."""

    exchanges: int
    old_nano: int
    new_nano: int
    credits: int

    def plus(self, other: Sums) -> Sums:
        return Sums(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class _New(NamedTuple):
    cost_nano: int | None
    credits_micro: int | None
    price: str | None
    lost_nano: int | None


class Repricing:
    """One repricing: `changes` previews it, `apply` does it.

    Args:
        engine: for reading in `changes`, for writing in `apply`.
        prices: the table in force.
        hosts: of the configured upstreams, by name.
        since: Unix seconds; exchanges that began then or later.
        until: Unix seconds; up to here, so that both steps see the same exchanges.
    """

    def __init__(self, prices: Prices, hosts: Mapping[str, str], *, since: float, until: float) -> None:
        self._prices = prices
        self._hosts = hosts
        self._since = ids.first_of(int(since * 1000))
        self._until = ids.first_of(int(until * 1000))
        self.looked_at = 0

    def changes(self, engine: Engine) -> dict[Change, Sums]:
        """What would change, by model and price. Each chunk is a short read of its own."""
        found: dict[Change, Sums] = {}
        self.looked_at = 0
        for rows, texts, late in self._chunks(engine):
            self.looked_at += len(rows)
            for row, new in self._changed(rows, texts, late):
                key = Change(texts.get(_model(row)), texts.get(row.price), new.price)
                sums = Sums(1, row.cost_nano or 0, new.cost_nano or 0, int(row.credits_micro != new.credits_micro))
                found[key] = found[key].plus(sums) if key in found else sums
        return found

    def apply(self, engine: Engine, progress: Callable[[int], None] = lambda _: None) -> int:
        """Change rows and rollups, a chunk in each transaction; returns how many exchanges were changed.

        Args:
            progress: called after each chunk with the number of changed exchanges so far.
        """
        statements = compile_for(engine.dialect)
        names = Names(statements)
        changed, after = 0, self._since - 1
        while True:
            with engine.begin() as connection:
                # Locked, because sums get the difference to these values: no other repricing or retention may come between.
                rows = connection.execute(self._rows(after).with_for_update()).all()
                if not rows:
                    return changed
                changed += self._rewrite(connection, rows, names, statements)
            names.commit()
            after = rows[-1].id
            progress(changed)

    def _rewrite(self, connection: Connection, rows: Sequence[Row[Any]], names: Names, statements: Statements) -> int:
        texts = texts_of(connection, {row._mapping[column] for row in rows for column in _TEXTS})
        found = list(self._changed(rows, texts, _late(connection, rows)))
        if not found:
            return 0
        day = int(connection.execute(select(func.max(exchange.c.id))).scalar_one() >> 22) // DAY_MS
        numbers = names.resolve(connection, (("price", new.price) for _, new in found if new.price is not None), day)["price"]
        values = [
            {
                "of": row.id,
                "cost": new.cost_nano,
                "credits": new.credits_micro,
                "lost": new.lost_nano,
                "priced": 0 if new.price is None else numbers[new.price],
            }
            for row, new in found
        ]
        connection.execute(_set, values)
        deltas = _deltas(found)
        if deltas:
            connection.exec_driver_sql(statements.rollup, deltas)
        return len(found)

    def _chunks(self, engine: Engine) -> Iterator[tuple[Sequence[Row[Any]], Mapping[int, str], Mapping[int, int]]]:
        after = self._since - 1
        while True:
            with engine.connect() as connection, connection.begin():
                rows = connection.execute(self._rows(after)).all()
                texts = texts_of(connection, {row._mapping[column] for row in rows for column in _TEXTS})
                late = _late(connection, rows)
            if not rows:
                return
            yield rows, texts, late
            after = rows[-1].id

    def _rows(self, after: int) -> Select[Any]:
        """The next chunk."""
        c = exchange.c
        return select(exchange).where(c.id > after, c.id < self._until).order_by(c.id).limit(CHUNK)

    def _changed(
        self, rows: Sequence[Row[Any]], texts: Mapping[int, str], late: Mapping[int, int]
    ) -> Iterator[tuple[Row[Any], _New]]:
        for row in rows:
            new = self._priced(row, texts, late)
            if new is not None and new != _New(row.cost_nano, row.credits_micro, texts.get(row.price), row.lost_nano):
                yield row, new

    def _priced(self, row: Row[Any], texts: Mapping[int, str], late: Mapping[int, int]) -> _New | None:
        """What a row costs now; None if it stays as it is."""
        provider = self._provider(texts.get(row.price), texts.get(row.upstream, ""))
        usage = _usage(row, texts)
        if usage is None or provider is None:
            return None
        sent = ids.milliseconds(row.id) + late.get(row.id, row.queue_ms or 0)
        model = texts.get(_model(row))
        cost = self._prices.cost(usage, provider, model, sent / 1000)
        credits_ = self._prices.credits(usage, provider, model, sent / 1000)
        lost = self._prices.lost(row.verdict_lost, usage, provider, model, sent / 1000) if row.verdict_lost else None
        return _New(cost.nano_dollars, credits_, cost.price_id, lost)

    def _provider(self, price: str | None, upstream: str) -> str | None:
        if price is not None:
            return price.removeprefix(OWN_PREFIX).partition("/")[0]
        return self._prices.provider_of(self._hosts.get(upstream, ""))


def _model(row: Row[Any]) -> int:
    """The model whose price applies, as in `charging`."""
    return int(row.model_served or row.model_sent or row.model)


def _late(connection: Connection, rows: Sequence[Row[Any]]) -> dict[int, int]:
    """When the last attempt of each exchange was sent, in ms from its start, where it had several."""
    if not rows:
        return {}
    c = attempt.c
    sent = select(c.exchange, func.max(c.sent_ms)).where(c.exchange.between(rows[0].id, rows[-1].id)).group_by(c.exchange)
    return {int(number): int(ms) for number, ms in connection.execute(sent)}


def _usage(row: Row[Any], texts: Mapping[int, str]) -> Usage | None:
    if not any(row._mapping[kind] for kind in TOKENS):
        return None
    return usage_with(row, texts.get(row.service_tier), texts.get(row.geo), texts.get(row.speed))


def _deltas(found: Sequence[tuple[Row[Any], _New]]) -> list[tuple[int, ...]]:
    """What to add to the rollups, in the order of their columns, and sorted by key as the writer does."""
    deltas: dict[tuple[int, ...], Counter[str]] = {}
    for row, new in found:
        key = (ids.milliseconds(row.id) // BUCKET_MS, *(row._mapping[part] for part in ROLLUP_KEYS[1:]))
        sums = deltas.setdefault(key, Counter())
        for name, after, before in zip(_SUMS, _summed(new), _summed(row), strict=True):
            sums[name] += after - before
    return [key + tuple(sums[name] for name in ROLLUP_SUMS) for key, sums in sorted(deltas.items()) if any(sums.values())]


def _summed(priced: Any) -> tuple[int, ...]:
    """What a used exchange adds to `_SUMS`."""
    cost, credits_ = priced.cost_nano, priced.credits_micro
    return cost or 0, int(cost is not None), int(cost is None), credits_ or 0, int(credits_ is not None)
