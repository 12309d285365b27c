"""Stored conversations as the page reads them: from a file, without a proxy."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from claude_proxy import ids
from claude_proxy.errors import NoBooks
from claude_proxy.web.pages.conversation_kept import Kept
from tests.ledger.capture.captured import WALL, parcel
from tests.ledger.capture.test_store import File
from tests.web.pages.talk import Json, coding, image, png, request, user


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[File]:
    """A capture file."""
    one = File(tmp_path)
    yield one
    one.close()


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    """What reads it."""
    return Kept(tmp_path)


def keep(stored: File, *messages: Json, at: float = WALL, answer: bytes = b'{"type":"message","content":[]}') -> int:
    """Store a conversation; its number."""
    one = parcel(request(messages), answer, at=at)
    stored.write(one)
    return one.number


def test_without_a_file_there_is_nothing_and_none_is_made(kept: Kept, tmp_path: Path) -> None:
    assert kept.read(1) is None
    assert (kept.raw(1), kept.curl(1), kept.image(1, 0)) == (None, None, None)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_kept_is_none(kept: Kept, stored: File) -> None:
    number = keep(stored, *coding())
    assert kept.read(number) is not None
    assert kept.read(number + 1) is None
    assert kept.raw(number + 1) is None


@pytest.mark.parametrize(
    ("booked", "answered", "prompt"),
    [
        ({"input_tokens": 70, "cache_read_input_tokens": 30}, b'{"type":"message","usage":{"input_tokens":5}}', 100),
        (None, b'{"type":"message","content":[],"usage":{"input_tokens":5,"cache_read_input_tokens":2}}', 7),
        ({"input_tokens": None}, b'{"type":"message","content":[],"usage":{"input_tokens":5}}', 5),
        (None, b'{"type":"message","content":[]}', None),
        (None, b'{"type":"message","usage":"nonsense"}', None),
        (None, b"[]", None),
    ],
)
def test_the_books_say_how_long_the_prompt_was_and_else_the_answer(
    kept: Kept, stored: File, booked: Json | None, answered: bytes, prompt: int | None
) -> None:
    told = kept.read(keep(stored, *coding(), answer=answered), booked)
    assert told is not None
    assert told.shares.prompt == prompt


def test_the_turn_before_is_the_newest_that_is_kept(kept: Kept, stored: File) -> None:
    oldest = keep(stored, *coding()[:1])
    before = keep(stored, *coding()[:3], at=WALL + 1)
    told = kept.read(keep(stored, *coding(), at=WALL + 2))
    assert told is not None
    names = {number: ids.encode(number) for number in (oldest, before)}
    missing = ("cp_missing", before + 1)
    since = kept.since(told, [missing, (names[before], before), (names[oldest], oldest)])
    assert since is not None
    assert since.id == names[before]
    assert {part for area in since.areas for part in area.changes} != set()
    assert kept.since(told, [missing]) is None
    assert kept.since(told, []) is None


def test_changed_texts_are_compared_by_line(kept: Kept, stored: File) -> None:
    before = keep(stored, user("one\ntwo"))
    told = kept.read(keep(stored, user("one\n2"), at=WALL + 1))
    assert told is not None
    since = kept.since(told, [("cp_x", before)])
    assert since is not None
    assert [(line.sign, line.text) for line in since.lines[3]] == [(" ", "one"), ("-", "two"), ("+", "2")]
    assert since.new == {3}


@pytest.mark.parametrize(("part", "there"), [(3, False), (4, True), (5, False), (0, False), (10**6, False)])
def test_only_images_are_given_out(kept: Kept, stored: File, part: int, there: bool) -> None:
    number = keep(stored, user("look", image(png()), image(b"<svg/>")))
    assert kept.image(number, part) == (("image/png", png()) if there else None)


def test_an_image_whose_base64_is_broken_is_not_given_out(kept: Kept, stored: File) -> None:
    broken = image(png())
    broken["source"]["data"] += "!"
    assert kept.image(keep(stored, user(broken)), 3) is None


def test_damage_is_said(kept: Kept, stored: File, tmp_path: Path) -> None:
    number = keep(stored, *coding())
    stored.close()
    with closing(sqlite3.connect(tmp_path / "capture.db")) as connection, connection:
        connection.execute("UPDATE blob SET zstd = x'00' WHERE kind = 'message'")
    told = kept.read(number)
    assert told is not None
    assert told.sound is False
    (tmp_path / "capture.db").write_bytes(b"nonsense" * 1000)
    for ask in (kept.read, kept.raw, kept.curl):
        with pytest.raises(NoBooks, match=r"capture\.db"):
            ask(number)
