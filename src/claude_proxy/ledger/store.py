"""Writes batches to the database: one transaction per batch inserts each row once and adds it to the sums."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import IntegrityError

from claude_proxy import ids
from claude_proxy.ledger import incidents
from claude_proxy.ledger.database import trouble
from claude_proxy.ledger.names import Names
from claude_proxy.ledger.options import Entry, IncidentRow, Options, Sample, Say, Trouble
from claude_proxy.ledger.retention import Retention
from claude_proxy.ledger.rows import Batch
from claude_proxy.ledger.runs import HEARTBEAT_MS, Run, Unclean
from claude_proxy.ledger.samples import keep
from claude_proxy.ledger.sqlite import identity, is_damaged
from claude_proxy.ledger.statements import compile_for, insert_exchanges
from claude_proxy.ledger.tables import DAY_MS, exchange

T = TypeVar("T")
_existing = select(exchange.c.id, exchange.c.run)


class SqlStore:
    """Writes to a prepared database. Used by one thread.

    Args:
        engine: from `database`, with the schema made.
        make_id: gets the leased worker number.
        run: this process's; stores that follow one another share it.
        options: for retention.
        say: the log.
        wall: Unix seconds.
        path: the file, if there is one; if it is replaced, the store asks to be reopened.
        in_memory: whether the data ends with the process.
        on_damage: called when the database reports damage.
        on_unclean: called with each process that was found dead.

    Raises:
        Trouble: the database does not let a run begin.
    """

    def __init__(
        self,
        engine: Engine,
        make_id: ids.Ids,
        run: Run,
        options: Options,
        say: Say,
        *,
        wall: Callable[[], float] = time.time,
        path: Path | None = None,
        in_memory: bool = False,
        on_damage: Callable[[], None] = lambda: None,
        on_unclean: Callable[[Unclean], None] = lambda dead: None,
    ) -> None:
        self.in_memory = in_memory
        self._on_damage = on_damage
        self._on_unclean = on_unclean
        self._wall = wall
        self._say = say
        self._make_id = make_id
        self._path = path
        self._statements = compile_for(engine.dialect)
        self._names = Names(self._statements)
        self._run = run
        self._retention = Retention(options, wall)
        self._beat_at = 0.0
        self._lost = 0
        try:
            self._connection = engine.connect()
        except Exception as error:
            raise trouble(error) from error
        self._file = self._identity()
        self._begin_run()

    def write(self, batch: Sequence[Entry], lost: int) -> None:
        """Write all of a batch or nothing. An entry whose id belongs to another run gets a new id, which it keeps."""
        self._lost = lost
        self._check_file()
        try:
            alive = self._guarded(lambda connection, now: self._write(connection, now, batch))
        except Trouble as error:
            if not isinstance(error.__cause__, IntegrityError):
                raise
            # Rarely an entry is there already: it was stored before a retry, or its id belongs to another run.
            alive = self._guarded(lambda connection, now: self._write(connection, now, self._new(connection, batch)))
        self._names.commit()
        if not alive:
            self._begin_run()

    def sample(self, taken: Sample | IncidentRow) -> None:
        """Write a quota sample in place of the one of the same quarter hour, or the present state of an incident."""
        self._check_file()
        if isinstance(taken, IncidentRow):
            self._guarded(lambda connection, now: incidents.keep(connection, taken))
            return
        self._guarded(lambda connection, now: keep(connection, self._names, taken, now // DAY_MS))
        self._names.commit()

    def chores(self) -> float:
        """Record the heartbeat if it is due, and do one step of retention."""
        if self._wall() >= self._beat_at:
            self._check_file()
            self._heartbeat()
        try:
            wait = self._retention.step(self._connection)
        except Exception as error:
            raise self._trouble(error) from error
        return max(0.0, min(wait, self._beat_at - self._wall()))

    def close(self, lost: int | None) -> None:
        """Close the connection; given a number of lost rows, end the run cleanly."""
        try:
            if lost is not None:
                self._guarded(lambda connection, now: self._run.end(connection, now, lost))
        except Trouble as error:
            self._say("warning", "the ledger was not closed in order", reason=error.reason)
        with contextlib.suppress(Exception):  # the connection itself may be broken
            self._connection.close()

    def _guarded(self, work: Callable[[Connection, int], T]) -> T:
        """Do `work` in one transaction: all of it, or nothing and Trouble."""
        try:
            with self._connection.begin():
                return work(self._connection, int(self._wall() * 1000))
        except Trouble:
            raise
        except Exception as error:
            raise self._trouble(error) from error

    def _trouble(self, error: Exception) -> Trouble:
        if is_damaged(error):
            self._on_damage()
        with contextlib.suppress(Exception):  # a failed COMMIT leaves its transaction open
            self._connection.connection.rollback()
        return trouble(error)

    def _begin_run(self) -> None:
        lease = self._guarded(self._run.begin)
        self._run.adopt(lease)
        self._tell(lease.unclean)
        if lease.worker is not None:
            self._make_id.worker = lease.worker
        self._beat_at = self._wall() + HEARTBEAT_MS / 1000

    def _heartbeat(self) -> None:
        alive = self._guarded(lambda connection, now: self._run.beat(connection, now, self._lost))
        if not alive:
            self._begin_run()
        self._tell(self._guarded(self._run.bury))
        self._beat_at = self._wall() + HEARTBEAT_MS / 1000

    def _tell(self, unclean: Iterable[Unclean]) -> None:
        for dead in unclean:
            self._on_unclean(dead)
            self._say(
                "warning",
                "a process before this one was killed: exchanges of its last second may be missing in the ledger",
                worker=dead.worker,
                started=_iso(dead.started),
                last_seen=_iso(dead.seen),
            )

    def _write(self, connection: Connection, now: int, batch: Sequence[Entry]) -> bool:
        if batch:
            new = Batch(batch)
            rows = new.rows(self._names.resolve(connection, new.texts(), now // DAY_MS), self._run.id)
            self._insert(connection, rows.exchanges)
            for statement, tuples in (
                (self._statements.attempt, rows.attempts),
                (self._statements.session, rows.sessions),
                (self._statements.rollup, rows.rollups),
            ):
                if tuples:
                    connection.exec_driver_sql(statement, tuples)
        return self._run.beat(connection, now, self._lost)

    def _insert(self, connection: Connection, columns: Sequence[Sequence[Any]]) -> None:
        """Insert several rows with each statement in SQLite: its driver releases the interpreter's lock for each execution, and
        taking it back from a busy event loop costs more than the row.
        """
        if connection.dialect.name != "sqlite":
            connection.exec_driver_sql(self._statements.exchange, list(zip(*columns, strict=True)))
            return
        variables = _raw(connection).getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)  # 999 before SQLite 3.32
        for statement, values in insert_exchanges(columns, variables):
            connection.exec_driver_sql(statement, values)

    def _new(self, connection: Connection, batch: Sequence[Entry]) -> list[Entry]:
        """The entries that are not stored yet. One that this process has stored comes from a batch that is tried again."""
        numbers = [entry.record.id for entry in batch]
        there: dict[int, int] = dict(iter(connection.exec_driver_sql(self._statements.existing(len(numbers)), tuple(numbers))))
        new, seen = [], set()
        for entry in batch:
            number = entry.record.id
            if number in seen or (number in there and there[number] not in self._run.own):
                self._remint(connection, entry)
            elif number in there:
                continue
            seen.add(entry.record.id)
            new.append(entry)
        return new

    def _remint(self, connection: Connection, entry: Entry) -> None:
        """Give an entry another id, which it keeps over retries."""
        old = new = entry.record.id
        while new == old or connection.execute(_existing.where(exchange.c.id == new)).first() is not None:
            new = ids.reminted(old)
        entry.record = msgspec.structs.replace(entry.record, id=new)
        self._say("warning", "an exchange's id was taken", id=ids.encode(old), booked_as=ids.encode(new))

    def _check_file(self) -> None:
        if self._identity() != self._file:
            raise Trouble("the database file was moved or replaced", reopen=True)

    def _identity(self) -> tuple[int, int] | None:
        return None if self._path is None else identity(self._path)


def _raw(connection: Connection) -> sqlite3.Connection:
    raw: Any = connection.connection.driver_connection
    return cast("sqlite3.Connection", raw)


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")
