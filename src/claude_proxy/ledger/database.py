"""Engines for the two databases, which configure every connection, and the meaning of the databases' errors."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, NoSuchModuleError, ProgrammingError
from sqlalchemy.pool import NullPool

from claude_proxy.ledger import sqlite
from claude_proxy.ledger.options import LedgerOff, Trouble

JOURNAL_BYTES = 64 * 1024**2
_SNAPSHOT = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
_memories = itertools.count(1)

Connect = Callable[[], Any]


def file_connect(path: Path, *, make: bool = True) -> Connect:
    """Opens a database file; `make` it if it is not there."""
    return lambda: sqlite.connect(path, "rwc" if make else "rw")


def memory_connect() -> Connect:
    """Opens one database in memory, the same for all connections of this process; it lives while one of them is open."""
    uri = f"file:/claude-proxy-{next(_memories)}?vfs=memdb"
    return lambda: sqlite.open_uri(uri)


def sqlite_engine(connect: Connect, *, reading: bool = False) -> Engine:
    """An engine for SQLite. Its transactions take the write lock at once, or never write.

    A transaction that reads first and writes later fails at once, whatever the busy timeout, if another process has written in
    between (https://www.sqlite.org/lang_transaction.html). So a writer's transaction begins with BEGIN IMMEDIATE.
    """
    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)
    begin = "BEGIN" if reading else "BEGIN IMMEDIATE"

    @event.listens_for(engine, "connect")
    def _set_rules(connection: Any, _: object) -> None:
        if reading:
            connection.execute("PRAGMA query_only=1").close()
            return
        if connection.execute("PRAGMA page_count").fetchone() == (0,):  # has no effect once there are tables
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL").close()
        for rule in _WRITER_RULES:
            connection.execute(rule).close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


_WRITER_RULES = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",  # in WAL: a power cut may cost the last commits, never the file
    f"PRAGMA journal_size_limit={JOURNAL_BYTES}",
)


def postgres_engine(database_url: str, *, reading: bool = False) -> Engine:
    """An engine for PostgreSQL by psycopg 3.

    By default each statement of a transaction sees what has been committed until then. An answer that several statements make up
    must not be a mixture: for `reading`, a transaction sees one state of the database, as in SQLite
    (https://www.postgresql.org/docs/current/transaction-iso.html). It is read-only, so no conflict can make it fail.

    Raises:
        LedgerOff: the address cannot be used, or psycopg is not installed.
    """
    try:
        url = make_url(database_url)
        if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
            raise LedgerOff(f"DATABASE_URL begins with {url.drivername}://, expected postgresql://.")
        url = url.set(drivername="postgresql+psycopg")
        engine = create_engine(
            url, poolclass=NullPool, paramstyle="format", hide_parameters=True, connect_args={"connect_timeout": 5},
            execution_options=_SNAPSHOT if reading else {},
        )  # fmt: skip
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise LedgerOff("DATABASE_URL cannot be read: expected postgresql://user:password@host:5432/database.") from None
    except ModuleNotFoundError:
        raise LedgerOff("DATABASE_URL needs psycopg: install claude-proxy[postgres].") from None

    @event.listens_for(engine, "connect")
    def _set_rules(connection: Any, _: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '5s'")
            cursor.execute("SET statement_timeout = '30s'")
            cursor.execute("SET timezone = 'UTC'")
        connection.commit()

    return engine


def trouble(error: Exception) -> Trouble:
    """Classify a database error: what failed, in words, and whether trying again or reopening helps."""
    code = sqlite.code_of(error)
    if code in sqlite.BUSY:
        return Trouble("the database is locked by another program")
    if code is not None and code not in sqlite.OURS:
        known = None if code in sqlite.DAMAGED else sqlite.reason_of(code, "the database file")  # SQLite says what is damaged
        return Trouble(known or _first_line(error), reopen=True)
    ours = (
        isinstance(error, DataError | IntegrityError | ProgrammingError) or not isinstance(error, DBAPIError) or code is not None
    )
    return Trouble(_first_line(error), hopeless=ours, reopen=True)


def _first_line(error: Exception) -> str:
    original = getattr(error, "orig", None) or error
    text = str(original).strip() or type(original).__name__
    return text.splitlines()[0][:200]
