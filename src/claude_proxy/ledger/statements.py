"""The writer's statements. SQLAlchemy Core compiles each once; then the driver executes them with tuples.

Executing Core with dictionaries costs 20 us a row, the driver with tuples 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Dialect, bindparam, func, insert, literal_column
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.sql.dml import Insert

from claude_proxy.ledger import tables as t
from claude_proxy.ledger.rows import EXCHANGE_COLUMNS

ATTEMPT_COLUMNS = tuple(column.name for column in t.attempt.columns)
ROLLUP_COLUMNS = (*t.ROLLUP_KEYS, *t.ROLLUP_SUMS)
SESSION_COLUMNS = ("id", "project", "first_seen", "last_seen")
ROWS_AT_ONCE = (100, 20, 4, 1)  # few different numbers, because each makes a statement of its own
_DEFAULTS = tuple(None if t.exchange.c[name].nullable else 0 for name in EXCHANGE_COLUMNS)
NAME_COLUMNS = ("kind", "text", "first_day", "last_day")


@dataclass(frozen=True, slots=True)
class Statements:
    """Text of each statement in the database's own dialect; parameters are tuples in the order of the `*_COLUMNS`."""

    exchange: str
    attempt: str
    session: str
    rollup: str
    name: str
    mark: str  # of a parameter

    def existing(self, count: int) -> str:
        """A query for which of so many exchanges are stored, and by which run."""
        return f"SELECT id, run FROM exchange WHERE id IN ({', '.join([self.mark] * count)})"  # noqa: S608 - only marks


def compile_for(dialect: Dialect) -> Statements:
    """The statements for SQLite or PostgreSQL."""
    upsert: Any = sqlite_insert
    least, greatest = "min", "max"
    if dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as upsert  # 4 MB

        least, greatest = "least", "greatest"
    session = upsert(t.session)
    new, old = session.excluded, t.session.c
    session = session.on_conflict_do_update(
        index_elements=["id"],
        set_={
            "project": _call("coalesce", _call("nullif", new.project, literal_column("0")), old.project),
            "first_seen": _call(least, old.first_seen, new.first_seen),
            "last_seen": _call(greatest, old.last_seen, new.last_seen),
        },
    )
    rollup = upsert(t.rollup)
    rollup = rollup.on_conflict_do_update(
        index_elements=list(t.ROLLUP_KEYS),
        set_={name: t.rollup.c[name] + rollup.excluded[name] for name in t.ROLLUP_SUMS},
    )
    name = upsert(t.name).on_conflict_do_nothing(index_elements=["kind", "text"]).inline()
    mark = "?" if dialect.name == "sqlite" else "%s"
    if sorted(EXCHANGE_COLUMNS) != sorted(column.name for column in t.exchange.columns):
        raise AssertionError(f"{EXCHANGE_COLUMNS} are not the columns of the table")
    return Statements(
        exchange=_rows_of(EXCHANGE_COLUMNS, 1, mark),
        attempt=_text(insert(t.attempt), ATTEMPT_COLUMNS, dialect),
        session=_text(session, SESSION_COLUMNS, dialect),
        rollup=_text(rollup, ROLLUP_COLUMNS, dialect),
        name=_text(name, NAME_COLUMNS, dialect),
        mark=mark,
    )


def insert_exchanges(columns: Sequence[Sequence[Any]], most: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """SQLite's statements that insert rows, given as the columns of EXCHANGE_COLUMNS, and their parameters.

    Columns that have their default in every row are left out. Half of them do, mostly with a NULL, for which Python's driver
    takes as long as for ten numbers: it looks for an adapter of the type.

    Args:
        most: variables that a statement may have.
    """
    count = len(columns[0])
    kept = tuple(
        at
        for at, (column, default) in enumerate(zip(columns, _DEFAULTS, strict=True))
        if column[0] != default or column.count(default) != count
    )
    rows = list(zip(*[columns[at] for at in kept], strict=True))
    start = 0
    for at_once in ROWS_AT_ONCE:
        while count - start >= at_once and (at_once * len(kept) <= most or at_once == 1):
            yield _some_of(kept, at_once), tuple(chain.from_iterable(rows[start : start + at_once]))
            start += at_once


@lru_cache(32)
def _some_of(kept: tuple[int, ...], count: int) -> str:
    return _rows_of([EXCHANGE_COLUMNS[at] for at in kept], count, "?")


def _rows_of(columns: Sequence[str], count: int, mark: str) -> str:
    """An insert of so many rows into `exchange`. SQLAlchemy would put the columns in the table's order."""
    names = ", ".join(f'"{name}"' for name in columns)
    row = f"({', '.join([mark] * len(columns))})"
    return f"INSERT INTO exchange ({names}) VALUES {', '.join([row] * count)}"  # noqa: S608 - our own names


def _call(name: str, *arguments: Any) -> Any:
    return getattr(func, name)(*arguments)


def _text(statement: Insert, columns: Sequence[str], dialect: Dialect) -> str:
    compiled = statement.values({column: bindparam(f"p_{column}") for column in columns}).compile(dialect=dialect)
    order = getattr(compiled, "positiontup", None) or []
    if [name.removeprefix("p_") for name in order[: len(columns)]] != list(columns):
        raise AssertionError(f"{order} is not the order of the columns")
    return str(compiled)
