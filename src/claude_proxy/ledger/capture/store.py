"""Writes chains of pieces: each piece once, and of a chain that is known only what is new at its end."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from claude_proxy.ledger.capture.database import FILES, WrongVersion, open_to_write, pack, transaction, trouble
from claude_proxy.ledger.capture.options import CaptureOptions
from claude_proxy.ledger.capture.preparing import Piece, Transcript
from claude_proxy.ledger.capture.retention import Retention
from claude_proxy.ledger.options import Trouble
from claude_proxy.ledger.sqlite import identity, is_damaged

TRIES = 5  # where another process deletes what a chain was to be hung on


class CaptureOff(Exception):
    """Nothing will be captured in this process; the text says why and what to do."""


class _Changed(Exception):
    """What was looked up before the transaction is not so any more."""


Packed = tuple[str, int, bytes]


class Store:
    """An open file. Used by one thread.

    Args:
        connection: from `open_to_write`.
        options: limits.
        wall: Unix seconds.
        notes: what the log is to say about how it was opened.

    Attributes:
        crowded: whether the file is larger than it may be: chores are due at once.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        options: CaptureOptions,
        *,
        wall: Callable[[], float] = time.time,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._connection = connection
        self._options = options
        self._retention = Retention(options, wall)
        self._file = identity(options.path)
        self.notes = notes
        self.crowded = False

    def write(self, transcript: Transcript) -> None:
        """Write all of a transcript or nothing.

        Raises:
            Trouble: nothing was kept, and it may be tried again.
        """
        self._check()
        with self._guarded():
            for _ in range(TRIES):
                with contextlib.suppress(_Changed):
                    self._write(transcript)
                    break
            else:
                raise Trouble("another process deletes at the same places", hopeless=True)
            self.crowded = self._retention.hasten(self._connection)

    def chores(self) -> float:
        """One step of retention; returns seconds until the next.

        Raises:
            Trouble: not now.
        """
        with self._guarded():
            return self._retention.step(self._connection)

    def close(self) -> None:
        """Close the connection. Never raises."""
        with contextlib.suppress(Exception):  # the connection itself may be broken
            self._connection.close()

    def _write(self, transcript: Transcript) -> None:
        ids = [inner_id(link) for link in transcript.links[:-1]] + [transcript.number]
        known = self._known(ids)
        fresh = transcript.pieces[known:]
        packed = {piece.hash: _packed(piece) for piece in fresh if self._blob(piece.hash) is None}
        with transaction(self._connection):
            if known and not self._has(ids[known - 1]):
                raise _Changed
            parent = ids[known - 1] if known else None
            for number, piece in zip(ids[known:], fresh, strict=True):
                self._insert_node(number, parent, self._kept(piece, packed))
                parent = number
            self._connection.execute(
                "INSERT OR IGNORE INTO head VALUES (?, ?, ?)",
                (transcript.number, transcript.links[-1], transcript.note.decode("utf-8", "replace")),
            )

    def _known(self, ids: list[int]) -> int:
        """How many nodes from the chain's start are there: a node never outlives the one before it."""
        for count in range(len(ids), 0, -1):
            if self._has(ids[count - 1]):
                return count
        return 0

    def _has(self, node: int) -> bool:
        return self._connection.execute("SELECT 1 FROM node WHERE id = ?", (node,)).fetchone() is not None

    def _blob(self, digest: bytes) -> int | None:
        found = self._connection.execute("SELECT id FROM blob WHERE hash = ?", (digest,)).fetchone()
        return None if found is None else int(found[0])

    def _kept(self, piece: Piece, packed: dict[bytes, Packed]) -> int:
        """The id of a piece's blob, inserted if need be."""
        found = self._blob(piece.hash)
        if found is not None:
            return found
        if piece.hash not in packed:
            raise _Changed
        kind, size, data = packed[piece.hash]
        cursor = self._connection.execute(
            "INSERT INTO blob (hash, kind, bytes, zstd) VALUES (?, ?, ?, ?)", (piece.hash, kind, size, data)
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _insert_node(self, number: int, parent: int | None, blob: int) -> None:
        self._connection.execute("INSERT OR IGNORE INTO node VALUES (?, ?, ?)", (number, parent, blob))

    def _check(self) -> None:
        """Check that the file is still the one that was opened, and that the disk has enough room.

        Raises:
            Trouble: it is not, or has not.
        """
        if identity(self._options.path) != self._file:
            raise Trouble("capture.db was replaced or removed", reopen=True)
        try:
            free = shutil.disk_usage(self._options.data_dir).free
        except OSError as error:
            raise trouble(error) from error
        if free < self._options.reserve:
            mib = self._options.reserve // 1024**2
            raise Trouble(f"the disk has less than {mib} MiB left, which capture leaves to others")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if is_damaged(error):
                self.close()
                discard(self._options.path, self._file)
                raise Trouble("capture.db was damaged: it is deleted, and a new one begun", reopen=True) from error
            raise trouble(error) from error


class Opener:
    """Opens the store, as often as the thread asks.

    Args:
        options: where it is.
        wall: Unix seconds.
    """

    def __init__(self, options: CaptureOptions, *, wall: Callable[[], float] = time.time) -> None:
        self._options = options
        self._wall = wall

    def __call__(self) -> Store:
        """Open the store.

        Raises:
            CaptureOff: this process cannot capture.
            Trouble: the file cannot be used now.
        """
        options = self._options
        try:
            options.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = identity(options.path)
            try:
                return Store(open_to_write(options.path), options, wall=self._wall)
            except sqlite3.Error as error:
                if not is_damaged(error):
                    raise
            discard(options.path, found)
            note = "capture.db was damaged: it was deleted, and a new one begun"
            return Store(open_to_write(options.path), options, wall=self._wall, notes=(note,))
        except WrongVersion:
            raise CaptureOff("capture.db was written by a newer claude-proxy: update, or delete the file.") from None
        except (sqlite3.Error, OSError) as error:
            raise trouble(error) from error


def inner_id(link: bytes) -> int:
    """The id of a node that is not a chain's last: negative, from the chain's hash up to it."""
    return -(int.from_bytes(link[:8]) >> 1) - 1


def discard(path: Path, found: tuple[int, int] | None) -> None:
    """Delete a damaged file and its journal, unless another process has already done so.

    Unlike a damaged ledger it is not renamed: its conversations would never be deleted.
    """
    if found is None or identity(path) != found:
        return
    for suffix in FILES:
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).unlink()


def _packed(piece: Piece) -> Packed:
    content = piece.content
    return piece.kind, len(content), pack(content)
