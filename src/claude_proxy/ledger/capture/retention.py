"""What goes when it is old, or the file large, enough: a few exchanges at a time, each step its own transaction.

With an exchange go the nodes and blobs that only it used. The file gives pages back in small steps, never by a full VACUUM.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

from claude_proxy import ids
from claude_proxy.ledger.capture.database import transaction
from claude_proxy.ledger.capture.options import CaptureOptions

PASS_SECONDS = 300.0  # between two passes
STEP_SECONDS = 0.02  # between two steps: what waits to be written goes first
STEP_HEADS = 20
STEP_PAGES = 256
FREE_PAGES = 512  # stay in the file for the next rows
TRIM = 0.95  # of max_bytes: what is left when it was exceeded
DAY_MS = 86_400_000


class Retention:
    """Keeps one file within its limits; several processes may do so at once.

    Args:
        options: `keep_days` and `max_bytes`.
        wall: Unix seconds.
    """

    def __init__(self, options: CaptureOptions, wall: Callable[[], float]) -> None:
        self._options = options
        self._wall = wall
        self._steps: Iterator[None] = iter(())
        self._next_look = 0.0

    def hasten(self, connection: sqlite3.Connection) -> bool:
        """Whether the file has grown too large; then the next step is due at once."""
        if used_bytes(connection) <= self._options.max_bytes:
            return False
        self._next_look = 0.0
        return True

    def step(self, connection: sqlite3.Connection) -> float:
        """Do the next piece of work if there is one; returns seconds until the next."""
        now = self._wall()
        try:
            next(self._steps)
        except StopIteration:
            if 0 < self._next_look - now <= PASS_SECONDS:
                return self._next_look - now
            self._next_look = now + PASS_SECONDS
            self._steps = self._look(connection, int(now * 1000))
        except BaseException:
            self._steps = iter(())  # a generator that has raised is at its end
            raise
        return STEP_SECONDS

    def _look(self, connection: sqlite3.Connection, now: int) -> Iterator[None]:
        before = ids.first_of(now - self._options.keep_days * DAY_MS)
        while delete_oldest(connection, before):
            yield
        if used_bytes(connection) > self._options.max_bytes:
            limit = int(self._options.max_bytes * TRIM)
            while trim(connection, limit):
                yield
        while _pragma(connection, "freelist_count") > FREE_PAGES:
            connection.execute(f"PRAGMA incremental_vacuum({STEP_PAGES})").fetchall()
            yield


def delete_oldest(connection: sqlite3.Connection, before: int, heads: int = STEP_HEADS) -> int:
    """Delete the oldest exchanges below an id, one step's worth; returns how many."""
    with transaction(connection):
        found = connection.execute("SELECT id FROM head WHERE id < ? ORDER BY id LIMIT ?", (before, heads)).fetchall()
        for (head,) in found:
            connection.execute("DELETE FROM head WHERE id = ?", (head,))
            _prune(connection, head)
    return len(found)


def trim(connection: sqlite3.Connection, limit: int) -> bool:
    """Delete the oldest exchanges, one by one, until the file is small enough or a step's worth is done; whether that is so."""
    for _ in range(STEP_HEADS):
        if used_bytes(connection) <= limit or not delete_oldest(connection, ids.MAX_ID, heads=1):
            return False
    return True


def _prune(connection: sqlite3.Connection, node: int | None) -> None:
    """Delete a node that nothing hangs on, and those before it as far as they were there for it alone."""
    while node is not None:
        found = connection.execute("SELECT parent, blob FROM node WHERE id = ?", (node,)).fetchone()
        if found is None or connection.execute("SELECT 1 FROM node WHERE parent = ? LIMIT 1", (node,)).fetchone():
            return
        parent, blob = found
        connection.execute("DELETE FROM node WHERE id = ?", (node,))
        if not connection.execute("SELECT 1 FROM node WHERE blob = ? LIMIT 1", (blob,)).fetchone():
            connection.execute("DELETE FROM blob WHERE id = ?", (blob,))
        node = parent


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the file that hold something."""
    pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    return pages * _pragma(connection, "page_size")


def _pragma(connection: sqlite3.Connection, question: str) -> int:
    return int(connection.execute(f"PRAGMA {question}").fetchone()[0])
