"""Where the tests' ledgers are: a file, or a PostgreSQL that is started for them."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import Engine

from claude_proxy import ids
from claude_proxy.ledger.database import file_connect, postgres_engine, sqlite_engine
from claude_proxy.ledger.opening import Opener
from claude_proxy.ledger.options import Options
from claude_proxy.ledger.runs import Process
from claude_proxy.ledger.store import SqlStore
from tests.ledger.books import Clock, Log

_databases = itertools.count(1)
BINARIES = Path("/usr/lib/postgresql")


@dataclass
class Place:
    """One empty ledger, as all processes reach it."""

    folder: Path
    url: str | None = None
    clock: Clock = field(default_factory=Clock)
    log: Log = field(default_factory=Log)
    _pids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def argument(self) -> str:
        """For a child process's command line."""
        return self.url or str(self.folder)

    def options(self, **values: int) -> Options:
        return Options(self.folder, self.url, **values)

    def engine(self, *, reading: bool = False) -> Engine:
        if self.url is not None:
            return postgres_engine(self.url, reading=reading)
        return sqlite_engine(file_connect(self.folder / "ledger.db"), reading=reading)

    def store(self, process: Process | None = None, **options: int) -> SqlStore:
        """Another process's store."""
        process = process or Process(f"boot host-{next(self._pids)} 1", 1)
        return Opener(self.options(**options), ids.Ids(), self.log, process=process, wall=self.clock)()


def binaries() -> Path | None:
    """The newest installed PostgreSQL's programs."""
    found = sorted(BINARIES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def cluster() -> Iterator[str]:
    """A PostgreSQL of our own, on a Unix socket only; gives its address."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    root = os.getuid() == 0
    as_user = ["runuser", "-u", "postgres", "--"] if root else []
    home = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    data, socket = home / "data", home / "s"
    socket.mkdir()
    if root:
        for path in (home, socket):
            shutil.chown(path, "postgres")
    start = ["-o", f"-c listen_addresses='' -c unix_socket_directories={socket} -c fsync=off -c max_connections=60"]
    control = [*as_user, programs / "pg_ctl", "-D", data, "-w", "-s"]
    try:
        _run([*as_user, programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"])
        _run([*control, *start, "-l", home / "log", "start"])
        try:
            yield f"postgresql://postgres@/postgres?host={socket}"
        finally:
            _run([*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(home, ignore_errors=True)


def database(server: str) -> str:
    """The address of a new, empty place for tables: a schema of its own, which is made in a hundredth of a database's time."""
    name = f"ledger_{next(_databases)}"
    engine = postgres_engine(server)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    return f"{server}&options=-csearch_path%3D{name}"


def _run(command: list[str | Path]) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
