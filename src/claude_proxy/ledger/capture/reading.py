"""Reads captured conversations, for the command line and the page."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from claude_proxy import ids
from claude_proxy.ledger.capture.cutting import decode_layout
from claude_proxy.ledger.capture.database import WrongVersion, open_to_read, trouble, unpack
from claude_proxy.ledger.capture.options import FILE, MAX_BODY
from claude_proxy.ledger.capture.preparing import ANSWER, BEGINNING, ERROR, REST, TEXT, WHOLE, Note, chain, content_hash

MAX_BYTES = 4 * MAX_BODY  # of one conversation; more is damage
MAX_DEPTH = 100_000
_CHAIN = """
WITH RECURSIVE up (id, parent, blob, depth) AS (
    SELECT id, parent, blob, 0 FROM node WHERE id = ?
    UNION ALL SELECT node.id, node.parent, node.blob, depth + 1 FROM node JOIN up ON node.id = up.parent WHERE depth < ?)
SELECT blob.hash, blob.kind, blob.bytes, blob.zstd FROM up JOIN blob ON blob.id = up.blob ORDER BY depth DESC
"""


class NoConversations(Exception):
    """There is nothing to read; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of a conversation, redacted.

    Attributes:
        kind: `tool`, `system` or `message` of the request; `whole` or `beginning` of a request that is no JSON or was too long;
            `rest`, what is left of one that was cut; `answer`, `error`, `text` or `nothing` of the answer.
        data: as it was written, mostly JSON.
        hash: of its content; equal blocks of all conversations have the same.
    """

    kind: str
    data: bytes
    hash: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    def value(self) -> Any:
        """Its JSON value; None if it is not JSON."""
        try:
            return msgspec.json.decode(self.data)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None


@dataclass(frozen=True, slots=True)
class Transcript:
    """One captured exchange.

    Attributes:
        number: its id.
        note: what is known of it besides its bodies.
        blocks: in the order of the prompt, then the answer's.
        sound: whether all blocks are what was written, and none is missing.
    """

    number: int
    note: Note
    blocks: tuple[Block, ...]
    sound: bool

    @property
    def id(self) -> str:
        """The exchange's id as people see it."""
        return ids.encode(self.number)

    @property
    def answer(self) -> tuple[Block, ...]:
        """The blocks of the answer."""
        return self.of(ANSWER, ERROR, TEXT)

    @property
    def request(self) -> bytes | None:
        """The request's body as it was sent, but for what was redacted; only its beginning where no more was kept."""
        for block in self.of(WHOLE, BEGINNING):
            return block.data
        for block in self.of(REST):
            try:
                layout = decode_layout(block.data)
            except msgspec.MsgspecError:
                return None
            return layout.body({kind: [one.data for one in self.of(kind)] for kind in ("tool", "system", "message")})
        return None

    def of(self, *kinds: str) -> tuple[Block, ...]:
        """The blocks of these kinds."""
        return tuple(block for block in self.blocks if block.kind in kinds)


class Conversations:
    """Reads `capture.db`, while it is written or not. Use it as a context manager, or close it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, data_dir: Path) -> Conversations:
        """The conversations that are kept in `data_dir`.

        Raises:
            NoConversations: nothing was captured, or it cannot be read.
        """
        path = data_dir / FILE
        if not path.exists():
            raise NoConversations(f"No conversations are kept in {data_dir}. With CAPTURE=all the proxy keeps new ones.")
        try:
            return cls(open_to_read(path))
        except WrongVersion:
            raise NoConversations(f"{path} was written by a newer claude-proxy. Update this one to read it.") from None
        except sqlite3.Error as error:
            raise NoConversations(f"{path} cannot be read: {trouble(error).reason}.") from None

    def __enter__(self) -> Conversations:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def numbers(self, limit: int = 50) -> list[int]:
        """The ids of the newest captured exchanges, newest first."""
        return [row[0] for row in self._rows("SELECT id FROM head ORDER BY id DESC LIMIT ?", limit)]

    def transcript(self, number: int) -> Transcript | None:
        """One captured exchange by its id, such as `ids.decode` gives; None if it is not kept, or not any more.

        Raises:
            NoConversations: the file cannot be read.
        """
        with self._snapshot():
            head = next(iter(self._rows("SELECT link, note FROM head WHERE id = ?", number)), None)
            if head is None:
                return None
            found = list(self._blocks(number))
        link, text = head
        try:
            note, sound = msgspec.json.decode(text, type=Note), True
        except (msgspec.MsgspecError, UnicodeError):
            note, sound = Note(), False
        blocks = [block for block, _ in found]
        sound = sound and all(fits for _, fits in found)
        links = list(chain(block.hash for block in blocks))
        return Transcript(number, note, tuple(blocks), sound and bool(links) and links[-1] == link)

    def _blocks(self, number: int) -> Iterator[tuple[Block, bool]]:
        """The blocks of a chain, each with whether it is what was written."""
        total = 0
        for digest, kind, size, packed in self._rows(_CHAIN, number, MAX_DEPTH):
            total += size
            if size < 0 or total > MAX_BYTES:
                return
            try:
                data = unpack(packed, size)
            except ValueError:
                data = b""
            yield Block(kind, data, digest), content_hash(kind, data) == digest

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """All statements inside see one state of the file: what is deleted meanwhile would look like damage."""
        list(self._rows("BEGIN"))
        try:
            yield
        finally:
            self._connection.rollback()

    def _rows(self, statement: str, *values: int) -> Iterator[tuple[Any, ...]]:
        try:
            cursor = self._connection.execute(statement, values)
            try:
                yield from cursor
            finally:
                cursor.close()  # a reader that is left open would keep the journal from shrinking
        except sqlite3.Error as error:
            raise NoConversations(f"capture.db cannot be read: {trouble(error).reason}.") from None
