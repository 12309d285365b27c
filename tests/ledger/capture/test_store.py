"""The file: each piece once, whole transcripts or none, deleted when old or too large, and what becomes of a broken one."""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from claude_proxy import ids
from claude_proxy.ledger.capture import database
from claude_proxy.ledger.capture.options import CaptureOptions, Parcel
from claude_proxy.ledger.capture.preparing import Preparer
from claude_proxy.ledger.capture.reading import Conversations, NoConversations
from claude_proxy.ledger.capture.retention import DAY_MS, delete_oldest, used_bytes
from claude_proxy.ledger.capture.store import CaptureOff, Opener, Store
from claude_proxy.ledger.options import Trouble
from tests.ledger.capture.captured import WALL, counts, kept, only, parcel, turn, unique_bytes

DAY = DAY_MS / 1000


class File:
    """A capture file that a test writes to, with a clock of its own."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.options = CaptureOptions(folder, **{"reserve": 0, **options})
        self.now = WALL
        self.prepare = Preparer()
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = Opener(self.options, wall=lambda: self.now)()
        return self._store

    def write(self, *parcels: Parcel) -> None:
        for one in parcels:
            self.store.write(self.prepare(one))

    def chores(self) -> None:
        """Retention, until there is nothing more to do now."""
        self.store._retention._next_look = 0.0
        while self.store.chores() < 1:
            pass

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    one = File(tmp_path)
    yield one
    one.close()


def words(dice: random.Random, size: int) -> str:
    """Text that compresses about as prose does."""
    found = "".join(f"{dice.choice(VOCABULARY)} " for _ in range(size // 4))
    return found[:size]


VOCABULARY = ["".join(random.Random(n).choices("etaoinshrdlu", k=2 + n % 9)) for n in range(3000)]


def test_two_hundred_turns_keep_what_is_new_in_each_once(file: File, tmp_path: Path) -> None:
    """49 kB of tools and system and 4 kB a turn: 89 MB are sent, 0.85 MB are unique."""
    dice = random.Random(1)
    tools = [{"name": f"tool{n}", "description": words(dice, 2350), "input_schema": {}} for n in range(16)]
    system = [{"type": "text", "text": words(dice, 10_500)}]
    messages: list[dict[str, Any]] = []
    sent = 0
    for number in range(200):
        messages += [turn(words(dice, 1900)), turn(words(dice, 1900), "assistant")]
        request = {"model": "glm-5.3", "max_tokens": 32000, "system": system, "tools": tools, "messages": messages[:-1]}
        answer = json.dumps({"type": "message", "content": messages[-1]["content"], "id": f"msg_{number}"}).encode()
        one = parcel(request, answer, at=WALL + number)
        sent += len(one.request)
        file.write(one)
    assert sent > 85_000_000
    assert unique_bytes(tmp_path) - 200 * len(answer) < 860_000  # the answers are what comes again as a message
    assert counts(tmp_path) == {"blob": 16 + 1 + 399 + 1 + 200, "node": 16 + 1 + 399 + 200 + 200, "head": 200}
    assert (tmp_path / "capture.db").stat().st_size + (tmp_path / "capture.db-wal").stat().st_size < 5_500_000
    last = kept(tmp_path)[-1]
    assert last.sound
    assert last.request == one.request


def test_a_conversation_that_forks_shares_what_came_before(file: File, tmp_path: Path) -> None:
    start = [turn("one"), turn("two", "assistant")]
    requests = [{"messages": [*start, turn(f"branch {n}")]} for n in range(3)]
    file.write(*(parcel(request) for request in requests))
    assert counts(tmp_path)["node"] == 2 + 3 * 3  # each with its own message, rest and answer
    assert [json.loads(one.request or b"") for one in kept(tmp_path)] == requests


def test_the_same_request_again_adds_one_node(file: File, tmp_path: Path) -> None:
    file.write(parcel({"messages": [turn("a")]}), parcel({"messages": [turn("a")]}))
    assert counts(tmp_path) == {"blob": 3, "node": 4, "head": 2}


def test_the_same_bytes_in_another_place_are_another_node_of_one_blob(file: File, tmp_path: Path) -> None:
    file.write(parcel({"messages": [turn("a"), turn("a"), turn("a")]}))
    assert counts(tmp_path) == {"blob": 3, "node": 5, "head": 1}
    assert only(tmp_path).of("message")[2].value() == turn("a")


def test_a_transcript_written_twice_is_there_once(file: File, tmp_path: Path) -> None:
    one = parcel({"messages": [turn("a")]})
    file.write(one, one)
    assert counts(tmp_path)["head"] == 1
    assert only(tmp_path).request == one.request


def test_what_is_old_goes_with_all_that_only_it_used(file: File, tmp_path: Path) -> None:
    """The second exchange is eight days younger, and stands on the first one's messages."""
    file.write(parcel({"messages": [turn("a")]}, b'{"n":1}'), parcel({"messages": [turn("x"), turn("y")]}, b'{"n":2}'))
    file.write(parcel({"messages": [turn("a"), turn("b")]}, b'{"n":3}', at=WALL + 8 * DAY))
    file.now = WALL + 8.5 * DAY
    file.chores()
    found = only(tmp_path)
    assert [block.value() for block in found.of("message")] == [turn("a"), turn("b")]
    assert counts(tmp_path) == {"blob": 4, "node": 4, "head": 1}
    file.now = WALL + 16 * DAY
    file.chores()
    assert counts(tmp_path) == {"blob": 0, "node": 0, "head": 0}


def test_a_file_that_grew_too_large_shrinks_from_its_oldest_end(tmp_path: Path) -> None:
    file = File(tmp_path, max_bytes=3_000_000)
    dice = random.Random(2)
    for number in range(60):
        file.write(parcel({"messages": [turn(dice.randbytes(50_000).hex())]}, at=WALL + number))
        file.now = WALL + number
        while file.store.chores() < 1:
            pass
    found = kept(tmp_path)
    assert 25 < len(found) < 60
    assert [one.number for one in found] == sorted(one.number for one in found)
    assert ids.milliseconds(found[-1].number) == int((WALL + 59) * 1000)
    assert all(one.sound for one in found)
    assert used_bytes(file.store._connection) <= 3_000_000
    assert (tmp_path / "capture.db").stat().st_size < 6_000_000  # pages were given back
    file.close()


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_deleted_in_between_every_transcript_left_is_whole(file: File, tmp_path: Path, seed: int) -> None:
    """Another process deletes the oldest at random moments."""
    dice = random.Random(seed)
    texts = ["a", "b", "c"]
    with closing(database.open_to_write(tmp_path / "capture.db")) as other:
        for number in range(150):
            messages = [turn(dice.choice(texts)) for _ in range(dice.randint(1, 5))]
            file.write(parcel({"messages": messages}, b'{"n":%d}' % dice.randint(1, 3), at=WALL + number))
            if dice.random() < 0.2:
                delete_oldest(other, ids.MAX_ID, heads=dice.randint(1, 10))
        assert all(one.sound and one.request for one in kept(tmp_path))
        while delete_oldest(other, ids.MAX_ID):
            pass
    assert counts(tmp_path) == {"blob": 0, "node": 0, "head": 0}


@pytest.mark.parametrize("at", range(1, 12))
def test_a_transcript_that_fails_anywhere_leaves_nothing_of_it(file: File, tmp_path: Path, at: int) -> None:
    file.write(parcel({"messages": [turn("a")]}))
    before = counts(tmp_path)
    connection = file.store._connection
    calls = itertools.count(1)
    connection.set_authorizer(
        lambda action, *_: sqlite3.SQLITE_DENY if _writes(action) and next(calls) >= at else sqlite3.SQLITE_OK
    )
    transcript = file.prepare(parcel({"messages": [turn("a"), turn("b"), turn("c")]}))
    try:
        file.store.write(transcript)
    except Trouble:
        connection.set_authorizer(None)
        assert counts(tmp_path) == before
        file.store.write(transcript)
    assert [one.sound for one in kept(tmp_path)] == [True, True]


def _writes(action: int) -> bool:
    return action in (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE)


FAULTS = {
    "the disk is full": "PRAGMA max_page_count=1",
    "capture.db is read-only": "PRAGMA query_only=1",
}


@pytest.mark.parametrize("reason", FAULTS)
def test_a_file_that_cannot_be_written_is_trouble_and_works_again_later(file: File, tmp_path: Path, reason: str) -> None:
    file.write(parcel({"messages": [turn("a")]}))
    file.store._connection.execute(FAULTS[reason])
    one = parcel({"messages": [turn(random.Random(3).randbytes(60_000).hex())]})
    with pytest.raises(Trouble) as caught:
        file.write(one)
    assert caught.value.reopen
    assert reason in caught.value.reason or "readonly" in caught.value.reason
    file.close()
    file.write(one)
    assert len(kept(tmp_path)) == 2


def test_a_locked_file_is_trouble_that_passes(file: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_proxy.ledger.sqlite.BUSY_SECONDS", 0.02)
    file.write(parcel({"messages": [turn("a")]}))
    with closing(sqlite3.connect(tmp_path / "capture.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Trouble, match="locked"):
            file.write(parcel({"messages": [turn("b")]}))
        other.execute("ROLLBACK")
    file.write(parcel({"messages": [turn("b")]}))
    assert len(kept(tmp_path)) == 2


def test_the_last_of_the_disk_is_left_to_others(tmp_path: Path) -> None:
    file = File(tmp_path, reserve=2**60)
    with pytest.raises(Trouble, match="leaves to others"):
        file.write(parcel({"messages": [turn("a")]}))
    file.close()


def test_a_file_that_is_no_database_is_deleted_and_begun_anew(file: File, tmp_path: Path) -> None:
    (tmp_path / "capture.db").write_bytes(b"not a database, certainly" * 400)
    assert "damaged" in file.store.notes[0]
    file.write(parcel({"messages": [turn("a")]}))
    assert only(tmp_path).sound


def test_a_file_that_breaks_in_use_is_deleted_and_begun_anew(file: File, tmp_path: Path) -> None:
    for number in range(200):
        file.write(parcel({"messages": [turn(f"{number} " + "x" * 500)]}))
    file.close()
    path = tmp_path / "capture.db"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(Trouble, match="deleted") as caught:
        file.write(parcel({"messages": [turn("after")]}))
    assert caught.value.reopen
    file.close()
    file.write(parcel({"messages": [turn("after")]}))
    assert only(tmp_path).sound


def test_a_file_that_was_removed_asks_to_be_opened_anew(file: File, tmp_path: Path) -> None:
    file.write(parcel({"messages": [turn("a")]}))
    (tmp_path / "capture.db").unlink()
    with pytest.raises(Trouble, match="removed") as caught:
        file.write(parcel({"messages": [turn("b")]}))
    assert caught.value.reopen


def test_a_newer_file_switches_capture_off_and_stays_as_it_is(file: File, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "capture.db")) as other:
        other.execute("PRAGMA user_version=99")
    with pytest.raises(CaptureOff, match="newer"):
        file.write(parcel({"messages": [turn("a")]}))
    with pytest.raises(NoConversations, match="newer"):
        Conversations.open(tmp_path)


def test_a_folder_that_cannot_be_made_is_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Trouble):
        Opener(CaptureOptions(tmp_path / "file"))()


def test_nobody_else_can_read_the_file(file: File, tmp_path: Path) -> None:
    file.write(parcel({"messages": [turn("a")]}))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("capture.db*")} == {0o600}


def test_a_changed_block_is_noticed_by_the_reader(file: File, tmp_path: Path) -> None:
    file.write(parcel({"messages": [turn("a"), turn("b")]}))
    file.close()
    with closing(sqlite3.connect(tmp_path / "capture.db")) as other, other:
        other.execute("UPDATE blob SET zstd = ? WHERE kind = 'message'", (database.pack(b'{"role":"user"}'),))
    (found,) = kept(tmp_path)
    assert not found.sound


def test_a_missing_node_is_noticed_by_the_reader(file: File, tmp_path: Path) -> None:
    file.write(parcel({"messages": [turn("a"), turn("b")]}))
    file.close()
    with closing(sqlite3.connect(tmp_path / "capture.db")) as other, other:
        other.execute("DELETE FROM node WHERE parent IS NULL")
    (found,) = kept(tmp_path)
    assert not found.sound


def test_reading_is_possible_while_it_is_written_and_never_writes(file: File, tmp_path: Path) -> None:
    file.write(parcel({"messages": [turn("a")]}))
    with Conversations.open(tmp_path) as conversations:
        (first,) = conversations.numbers()
        file.write(parcel({"messages": [turn("b")]}))
        assert len(conversations.numbers()) == 2
        assert conversations.transcript(first) is not None
        assert conversations.transcript(first + 10**9) is None
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            conversations._connection.execute("DELETE FROM head")


def test_a_transcript_that_is_deleted_while_it_is_read_is_whole(file: File, tmp_path: Path) -> None:
    file.write(parcel({"messages": [turn("a"), turn("b")]}))
    connection = database.open_to_read(tmp_path / "capture.db")

    def delete_before(statement: str) -> None:
        if "RECURSIVE" in statement:
            delete_oldest(file.store._connection, ids.MAX_ID)

    connection.set_trace_callback(delete_before)
    with Conversations(connection) as conversations:
        (number,) = conversations.numbers()
        found = conversations.transcript(number)
        assert found is not None
        assert found.sound
        assert conversations.transcript(number) is None


def test_a_folder_without_captures_says_how_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(NoConversations, match="CAPTURE=all"):
        Conversations.open(tmp_path)
    (tmp_path / "capture.db").write_bytes(b"x" * 5000)
    with pytest.raises(NoConversations, match="damaged"):
        Conversations.open(tmp_path)


def test_what_a_chain_stands_on_may_be_deleted_while_its_end_is_packed(
    file: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process deletes the older exchange just before the younger one's transaction: then all of it is written."""
    file.write(parcel({"messages": [turn("a")]}))
    left = [1]

    def pack_slowly(content: bytes) -> bytes:
        with closing(database.open_to_write(tmp_path / "capture.db")) as other:
            while left and delete_oldest(other, ids.MAX_ID):
                pass
        left.clear()
        return database.pack(content)

    monkeypatch.setattr("claude_proxy.ledger.capture.store.pack", pack_slowly)
    one = parcel({"messages": [turn("a"), turn("b")]})
    file.write(one)
    assert only(tmp_path).request == one.request
