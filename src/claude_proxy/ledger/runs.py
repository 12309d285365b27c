"""The table of runs: each process has a row with its worker number and a heartbeat, by which a killed process is detected.

An open row leases a worker number. The row of a dead process is closed as an unclean end. Where the process id is valid (same
host, boot and namespace) the system says whether a process is dead; elsewhere, missing heartbeats do.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, insert, select, text, update

from claude_proxy import ids
from claude_proxy.ledger.tables import run

HEARTBEAT_MS = 60_000
LAPSE_MS = 3 * HEARTBEAT_MS + 10_000  # three missed heartbeats
_LOCK = 0x6C656472  # of PostgreSQL's advisory locks: two processes must not find the same number free


@dataclass(frozen=True, slots=True)
class Process:
    """A process: its `pid` is valid in `place`, which begins with the id of the boot."""

    place: str
    pid: int
    version: str = ""


@dataclass(frozen=True, slots=True)
class Unclean:
    """A run that did not end in order."""

    worker: int
    started: int
    seen: int


def this_process(version: str = "") -> Process:
    """The running process."""
    boot = _read("/proc/sys/kernel/random/boot_id")[:8] or "-"
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino if sys.platform == "linux" else 0  # noqa: PTH116 - a link to no path
    except OSError:
        namespace = 0
    return Process(f"{boot} {socket.gethostname()} {namespace}", os.getpid(), version)


@dataclass(frozen=True, slots=True)
class Lease:
    """A row with its worker number (None if all 512 are taken), and the dead runs that were found."""

    id: int
    worker: int | None
    unclean: tuple[Unclean, ...]


class Run:
    """This process's row, kept however often the database is reopened.

    Args:
        process: who runs.
        one_machine: whether all runs are on one machine (SQLite): then runs from before its last boot are dead.
    """

    def __init__(self, process: Process, *, one_machine: bool) -> None:
        self._process = process
        self._one_machine = one_machine
        self.id = 0
        self.worker: int | None = None
        self.own: set[int] = set()  # ids of all rows that this process has had; exchanges of these runs are its own

    def begin(self, connection: Connection, now: int) -> Lease:
        """Take a row and a worker number, or keep the present ones, and close the rows of dead processes.

        Call it inside a transaction, and `adopt` the result after the commit.
        """
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        kept = bool(self.id) and self.beat(connection, now, None)
        unclean = self.bury(connection, now)
        if kept:
            return Lease(self.id, self.worker, unclean)
        taken = set(connection.execute(select(run.c.worker).where(run.c.ended.is_(None))).scalars())
        worker = next((number for number in range(ids.LEASED) if number not in taken), None)
        process = self._process
        row = {"worker": ids.LEASED if worker is None else worker, "place": process.place, "pid": process.pid}
        row |= {"version": process.version, "started": now, "seen": now, "lost": 0}
        made = connection.execute(insert(run).values(row).returning(run.c.id)).scalar_one()
        return Lease(int(made), worker, unclean)

    def adopt(self, lease: Lease) -> None:
        """The transaction of `begin` was committed."""
        self.id, self.worker = lease.id, lease.worker
        self.own.add(lease.id)

    def bury(self, connection: Connection, now: int) -> tuple[Unclean, ...]:
        """Close the rows of dead processes."""
        found = self.dead(connection, now)
        for row in found:
            connection.execute(update(run).where(run.c.id == row.id).values(ended=row.seen, clean=0))
        return tuple(Unclean(row.worker, row.started, row.seen) for row in found)

    def beat(self, connection: Connection, now: int, lost: int | None) -> bool:
        """Record a heartbeat. Returns False if another process took this one for dead and closed its row: `begin` again."""
        values = {"seen": now} if lost is None else {"seen": now, "lost": lost}
        return connection.execute(update(run).where(run.c.id == self.id, run.c.ended.is_(None)).values(values)).rowcount == 1

    def end(self, connection: Connection, now: int, lost: int) -> None:
        """Close the row as a clean end."""
        values = {"seen": now, "ended": now, "clean": 1, "lost": lost}
        connection.execute(update(run).where(run.c.id == self.id, run.c.ended.is_(None)).values(values))

    def dead(self, connection: Connection, now: int) -> Sequence[Row[Any]]:
        """Open rows whose process is dead."""
        rows = connection.execute(select(run).where(run.c.ended.is_(None), run.c.id.not_in(self.own))).all()
        return [row for row in rows if self._is_dead(row.place, row.pid, row.seen, now)]

    def _is_dead(self, place: str, pid: int, seen: int, now: int) -> bool:
        mine = self._process
        if place == mine.place:
            return pid == mine.pid or not is_alive(pid)
        if self._one_machine and place.split(" ")[0] != mine.place.split(" ")[0]:
            return True  # the machine was rebooted since
        return now - seen > LAPSE_MS


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs."""
    if sys.platform == "win32":
        return True  # there, os.kill(pid, 0) would end it; only heartbeats tell
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
