"""What the ledger's tests share: records, stores, and the sums of a database counted anew from its rows."""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, select

from claude_proxy import ids
from claude_proxy.exchange import Exchange, Kind, Outcome, Usage
from claude_proxy.ledger import schema
from claude_proxy.ledger import tables as t
from claude_proxy.ledger.database import Connect, memory_connect, postgres_engine, sqlite_engine
from claude_proxy.ledger.options import Entry, Options
from claude_proxy.ledger.record import UNKNOWN, Charge, Record, record
from claude_proxy.ledger.runs import Process, Run
from claude_proxy.ledger.store import SqlStore

WALL = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC, a Monday
NOW = int(WALL * 1000)
_numbers = itertools.count(1)


class Log:
    """The log that the writer is given; keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def __call__(self, level: str, event: str, /, **fields: object) -> None:
        self.lines.append((level, event, fields))

    def said(self, part: str) -> list[dict[str, object]]:
        """The fields of the lines that hold `part`."""
        return [fields for _, event, fields in self.lines if part in event]


class Clock:
    """Unix seconds, as the test sets them."""

    def __init__(self, now: float = WALL) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def exchange_of(**values: Any) -> Exchange:
    """A finished Messages exchange."""
    fields: dict[str, Any] = {
        "id": ids.encode(ids.first_of(NOW) | next(_numbers)),
        "method": "POST",
        "path": "/v1/messages",
        "kind": Kind.MESSAGES,
        "client": "127.0.0.1",
        "started": 50.0,
        "started_at": WALL,
        "ended": 52.5,
        "first_byte": 0.75,
        "upstream": "default",
        "model": "glm-5.3",
        "session": "session-1",
        "request_class": "main",
        "outcome": Outcome.COMPLETED,
        "status": 200,
        "usage": Usage(input=100, output=20, cache_read=3000, cache_write=40),
    }
    return Exchange(**(fields | values))


def entry(at: int = NOW, *, charge: Charge = UNKNOWN, number: int | None = None, **values: Any) -> Entry:
    """A row on its way, of an exchange that started at `at` (Unix milliseconds)."""
    number = ids.first_of(at) | next(_numbers) if number is None else number
    return Entry(record(exchange_of(id=ids.encode(number), started_at=at / 1000, **values)), charge)


def records(count: int) -> list[Record]:
    """So many records, each of its own."""
    return [entry().record for _ in range(count)]


class Fault:
    """Makes SQLite fail at the n-th statement from now, before it is carried out or after."""

    def __init__(self) -> None:
        self.left = -1
        self.after = False
        self.struck = False

    def arm(self, left: int, *, after: bool) -> None:
        self.left, self.after, self.struck = left, after, False

    def disarm(self) -> None:
        self.left = -1

    def call(self, work: Callable[[], Any]) -> Any:
        self.left -= 1
        due = self.left == 0
        if due and not self.after:
            self._strike()
        try:
            return work()
        finally:  # also if the statement itself was refused
            if due:
                self._strike()

    def _strike(self) -> None:
        self.struck = True
        raise sqlite3.OperationalError("the power went out")

    def wrap(self, connect: Connect) -> Connect:
        """Connections that fail when this says so."""
        fault = self

        class Cursor(sqlite3.Cursor):
            def execute(self, *arguments: Any) -> Any:
                return fault.call(lambda: super(Cursor, self).execute(*arguments))

            def executemany(self, *arguments: Any) -> Any:
                return fault.call(lambda: super(Cursor, self).executemany(*arguments))

        class Proxy:
            def __init__(self) -> None:
                self.real = connect()

            def __getattr__(self, name: str) -> Any:
                return getattr(self.real, name)

            def cursor(self) -> Any:
                return self.real.cursor(Cursor)

            def commit(self) -> None:
                fault.call(self.real.commit)

        return Proxy


class Memory:
    """A ledger in memory, opened by as many stores as a test wants; each is another process."""

    def __init__(self, wrap: Callable[[Connect], Connect] = lambda connect: connect) -> None:
        self._plain = memory_connect()
        self._kept = self._plain()
        self._connect = wrap(self._plain)
        self._pids = itertools.count(100)
        schema.prepare(self.engine)

    @property
    def engine(self) -> Engine:
        """For looking at it."""
        return sqlite_engine(self._plain)

    def _engine(self) -> Engine:
        return sqlite_engine(self._connect)

    def store(self, *, run: Run | None = None, clock: Callable[[], float] | None = None, log: Log | None = None) -> SqlStore:
        options = Options(Path("/nowhere"))
        return SqlStore(self._engine(), ids.Ids(), run or self.run(), options, log or Log(), wall=clock or Clock())

    def run(self) -> Run:
        """A process of its own."""
        return Run(Process(f"boot host-{next(self._pids)} 1", 1), one_machine=True)

    def close(self) -> None:
        self._kept.close()


class Postgres(Memory):
    """The same in a PostgreSQL."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pids = itertools.count(100)
        schema.prepare(self.engine)

    @property
    def engine(self) -> Engine:
        return postgres_engine(self._url)

    def _engine(self) -> Engine:
        return self.engine

    def close(self) -> None:
        """The server goes with all that is in it."""


def write_all(store: SqlStore, entries: Sequence[Entry], size: int = 200) -> None:
    for start in range(0, len(entries), size):
        store.write(entries[start : start + size], 0)


def rows(connection: Connection, table: str = "exchange") -> list[dict[str, Any]]:
    """A table's rows, in the order of their keys."""
    found = t.metadata.tables[table]
    return [dict(row._mapping) for row in connection.execute(select(found).order_by(*found.primary_key.columns))]


def names(connection: Connection) -> dict[int, str]:
    """Every interned text by its id; 0 is none."""
    return {row["id"]: row["text"] for row in rows(connection, "name")} | {0: ""}


def counted(connection: Connection) -> dict[tuple[int, ...], Counter[str]]:
    """The rollup as it must be, counted from the rows by other means than the store's."""
    kinds = names(connection)
    found: dict[tuple[int, ...], Counter[str]] = defaultdict(Counter)
    for row in rows(connection):
        key = ((row["id"] >> 22) // 900_000, *(row[part] for part in t.ROLLUP_KEYS[1:]))
        kind, outcome = kinds[row["kind"]], kinds[row["outcome"]]
        sums = found[key]
        tokens = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "web_searches")
        sums.update({token: row[token] or 0 for token in tokens})
        sums["exchanges" if kind == "messages" else "count_tokens" if kind == "count_tokens" else "others"] += 1
        if kind == "messages":
            sums["failed"] += row["failed"]
            sums["cancelled"] += outcome == "cancelled"
        sums["cost_nano"] += row["cost_nano"] or 0
        sums["priced"] += row["cost_nano"] is not None
        sums["unpriced"] += row["cost_nano"] is None and any(row[token] for token in tokens)
        sums["credits_micro"] += row["credits_micro"] or 0
        sums["credited"] += row["credits_micro"] is not None
    return found


def rolled_up(connection: Connection) -> dict[tuple[int, ...], Counter[str]]:
    """The rollup as it is."""
    return {
        tuple(row[part] for part in t.ROLLUP_KEYS): Counter({name: row[name] for name in t.ROLLUP_SUMS})
        for row in rows(connection, "rollup")
    }


def snapshot(engine: Engine) -> Connection:
    """A connection whose statements all see one state: a PostgreSQL may still commit what a killed process has sent it."""
    level = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
    return engine.connect().execution_options(**level)


def assert_books_balance(engine: Engine, expected: Sequence[int] | None = None) -> None:
    """The rollup equals the rows, sessions span theirs, and, if given, the rows are exactly those of `expected`."""
    with snapshot(engine) as connection:
        assert {key: +sums for key, sums in rolled_up(connection).items()} == {
            key: +sums for key, sums in counted(connection).items()
        }
        spans: dict[int, list[int]] = defaultdict(list)
        for row in rows(connection):
            if row["session"]:
                spans[row["session"]] += [row["id"] >> 22, (row["id"] >> 22) + row["duration_ms"]]
        seen = {row["id"]: (row["first_seen"], row["last_seen"]) for row in rows(connection, "session")}
        assert seen == {session: (min(times), max(times)) for session, times in spans.items()}
        used = {row[column] for row in rows(connection) for column in t.kinds(t.exchange)}
        assert used <= names(connection).keys()
        if expected is not None:
            assert sorted(row["id"] for row in rows(connection)) == sorted(expected)
