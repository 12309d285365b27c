"""Opens the ledger's database, and decides what to do with one that cannot be used.

Loading this module loads SQLAlchemy (10 MB, 0.1 s): the writer's thread does it.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from claude_proxy import ids
from claude_proxy.ledger import schema
from claude_proxy.ledger.database import (
    Connect,
    file_connect,
    memory_connect,
    postgres_engine,
    sqlite_engine,
    trouble,
)
from claude_proxy.ledger.options import FILE, MEMORY_BYTES, LedgerOff, Options, Say, Trouble
from claude_proxy.ledger.runs import Process, Run, Unclean, this_process
from claude_proxy.ledger.sqlite import identity, is_damaged
from claude_proxy.ledger.store import SqlStore

Wrap = Callable[[Connect], Connect]


class Opener:
    """Opens the store, as often as the writer asks. All stores of a process share one run.

    Args:
        options: where the ledger is.
        make_id: gets the worker number that the database leases.
        say: the log.
        process: identifies this process in the table of runs.
        wall: Unix seconds.
        wrap: wraps the function that opens SQLite connections (for tests).
        on_unclean: called with each process that was found dead.
    """

    def __init__(
        self,
        options: Options,
        make_id: ids.Ids,
        say: Say,
        *,
        process: Process | None = None,
        wall: Callable[[], float] = time.time,
        wrap: Wrap | None = None,
        on_unclean: Callable[[Unclean], None] = lambda dead: None,
    ) -> None:
        self._options = options
        self._make_id = make_id
        self._say = say
        self._wall = wall
        self._on_unclean = on_unclean
        self._wrap = wrap or (lambda connect: connect)
        self._run = Run(process or this_process(options.version), one_machine=options.database_url is None)
        self._suspect = False  # SQLite reported damage while the file was in use
        self._memory: sqlite3.Connection | None = None
        self.reading: Connect | None = None  # how readers in this process reach a ledger in memory

    def __call__(self) -> SqlStore:
        """Open the store.

        Raises:
            LedgerOff: there will be no ledger in this process.
            Trouble: the database cannot be used now.
        """
        if self._options.database_url is not None:
            return self._store(postgres_engine(self._options.database_url), None)
        reason = self._unusable_folder()
        if reason is not None:
            return self._in_memory(reason)
        return self._in_file(self._options.data_dir / FILE)

    def _unusable_folder(self) -> str | None:
        """Why DATA_DIR can never hold a file; None if it can, or may later."""
        folder = self._options.data_dir
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            return (error.strerror or "not writable").lower()
        except OSError as error:
            if error.errno != errno.EROFS:
                raise Trouble(f"DATA_DIR {folder}: {(error.strerror or 'unusable').lower()}", reopen=True) from error
            return "read-only file system"
        return None if os.access(folder, os.W_OK | os.X_OK) else "not writable"

    def _in_memory(self, reason: str) -> SqlStore:
        if self._memory is None:
            self.reading = self._wrap(memory_connect())
            self._memory = self.reading()  # keeps the database in memory alive while the store is reopened
            self._say(
                "warning",
                "the ledger is kept in memory and ends with this process: DATA_DIR cannot be written",
                data_dir=str(self._options.data_dir),
                reason=reason,
                bytes=MEMORY_BYTES,
            )
        assert self.reading is not None
        small = Options(self._options.data_dir, None, self._options.keep_days, min(self._options.max_bytes, MEMORY_BYTES))
        return self._store(sqlite_engine(self.reading), None, options=small, in_memory=True)

    def _in_file(self, path: Path) -> SqlStore:
        connect = self._wrap(file_connect(path))
        found = identity(path)
        try:
            self._check(sqlite_engine(connect, reading=True))
            return self._store(sqlite_engine(connect), path)
        except Exception as error:  # SQLAlchemy's, sqlite3's or ours: `trouble` tells them apart
            cause = error.__cause__ if isinstance(error, Trouble) else error
            if cause is None or not is_damaged(cause):
                raise (error if isinstance(error, Trouble | LedgerOff) else trouble(error)) from error
        self._set_aside(path, found)
        return self._store(sqlite_engine(connect), path)

    def _check(self, engine: Engine) -> None:
        """Check a file: always its header; all of it after a kill, or after SQLite reported damage.

        Raises:
            DatabaseError: it is damaged.
        """
        with engine.connect() as connection, connection.begin():
            if schema.version_of(connection) != schema.HEAD:
                return
            if not self._suspect and not self._run.dead(connection, int(self._wall() * 1000)):
                return
            self._suspect = False
            verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            if verdict != "ok":
                raise Damaged(str(verdict))

    def _store(self, engine: Engine, path: Path | None, *, options: Options | None = None, in_memory: bool = False) -> SqlStore:
        try:
            schema.prepare(engine)
        except LedgerOff:
            raise
        except Exception as error:  # as above
            raise trouble(error) from error
        return SqlStore(
            engine,
            self._make_id,
            self._run,
            options or self._options,
            self._say,
            wall=self._wall,
            path=path,
            in_memory=in_memory,
            on_damage=self._suspected,
            on_unclean=self._on_unclean,
        )

    def _suspected(self) -> None:
        self._suspect = True

    def _set_aside(self, path: Path, found: tuple[int, int] | None) -> None:
        """Rename a damaged file and its journal, unless another process has already done so."""
        if found is None or identity(path) != found:
            return
        aside = path.with_name(f"{path.name}.damaged-{datetime.fromtimestamp(self._wall(), UTC):%Y%m%dT%H%M%SZ}")
        for suffix in ("", "-wal", "-shm"):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        self._say("error", "the ledger was damaged: it was set aside, and a new one begun", kept_as=str(aside))


class Damaged(sqlite3.DatabaseError):
    """`quick_check` found a fault."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT
