"""`capture.db`: its tables, how it is opened, and what SQLite's errors mean for capture.

Plain `sqlite3`, without the ledger's SQLAlchemy: reading a conversation must not load that, and the statements are SQLite's own.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from claude_proxy.ledger.options import Trouble

try:
    from compression import zstd
except ImportError:
    from backports import zstd

VERSION = 1
BUSY_SECONDS = 1.0
JOURNAL_BYTES = 16 * 1024**2
LEVEL = 3  # of zstd
FILES = ("", "-wal", "-shm")

_SCHEMA = (
    # A piece of content, once. `hash` is of its redacted bytes and its kind; `bytes` is how many they are.
    """CREATE TABLE blob (
        id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, kind TEXT NOT NULL, bytes INTEGER NOT NULL, zstd BLOB NOT NULL
    )""",
    # A conversation is a chain from its last node to the first. Inner nodes have negative ids, made of the chain's hash; the last
    # one has the id of its exchange.
    "CREATE TABLE node (id INTEGER PRIMARY KEY, parent INTEGER, blob INTEGER NOT NULL)",
    "CREATE INDEX node_parent ON node (parent) WHERE parent IS NOT NULL",
    "CREATE INDEX node_blob ON node (blob)",
    # One per captured exchange: the hash of its chain, and what else is known of it, as JSON.
    "CREATE TABLE head (id INTEGER PRIMARY KEY, link BLOB NOT NULL, note TEXT NOT NULL)",
)
_BUSY = (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED: https://www.sqlite.org/rescode.html
_DAMAGED = (11, 26)  # SQLITE_CORRUPT, SQLITE_NOTADB
_REASONS = {
    5: "capture.db is locked by another program",
    6: "capture.db is locked by another program",
    8: "capture.db is read-only",
    10: "the disk reports an input/output error",
    11: "capture.db is damaged",
    13: "the disk is full",
    14: "capture.db cannot be opened",
    26: "capture.db is damaged",
}


class WrongVersion(Exception):
    """The file was written by a newer program."""


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open the file, made if it is not there; nobody but its owner can read it.

    Raises:
        WrongVersion: it is newer than this program.
        sqlite3.Error, OSError: it cannot be used now.
    """
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = _connect(path, "rw")
    try:
        if connection.execute("PRAGMA page_count").fetchone() == (0,):  # later it would change nothing
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")  # a power cut may cost the last exchanges, never the file
        connection.execute(f"PRAGMA journal_size_limit={JOURNAL_BYTES}")
        connection.execute("PRAGMA secure_delete=FAST")
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open the file as it is; nothing is ever written through this connection.

    Raises:
        WrongVersion: it is newer than this program.
        sqlite3.Error: it is not there, or cannot be read.
    """
    connection = _connect(path, "ro")
    try:
        version_of(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def version_of(connection: sqlite3.Connection) -> int:
    """The version of the tables; 0 where there are none.

    Raises:
        WrongVersion: newer than ours.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise WrongVersion
    return version


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that may write: all of it, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # the disk may be full for this as well
            connection.execute("ROLLBACK")
        raise


def trouble(error: sqlite3.Error | OSError) -> Trouble:
    """What went wrong, in words, and what helps against it."""
    if isinstance(error, OSError):
        return Trouble((error.strerror or "unusable").lower(), reopen=True)
    code = _code(error)
    if code in _BUSY:
        return Trouble(_REASONS[code])
    ours = code in (None, 1, 18, 19, 20, 25)  # ERROR, TOOBIG, CONSTRAINT, MISMATCH, RANGE
    return Trouble(_REASONS.get(code or 0, str(error)[:200]), hopeless=ours, reopen=True)


def is_damaged(error: BaseException) -> bool:
    """Whether SQLite says that its file is none, or broken."""
    return isinstance(error, sqlite3.Error) and _code(error) in _DAMAGED


def pack(content: bytes) -> bytes:
    """Compress a piece."""
    packed: bytes = zstd.compress(content, LEVEL)
    return packed


def unpack(packed: bytes, size: int) -> bytes:
    """Decompress a piece, to no more than `size` bytes.

    Raises:
        ValueError: it is not what was packed.
    """
    try:
        content: bytes = zstd.ZstdDecompressor().decompress(packed, size + 1)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from None
    return content


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(path))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _prepare(connection: sqlite3.Connection) -> None:
    if version_of(connection):
        return
    with transaction(connection):
        if not version_of(connection):  # another process may have been faster
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={VERSION}")


def _code(error: sqlite3.Error) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
