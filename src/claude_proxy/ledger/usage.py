"""Sums over a time, in groups. They come from the rollup, where a million exchanges are some ten thousand rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Select,
    and_,
    column,
    func,
    literal_column,
    select,
    text,
    true,
)

from claude_proxy.ledger import periods, windows
from claude_proxy.ledger.answers import amounts
from claude_proxy.ledger.groups import BY, DIMENSIONS, TIMES, By, Dimension
from claude_proxy.ledger.periods import Span
from claude_proxy.ledger.tables import BUCKET_MS, ROLLUP_SUMS, name, rollup, session

__all__ = ["BY", "DIMENSIONS", "By", "Dimension", "bounds", "text_id", "texts_of", "totals_of", "usage"]

_c = rollup.c
_sums = [func.sum(_c[key]).label(key) for key in ROLLUP_SUMS]


def usage(
    connection: Connection,
    by: By,
    *,
    since: int,
    until: int,
    where: tzinfo,
    filters: Mapping[Dimension, str],
    breakdown: bool,
) -> dict[str, Any]:
    """Totals and groups of the quarter hours from `since` to before `until`; see `Books.usage`."""
    chosen = _filtered(connection, filters)
    rows: Sequence[Any] = []
    keys: dict[int, str] = {}
    if chosen is not None and since < until:
        if by in TIMES:
            found = _spans(connection, by, since, until, where)
            keys = {number: span.key for number, span in enumerate(found)}
            rows = connection.execute(_per_span(found, chosen)).all() if found else ()
        else:
            rows = connection.execute(_per_dimension(by, since, until, chosen)).all()
    models = texts_of(connection, {row[1] for row in rows})
    if by not in TIMES:
        keys = texts_of(connection, {row[0] for row in rows})
    return {
        "from": _iso(since, where),
        "to": _iso(until, where),
        "timezone": str(where),
        "by": by,
        **_added_up(rows, keys, models, in_time=by in TIMES, breakdown=breakdown),
    }


def _spans(connection: Connection, by: By, since: int, until: int, where: tzinfo) -> list[Span]:
    if by in periods.PERIODS:
        return periods.spans(by, since, until, where)
    return windows.spans(connection, since, until, where)


def bounds(connection: Connection) -> tuple[int, int] | None:
    """The first quarter hour with data, and the one after the last."""
    first, last = connection.execute(select(func.min(_c.bucket), func.max(_c.bucket))).one()
    return None if first is None else (int(first), int(last) + 1)


def totals_of(rows: Sequence[Any]) -> dict[str, int]:
    """The sums of rows whose last columns are those of a rollup."""
    if not rows:
        return dict.fromkeys(ROLLUP_SUMS, 0)
    found = [row[-len(ROLLUP_SUMS) :] for row in rows]
    sums = map(sum, zip(*found, strict=True)) if len(found) > 1 else found[0]  # most groups have one model
    return dict(zip(ROLLUP_SUMS, map(int, sums), strict=True))  # PostgreSQL's sums are decimals


def _added_up(
    rows: Sequence[Any], keys: Mapping[int, str], models: Mapping[int, str], *, in_time: bool, breakdown: bool
) -> dict[str, Any]:
    """Totals and groups of rows (key, model, sums). There may be ten thousand, so they are taken apart by position."""
    of_key: dict[int, list[Any]] = defaultdict(list)
    for row in map(tuple, rows):
        of_key[row[0]].append(row)
    groups = []
    for number in sorted(of_key):
        found = of_key[number]
        if len(found) > 1:
            found.sort(key=lambda row: models.get(row[1], ""))
        group = {"key": keys.get(number), **amounts(totals_of(found)), "models": [models[row[1]] for row in found if row[1]]}
        if breakdown:
            group["breakdown"] = [{"model": models.get(row[1]), **amounts(totals_of([row]))} for row in found]
        groups.append(group)
    if not in_time:
        groups.sort(
            key=lambda group: (-(group["cost_usd"] or 0), -group["input_tokens"] - group["output_tokens"], str(group["key"]))
        )
    return {"totals": amounts(totals_of(rows)), "groups": groups}


def _per_span(spans: Sequence[Span], chosen: ColumnElement[bool]) -> Select[Any]:
    """One search of the rollup's key per span, instead of a group per quarter hour.

    The spans are written as text: SQLAlchemy's own `values` takes longer for thousands of them than the database for the answer.
    """
    listed_as = ", ".join(f"({number}, {span.first}, {span.end})" for number, span in enumerate(spans))
    # Both databases name the columns of VALUES column1, column2 ...
    written = text(f"SELECT column1 AS key, column2 AS first, column3 AS after FROM (VALUES {listed_as}) AS listed")  # noqa: S608
    listed = written.columns(column("key", Integer), column("first", Integer), column("after", Integer)).cte("span")
    source: FromClause = listed.join(rollup, and_(_c.bucket >= listed.c.first, _c.bucket < listed.c.after))
    return select(listed.c.key, _c.model, *_sums).select_from(source).where(chosen).group_by(listed.c.key, _c.model)


def _per_dimension(by: By, since: int, until: int, chosen: ColumnElement[bool]) -> Select[Any]:
    within = and_(_c.bucket >= since, _c.bucket < until, chosen)
    if by != "project":
        return select(_c[by].label("key"), _c.model, *_sums).where(within).group_by(_c[by], _c.model)
    project = func.coalesce(session.c.project, literal_column("0"))
    joined = rollup.outerjoin(session, session.c.id == _c.session)
    return select(project.label("key"), _c.model, *_sums).select_from(joined).where(within).group_by(project, _c.model)


def _filtered(connection: Connection, filters: Mapping[Dimension, str]) -> ColumnElement[bool] | None:
    """The condition that a rollup matches the filters; None if one of them names an unknown text."""
    found: ColumnElement[bool] = true()
    for kind, wanted in filters.items():
        number = text_id(connection, kind, wanted)
        if number is None:
            return None
        if kind == "session":
            found = and_(found, _c.session == number, *_lifetime(connection, number))
        elif kind == "project":
            found = and_(found, _c.session.in_(select(session.c.id).where(session.c.project == number)))
        else:
            found = and_(found, _c[kind] == number)
    return found


def _lifetime(connection: Connection, number: int) -> tuple[ColumnElement[bool], ...]:
    """Limits on the time, with which the rollup's key finds a session's rows."""
    seen = select(session.c.first_seen, session.c.last_seen).where(session.c.id == number)
    row = connection.execute(seen).first()
    if row is None:
        return ()
    return _c.bucket >= row.first_seen // BUCKET_MS, _c.bucket <= row.last_seen // BUCKET_MS


def text_id(connection: Connection, kind: str, wanted: str) -> int | None:
    """The id of an interned text; 0 for an empty one; None if it is unknown."""
    if not wanted:
        return 0
    found = connection.execute(select(name.c.id).where(name.c.kind == kind, name.c.text == wanted)).scalar()
    return None if found is None else int(found)


def texts_of(connection: Connection, numbers: set[int]) -> dict[int, str]:
    """The texts of ids."""
    found: dict[int, str] = {}
    wanted = sorted(numbers - {0})
    for start in range(0, len(wanted), 5000):
        part = wanted[start : start + 5000]
        found |= {row.id: row.text for row in connection.execute(select(name.c.id, name.c.text).where(name.c.id.in_(part)))}
    return found


def _iso(quarter: int, where: tzinfo) -> str:
    return datetime.fromtimestamp(quarter * periods.QUARTER, where).isoformat(timespec="seconds")
