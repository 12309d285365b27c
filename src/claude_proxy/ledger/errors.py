"""Errors by upstream and code, and how quickly each upstream answers: what *Upstreams* shows."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import Connection, and_, func, select

from claude_proxy import ids
from claude_proxy.ledger.answers import rfc3339
from claude_proxy.ledger.minutes import Steps, percentile, step_of
from claude_proxy.ledger.tables import exchange
from claude_proxy.ledger.usage import text_id, texts_of

MOST = 100  # kinds of errors that are listed


def errors(connection: Connection, since: float) -> list[dict[str, Any]]:
    """Failed exchanges since a Unix time, by upstream, kind and provider code; the kind that came last first."""
    c = exchange.c
    keys = (c.upstream, c.status, c.outcome, c.failure, c.provider_code)
    kinds = (
        select(*keys, func.count().label("count"), func.max(c.id).label("last"))
        .where(and_(c.failed == 1, c.id >= ids.first_of(int(since * 1000))))
        .group_by(*keys)
        .order_by(func.max(c.id).desc())
        .limit(MOST)
    )
    found = connection.execute(kinds).all()
    said = select(c.id, c.failure_text, c.side, c.model).where(c.id.in_([row.last for row in found]))
    last = {row.id: row for row in connection.execute(said)}
    numbers = {number for row in found for number in (row.upstream, row.outcome, row.failure, row.provider_code)}
    numbers |= {number for row in last.values() for number in (row.failure_text, row.side, row.model)}
    texts = texts_of(connection, numbers)
    return [
        {
            "upstream": texts.get(row.upstream),
            "status": row.status,
            "outcome": texts.get(row.outcome),
            "kind": texts.get(row.failure),
            "provider_code": texts.get(row.provider_code),
            "message": texts.get(last[row.last].failure_text),
            "side": texts.get(last[row.last].side),
            "model": texts.get(last[row.last].model),
            "count": row.count,
            "last_id": ids.encode(row.last),
            "last_at": rfc3339(ids.milliseconds(row.last)),
        }
        for row in found
    ]


def speeds(connection: Connection, since: float) -> dict[str, dict[str, Any]]:
    """Messages calls since a Unix time by upstream: how many, how many failed, and the time to the first byte."""
    c = exchange.c
    kind = text_id(connection, "kind", "messages")
    step = step_of(c.first_byte_ms)
    chosen = and_(c.id >= ids.first_of(int(since * 1000)), c.kind == (kind or -1))
    counted = select(c.upstream, step, func.count().label("exchanges"), func.sum(c.failed).label("failed")).where(chosen)
    by_upstream: dict[int, list[Any]] = defaultdict(list)
    for row in connection.execute(counted.group_by(c.upstream, step)):
        by_upstream[row.upstream].append(row)
    texts = texts_of(connection, set(by_upstream))
    return {texts.get(number, ""): _speed(rows) for number, rows in by_upstream.items()}


def _speed(rows: list[Any]) -> dict[str, Any]:
    steps: Steps = {int(row.step): row.exchanges for row in rows if row.step is not None}
    return {
        "exchanges": sum(row.exchanges for row in rows),
        "failed": int(sum(row.failed for row in rows)),
        "first_byte_p50_ms": percentile(steps, 0.5),
        "first_byte_p95_ms": percentile(steps, 0.95),
    }
