"""Asking from the event loop: in a thread, a few at a time, and not at all where there are no books."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from claude_proxy.ledger.options import NotReadable
from claude_proxy.ledger.reader import AT_ONCE, WAITING, Reader


class Books:
    """What is opened; counts how often."""

    opened = 0

    def __init__(self) -> None:
        type(self).opened += 1


@pytest.fixture(autouse=True)
def _count() -> None:
    Books.opened = 0


def reader(**more: Any) -> Reader:
    return Reader(Books, shut=lambda: None, **more)  # type: ignore[arg-type]


async def test_a_question_is_asked_in_a_thread_and_the_books_are_opened_once() -> None:
    one = reader()
    threads = {await one.ask(lambda _: threading.current_thread()) for _ in range(5)}
    assert threading.main_thread() not in threads
    assert Books.opened == 1


async def test_books_in_another_place_are_opened_anew() -> None:
    places = ["file", "file", "memory"]
    one = reader(place=lambda: places[0])
    for _ in range(3):
        await one.ask(lambda _: None)
        places.pop(0) if len(places) > 1 else None
    assert Books.opened == 2


async def test_without_books_nobody_is_asked() -> None:
    shut = Reader(Books, shut=lambda: NotReadable("LEDGER is off"))  # type: ignore[arg-type]
    with pytest.raises(NotReadable, match="LEDGER is off"):
        await shut.ask(lambda _: None)
    assert Books.opened == 0


async def test_what_a_question_raises_is_raised() -> None:
    def question(_: object) -> None:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        await reader().ask(question)


async def test_questions_take_turns_and_too_many_are_refused() -> None:
    one = reader()
    running, most = 0, 0
    lock, go = threading.Lock(), threading.Event()

    def question(_: object) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        go.wait(20)
        with lock:
            running -= 1

    asked = [asyncio.create_task(one.ask(question)) for _ in range(AT_ONCE + WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(NotReadable, match="Too many questions"):
        await one.ask(question)
    go.set()
    await asyncio.gather(*asked)
    assert most <= AT_ONCE
    await one.ask(question)
