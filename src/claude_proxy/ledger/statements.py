"""The writer's statements. SQLAlchemy Core compiles each once; then the driver executes them with tuples.

Executing Core with dictionaries costs 20 us a row, the driver with tuples 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Dialect, bindparam, func, insert, literal_column
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.sql.dml import Insert

from claude_proxy.ledger import tables as t
from claude_proxy.ledger.rows import EXCHANGE_COLUMNS

ATTEMPT_COLUMNS = tuple(column.name for column in t.attempt.columns)
ROLLUP_COLUMNS = (*t.ROLLUP_KEYS, *t.ROLLUP_SUMS)
SESSION_COLUMNS = ("id", "project", "first_seen", "last_seen")
ROWS_AT_ONCE = 50
NAME_COLUMNS = ("kind", "text", "first_day", "last_day")


@dataclass(frozen=True, slots=True)
class Statements:
    """Text of each statement in the database's own dialect; parameters are tuples in the order of the `*_COLUMNS`."""

    exchange: str
    exchanges: str  # ROWS_AT_ONCE of them
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
    head, marks = _row_of(EXCHANGE_COLUMNS, mark, dialect)
    return Statements(
        exchange=head + marks,
        exchanges=head + ", ".join([marks] * ROWS_AT_ONCE),
        attempt=_text(insert(t.attempt), ATTEMPT_COLUMNS, dialect),
        session=_text(session, SESSION_COLUMNS, dialect),
        rollup=_text(rollup, ROLLUP_COLUMNS, dialect),
        name=_text(name, NAME_COLUMNS, dialect),
        mark=mark,
    )


def _row_of(columns: Sequence[str], mark: str, dialect: Dialect) -> tuple[str, str]:
    """An insert into `exchange` up to VALUES, and the marks of one row. SQLAlchemy would put the columns in the table's order."""
    if sorted(columns) != sorted(column.name for column in t.exchange.columns):
        raise AssertionError(f"{columns} are not the columns of the table")
    quoted = ", ".join(map(dialect.identifier_preparer.quote, columns))
    return f"INSERT INTO exchange ({quoted}) VALUES ", f"({', '.join([mark] * len(columns))})"  # noqa: S608 - our own names


def _call(name: str, *arguments: Any) -> Any:
    return getattr(func, name)(*arguments)


def _text(statement: Insert, columns: Sequence[str], dialect: Dialect) -> str:
    compiled = statement.values({column: bindparam(f"p_{column}") for column in columns}).compile(dialect=dialect)
    order = getattr(compiled, "positiontup", None) or []
    if [name.removeprefix("p_") for name in order[: len(columns)]] != list(columns):
        raise AssertionError(f"{order} is not the order of the columns")
    return str(compiled)
