"""An answer is of one moment, however many statements it takes: what changes meanwhile is in all of it, or in none."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import delete, event

from claude_proxy import ids
from claude_proxy.exchange import Failure, Outcome
from claude_proxy.ledger.options import Entry, Sample
from claude_proxy.ledger.prices.quota import MICRO, Meter, Window
from claude_proxy.ledger.queries import Books
from claude_proxy.ledger.record import Charge
from claude_proxy.ledger.store import SqlStore
from claude_proxy.ledger.tables import exchange
from tests.ledger.books import NOW, WALL, entry
from tests.ledger.places import Place

STEP = 60_000  # milliseconds between two exchanges
HOUR = 3_600_000
PLAN = Window("5h", Meter.CREDITS, "", 12_000 * MICRO, 10, 12_000 * MICRO - 10, None, 5 * 3600, (NOW + HOUR) / 1000)


class Life:
    """A proxy that goes on while readers ask: each `step` books two failed exchanges of new models and deletes the oldest row.

    Attributes:
        asked: ids that a question is about: of all exchanges so far, and of the next ones.
    """

    def __init__(self, place: Place) -> None:
        self._store: SqlStore = place.store()
        self._engine = place.engine()
        self._made = [self._entry(number) for number in range(40)]
        self._booked = self._deleted = 0
        self._store.sample(Sample(NOW, "default", "mine", (PLAN,)))
        self._book(4)

    def _entry(self, number: int) -> Entry:
        return entry(
            NOW - HOUR + number * STEP, charge=Charge(number, number * MICRO, "p"), session="one", account="mine",
            agent="agent" if number % 2 else None, model=f"model-{number}", stop_reason="end_turn", outcome=Outcome.FAILED,
            status=502, failure=Failure("upstream", "api_error", f"failure {number}", None, None),
        )  # fmt: skip

    def _book(self, count: int) -> None:
        self._store.write(self._made[self._booked : self._booked + count], 0)
        self._booked += count

    @property
    def asked(self) -> list[str]:
        return [ids.encode(one.record.id) for one in self._made[self._deleted : self._booked + 2]]

    def step(self) -> None:
        self._book(2)
        with self._engine.begin() as connection:
            connection.execute(delete(exchange).where(exchange.c.id == self._made[self._deleted].record.id))
        self._deleted += 1

    def close(self) -> None:
        self._store.close(0)


QUESTIONS: dict[str, Callable[[Books, list[str]], Any]] = {
    "exchanges": lambda books, _: books.exchanges(3),
    "ended since": lambda books, _: books.ended_since(WALL - 7200),
    "one exchange": lambda books, asked: books.exchange(asked[0]),
    "neighbours": lambda books, asked: books.neighbours(asked[-3]),
    "sessions": lambda books, _: books.sessions(),
    "a session": lambda books, _: books.session("one"),
    "a session's story": lambda books, _: books.story("one"),
    "a session's sums": lambda books, asked: books.session_sums("one", asked),
    "usage by day": lambda books, _: books.usage("day", breakdown=True),
    "usage by window": lambda books, _: books.usage("window"),
    "the dearest models": lambda books, _: books.usage("model", limit=1),
    "usage of a session": lambda books, _: books.usage("agent", filters={"session": "one"}),
    "minutes": lambda books, _: books.minutes(),
    "errors": lambda books, _: books.errors(WALL - 7200),
    "speeds": lambda books, _: books.speeds(WALL - 7200),
    "quota": lambda books, _: books.quota(),
}


@contextmanager
def disturbed(place: Place, after: int, disturb: Callable[[], None]) -> Iterator[tuple[Books, list[int]]]:
    """Books that call `disturb` after so many statements, and a list that is empty then."""
    engine = place.engine(reading=True)
    left = [after]

    @event.listens_for(engine, "after_cursor_execute")
    def _count(*_: Any) -> None:
        if left:
            left[0] -= 1
            if not left[0]:
                left.clear()
                disturb()

    yield Books(engine, timeout=20, wall=place.clock), left


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_an_answer_is_of_one_moment(place: Place, question: Callable[[Books, list[str]], Any]) -> None:
    life = Life(place)
    plain = Books(place.engine(reading=True), timeout=20, wall=place.clock)
    changed = False
    for statement in itertools.count(1):
        asked = life.asked
        before = question(plain, asked)
        with disturbed(place, statement, life.step) as (books, left):
            found = question(books, asked)
        if left:  # it takes fewer statements
            break
        after = question(plain, asked)
        changed = changed or before != after
        assert found in (before, after), f"after statement {statement}"
    assert changed
    life.close()


def test_a_reader_cannot_write(place: Place) -> None:
    place.store().close(0)
    with place.engine(reading=True).connect() as connection, pytest.raises(Exception, match=r"read-?only|readonly"):
        connection.execute(delete(exchange))
