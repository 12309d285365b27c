"""Sums over a time, in groups. They come from the rollup, where a million exchanges are some ten thousand rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Select,
    Text,
    and_,
    cast,
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
_RANKED = (func.sum(_c.cost_nano).label("cost"), func.sum(_c.input + _c.output).label("tokens"))


def usage(
    connection: Connection,
    by: By,
    *,
    since: int,
    until: int,
    where: tzinfo,
    filters: Mapping[Dimension, str],
    breakdown: bool,
    limit: int | None = None,
    last: int | None = None,
) -> dict[str, Any]:
    """Totals and groups of the quarter hours from `since` to before `until`; see `Books.usage`."""
    found = _NOTHING
    chosen = _filtered(connection, filters)
    if chosen is not None and since < until:
        if by in TIMES:
            spans = _spans(connection, by, since, until, where, filters)
            found = _of_times(connection, spans, chosen, breakdown=breakdown)
            if last is not None:
                found = _latest(found, last)
                since = min((spans[row[0]].span.first for row in found.rows), default=since)
        else:
            found = _of_dimension(connection, by, and_(_c.bucket >= since, _c.bucket < until, chosen), limit, breakdown=breakdown)
    groups = _groups(connection, found, breakdown=breakdown)
    if by not in TIMES:
        groups.sort(
            key=lambda group: (-(group["cost_usd"] or 0), -group["input_tokens"] - group["output_tokens"], str(group["key"]))
        )
    elif limit is not None:
        groups = groups[-limit:]
    answer = {
        "from": _iso(since, where),
        "to": _iso(until, where),
        "timezone": str(where),
        "by": by,
        "totals": amounts(totals_of(found.rows) if found.totals is None else found.totals),
        "groups": groups,
    }
    return answer if limit is None else answer | {"more": found.size - len(groups)}


class _Found(NamedTuple):
    """What a query found.

    Attributes:
        rows: (key, models, sums), or (key, model, sums) with a breakdown.
        size: how many groups there are, with those that a limit leaves out.
        heads: what each group begins with, by its key; None if the keys are ids of texts.
        totals: of all groups, where `rows` do not have them all.
    """

    rows: Sequence[tuple[Any, ...]]
    size: int
    heads: Mapping[int, Mapping[str, Any]] | None = None
    totals: dict[str, int] | None = None


_NOTHING = _Found((), 0)


class _Group(NamedTuple):
    """A span of time, and of which account; None for all of them."""

    span: Span
    account: windows.Account | None = None


def _spans(
    connection: Connection, by: By, since: int, until: int, where: tzinfo, filters: Mapping[Dimension, str]
) -> list[_Group]:
    if by in periods.PERIODS:
        return [_Group(span) for span in periods.spans(by, since, until, where)]
    accounts = _filtered(connection, {kind: text for kind, text in filters.items() if kind in ("upstream", "account")})
    assert accounts is not None
    return [_Group(*found) for found in windows.spans(connection, since, until, where, accounts)]


def _of_times(connection: Connection, groups: Sequence[_Group], chosen: ColumnElement[bool], *, breakdown: bool) -> _Found:
    """The spans that have exchanges."""
    if not groups:
        return _NOTHING
    second = _second(connection, breakdown=breakdown)
    query = _per_step if _are_steps(groups) else _per_span
    rows = _rows(connection, query(groups, chosen, second))
    keys = {row[0] for row in rows}
    return _Found(rows, len(keys), _heads(connection, {number: groups[number] for number in keys}))


def _heads(connection: Connection, groups: Mapping[int, _Group]) -> dict[int, Mapping[str, Any]]:
    numbers = {number for group in groups.values() for number in group.account or ()}
    texts = texts_of(connection, numbers)
    heads: dict[int, Mapping[str, Any]] = {}
    for key, (span, account) in groups.items():
        named = {} if account is None else {"upstream": texts.get(account[0]), "account": texts.get(account[1])}
        heads[key] = {"key": span.key, **named}
    return heads


def _latest(found: _Found, count: int) -> _Found:
    """The latest groups alone."""
    keys = sorted({row[0] for row in found.rows})[-count:]
    return found._replace(rows=[row for row in found.rows if row[0] in keys], size=len(keys))


def _of_dimension(connection: Connection, by: By, within: ColumnElement[bool], limit: int | None, *, breakdown: bool) -> _Found:
    """The groups of a dimension. If there may be more than `limit`, the largest are found first: that needs two sums of each."""
    second, count, totals = _second(connection, breakdown=breakdown), None, None
    if limit is not None and _known(connection, by) > limit:
        key, source = _key_of(by)
        ranked = select(key, *_RANKED).select_from(source).where(within).group_by(key)
        largest, count = _largest(connection, ranked.subquery(), limit)
        totals = totals_of(_rows(connection, select(*_sums).where(within))) if count > limit else None
        within = and_(within, key.in_(largest)) if totals else within
    rows = _rows(connection, _per_dimension(by, within, second))
    return _Found(rows, len({row[0] for row in rows}) if count is None else count, None, totals)


def _known(connection: Connection, by: By) -> int:
    """How many groups there may be besides the one of those that have none: all texts of this kind, of any time."""
    return int(connection.execute(select(func.count()).where(name.c.kind == by)).scalar_one()) + 1


def _largest(connection: Connection, ranked: FromClause, limit: int) -> tuple[list[int], int]:
    """The keys of the most expensive groups, and how many groups there are."""
    c = ranked.c
    order = (c.cost.desc(), c.tokens.desc(), c.key)
    found = connection.execute(select(c.key, func.count().over()).order_by(*order).limit(limit)).all()
    return [row[0] for row in found], found[0][1] if found else 0


def _second(connection: Connection, *, breakdown: bool) -> ColumnElement[Any]:
    """The second column: with a breakdown a row is of one model, else it has the ids of all its models, with commas between.

    Half the rows are read and added up so.
    """
    if breakdown:
        return _c.model
    if connection.dialect.name == "sqlite":
        return func.group_concat(_c.model.distinct())
    return func.string_agg(cast(_c.model, Text).distinct(), literal_column("','"))


def _rows(connection: Connection, query: Select[Any]) -> list[tuple[Any, ...]]:
    return list(map(tuple, connection.execute(query).all()))


def _groups(connection: Connection, found: _Found, *, breakdown: bool) -> list[dict[str, Any]]:
    heads = found.heads
    if heads is None:
        names = texts_of(connection, {row[0] for row in found.rows})
        heads = {row[0]: {"key": names.get(row[0])} for row in found.rows}
    seconds = {row[1] for row in found.rows}
    if breakdown:
        return _with_models(found.rows, heads, texts_of(connection, seconds))
    listed = {second: {int(number) for number in second.split(",")} for second in seconds}
    models = texts_of(connection, set().union(*listed.values()))
    named = {second: sorted(models[number] for number in numbers if number) for second, numbers in listed.items()}
    return [
        {**heads[row[0]], **amounts(totals_of((row,))), "models": named[row[1]][:]}
        for row in sorted(found.rows, key=itemgetter(0))
    ]


def _with_models(rows: Sequence[Any], heads: Mapping[int, Mapping[str, Any]], models: Mapping[int, str]) -> list[dict[str, Any]]:
    of_key: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        of_key[row[0]].append(row)
    groups = []
    for number, found in sorted(of_key.items()):
        found.sort(key=lambda row: models.get(row[1], ""))
        group = {**heads[number], **amounts(totals_of(found)), "models": [models[row[1]] for row in found if row[1]]}
        group["breakdown"] = [{"model": models.get(row[1]), **amounts(totals_of([row]))} for row in found]
        groups.append(group)
    return groups


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


def _are_steps(groups: Sequence[_Group]) -> bool:
    """Whether spans follow one another and are equally long, but for the first and the last, which may be cut."""
    spans = [group.span for group in groups]
    if len(spans) < 3 or groups[0].account is not None:
        return False
    length = spans[1].end - spans[1].first
    as_long = all(span.end - span.first == length for span in spans[1:-1])
    cut = all(span.end - span.first <= length for span in (spans[0], spans[-1]))
    return as_long and cut and all(one.end == after.first for one, after in pairwise(spans))


def _per_step(groups: Sequence[_Group], chosen: ColumnElement[bool], second: ColumnElement[Any]) -> Select[Any]:
    """A division instead of a list: to read a list of thousands takes the database a quarter as long as its answer."""
    start, end = groups[1].span.first, groups[1].span.end
    key = (_c.bucket - literal_column(str(2 * start - end), Integer)) // literal_column(str(end - start), Integer)
    within = and_(_c.bucket >= groups[0].span.first, _c.bucket < groups[-1].span.end, chosen)
    return select(key.label("key"), second, *_sums).where(within).group_by(key, *_also(second))


def _per_span(groups: Sequence[_Group], chosen: ColumnElement[bool], second: ColumnElement[Any]) -> Select[Any]:
    """One search of the rollup's key per span, instead of a group per quarter hour.

    The spans are written as text: SQLAlchemy's own `values` takes longer for thousands of them than the database for the answer.
    """
    listed_as = ", ".join(
        f"({number}, {span.first}, {span.end}{''.join(f', {part}' for part in account or ())})"
        for number, (span, account) in enumerate(groups)
    )
    names = ("key", "first", "after") if groups[0].account is None else ("key", "first", "after", "upstream", "account")
    # Both databases name the columns of VALUES column1, column2 ...
    columns = ", ".join(f"column{number} AS {name}" for number, name in enumerate(names, 1))
    written = text(f"SELECT {columns} FROM (VALUES {listed_as}) AS listed")  # noqa: S608
    listed = written.columns(*(column(name, Integer) for name in names)).cte("span")
    within = and_(_c.bucket >= listed.c.first, _c.bucket < listed.c.after, *(_c[name] == listed.c[name] for name in names[3:]))
    return select(listed.c.key, second, *_sums).select_from(listed.join(rollup, within)).where(chosen).group_by(
        listed.c.key, *_also(second)
    )  # fmt: skip


def _per_dimension(by: By, within: ColumnElement[bool], second: ColumnElement[Any]) -> Select[Any]:
    key, source = _key_of(by)
    return select(key, second, *_sums).select_from(source).where(within).group_by(key, *_also(second))


def _key_of(by: By) -> tuple[ColumnElement[int], FromClause]:
    """The id of a group, and what it is read from."""
    if by != "project":
        return _c[by].label("key"), rollup
    project = func.coalesce(session.c.project, literal_column("0"))
    return project.label("key"), rollup.outerjoin(session, session.c.id == _c.session)


def _also(second: ColumnElement[Any]) -> tuple[ColumnElement[Any], ...]:
    """What rows are grouped by besides their key."""
    return (second,) if second is _c.model else ()


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
    """The texts of ids. The ids are written as text: as parameters, thousands of them take longer than the search."""
    found: dict[int, str] = {}
    wanted = sorted(numbers - {0})
    for start in range(0, len(wanted), 5000):
        listed = ", ".join(map(str, map(int, wanted[start : start + 5000])))
        found |= map(tuple, connection.exec_driver_sql(f"SELECT id, text FROM name WHERE id IN ({listed})"))  # noqa: S608
    return found


def _iso(quarter: int, where: tzinfo) -> str:
    return datetime.fromtimestamp(quarter * periods.QUARTER, where).isoformat(timespec="seconds")
