"""`capture.db`: its tables, how it is opened, and what SQLite's errors mean for capture.

Plain `sqlite3`, without the ledger's SQLAlchemy: reading a conversation must not load that, and it is always SQLite.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from claude_proxy.ledger import sqlite
from claude_proxy.ledger.options import Trouble

try:
    from compression import zstd
except ImportError:
    from backports import zstd

VERSION = 1
JOURNAL_BYTES = 16 * 1024**2
LEVEL = 3  # of zstd
FILES = ("", "-wal", "-shm")

_SCHEMA = (
    # Each piece of content once. `hash` is over its kind and redacted bytes; `bytes` is their number.
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


class WrongVersion(Exception):
    """The file was written by a newer program."""


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open the file, which is created if needed, readable by its owner only.

    Raises:
        WrongVersion: it is newer than this program.
        sqlite3.Error, OSError: it cannot be used now.
    """
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite.connect(path, "rw")
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
    """Open an existing file for reading only.

    Raises:
        WrongVersion: it is newer than this program.
        sqlite3.Error: it is not there, or cannot be read.
    """
    connection = sqlite.connect(path, "ro")
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
    """A transaction that may write; an exception rolls it back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # a full disk may prevent this as well
            connection.execute("ROLLBACK")
        raise


def trouble(error: sqlite3.Error | OSError) -> Trouble:
    """Classify a database error: what failed, in words, and whether trying again or reopening helps."""
    if isinstance(error, OSError):
        return Trouble((error.strerror or "unusable").lower(), reopen=True)
    code = sqlite.code_of(error)
    reason = sqlite.reason_of(code, "capture.db") or str(error)[:200]
    if code in sqlite.BUSY:
        return Trouble(reason)
    return Trouble(reason, hopeless=code is None or code in sqlite.OURS, reopen=True)


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


def _prepare(connection: sqlite3.Connection) -> None:
    if version_of(connection):
        return
    with transaction(connection):
        if not version_of(connection):  # another process may have been faster
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={VERSION}")
