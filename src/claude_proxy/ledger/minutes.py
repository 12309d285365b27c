"""The last hour, minute by minute: how many exchanges, how many failed, and how long the first byte took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Label, and_, func, literal_column, select

from claude_proxy import ids
from claude_proxy.ledger.answers import rfc3339
from claude_proxy.ledger.tables import exchange
from claude_proxy.ledger.usage import text_id

MINUTE = 60_000  # milliseconds
STEP = 20  # milliseconds; times to the first byte are counted in steps, so that the answer stays small

Steps = dict[int, int]  # how many exchanges by the number of steps that their first byte took


def minutes(connection: Connection, until: float, count: int) -> dict[str, Any]:
    """Messages calls by the minute in which they began; see `Books.minutes`."""
    last = int(until * 1000) // MINUTE
    found = _counted(connection, last - count + 1)
    rows = [_minute(number, found.get(number, [])) for number in range(last - count + 1, last + 1)]
    steps = _steps([part for parts in found.values() for part in parts])
    return {
        "minutes": rows,
        "exchanges": sum(row["exchanges"] for row in rows),
        "failed": sum(row["failed"] for row in rows),
        "first_byte_p50_ms": percentile(steps, 0.5),
        "first_byte_p95_ms": percentile(steps, 0.95),
    }


def percentile(steps: Steps, share: float) -> int | None:
    """The time, in milliseconds to the step, within which a share of the first bytes came; None if there were none."""
    wanted, seen = share * sum(steps.values()), 0
    for step in sorted(steps):
        seen += steps[step]
        if seen >= wanted:
            return step * STEP + STEP // 2
    return None


def step_of(ms: ColumnElement[Any]) -> Label[Any]:
    """The step of a column of milliseconds, as `step`; written as text, so that PostgreSQL can group by it."""
    return (ms // literal_column(str(STEP), Integer)).label("step")


def _counted(connection: Connection, first: int) -> dict[int, list[Any]]:
    c = exchange.c
    kind = text_id(connection, "kind", "messages")
    # PostgreSQL shifts a bigint by an int only, and takes two parameters for two values where it compares GROUP BY with SELECT.
    minute = (c.id.bitwise_rshift(literal_column("22")) // literal_column(str(MINUTE), Integer)).label("minute")
    step = step_of(c.first_byte_ms)
    since = and_(c.id >= ids.first_of(first * MINUTE), c.kind == (kind or -1))
    counted = select(minute, step, func.count().label("exchanges"), func.sum(c.failed).label("failed")).where(since)
    found: dict[int, list[Any]] = defaultdict(list)
    for row in connection.execute(counted.group_by(minute, step)):
        found[int(row.minute)].append(row)
    return found


def _minute(number: int, parts: Sequence[Any]) -> dict[str, Any]:
    steps = _steps(parts)
    return {
        "at": rfc3339(number * MINUTE),
        "exchanges": sum(part.exchanges for part in parts),
        "failed": int(sum(part.failed for part in parts)),
        "first_byte_p50_ms": percentile(steps, 0.5),
        "first_byte_p95_ms": percentile(steps, 0.95),
    }


def _steps(parts: Sequence[Any]) -> Steps:
    steps: Steps = defaultdict(int)
    for part in parts:
        if part.step is not None:
            steps[int(part.step)] += part.exchanges
    return steps
