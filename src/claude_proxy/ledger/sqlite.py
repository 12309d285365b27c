"""What the ledger and capture share of SQLite: how a file is opened, and what its errors mean. Plain `sqlite3`, no SQLAlchemy."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Literal
from urllib.parse import quote

# A statement that inserts a hundred rows takes 150 KB; with Python's 128 a writer's connection grew by 36 MB.
CACHED_STATEMENTS = 16
BUSY_SECONDS = 1.0  # a lock held longer makes the writer pause; a stop must not wait for it either
BUSY = (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED: https://www.sqlite.org/rescode.html
DAMAGED = (11, 26)  # SQLITE_CORRUPT, SQLITE_NOTADB
OURS = (1, 18, 19, 20, 25)  # ERROR, TOOBIG, CONSTRAINT, MISMATCH, RANGE: the same rows would be refused again
_REASONS = {
    5: "{file} is locked by another program",
    6: "{file} is locked by another program",
    8: "{file} is read-only",
    10: "the disk reports an input/output error",
    11: "{file} is damaged",
    13: "the disk is full",
    14: "{file} cannot be opened",
    26: "{file} is damaged",
}


def identity(path: Path) -> tuple[int, int] | None:
    """What tells whether a path still names the same file (device and inode); None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def connect(path: Path, mode: Literal["ro", "rw", "rwc"]) -> sqlite3.Connection:
    """Open a file in SQLite's mode; transactions are the caller's, and so is the choice of thread.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    uri = f"file:{quote(str(path))}?mode={mode}"
    return open_uri(uri)


def open_uri(uri: str) -> sqlite3.Connection:
    """Open a database; see `connect`."""
    return sqlite3.connect(
        uri,
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=CACHED_STATEMENTS,
    )


def code_of(error: BaseException) -> int | None:
    """SQLite's primary result code of an error, which SQLAlchemy may have wrapped; None if it is not SQLite's."""
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def is_damaged(error: BaseException) -> bool:
    """Whether SQLite says that its file is none, or broken."""
    return code_of(error) in DAMAGED


def reason_of(code: int | None, file: str) -> str | None:
    """What a result code means, in words; None where SQLite's own are better.

    Args:
        file: how a person calls the file, such as "the database".
    """
    found = _REASONS.get(code or 0)
    return None if found is None else found.format(file=file)
