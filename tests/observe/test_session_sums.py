"""A session's sums: every exchange counted once, whether the ledger has it yet or not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from claude_proxy import ids
from claude_proxy.exchange import Exchange, Kind, Usage
from claude_proxy.ledger.record import Charge, Record
from claude_proxy.observe.session_sums import FEW, FRESH, STALE, Booked, SessionSums, Sums
from claude_proxy.observe.sessions import Sessions
from claude_proxy.protocol.status_line import Cost, Tokens
from tests.observe.conversation import Clock, eventually


class Books:
    """A ledger that has what the test books; it answers when it may.

    Attributes:
        asked: how often.
    """

    def __init__(self) -> None:
        self.sums: dict[str, int] = {}
        self.present: set[str] = set()
        self.asked = 0
        self.broken = False
        self.may_answer = threading.Event()
        self.may_answer.set()

    def book(self, one: Exchange) -> None:
        assert one.usage is not None
        self.present.add(one.id)
        for name in ("input", "output", "cache_read"):
            self.sums[name] = self.sums.get(name, 0) + (getattr(one.usage, name) or 0)
        self.sums["cost_nano"] = self.sums.get("cost_nano", 0) + 1000
        self.sums["priced"] = self.sums.get("priced", 0) + 1

    def __call__(self, session: str, ended: Sequence[str]) -> Booked:
        self.asked += 1
        assert self.may_answer.wait(20)
        if self.broken:
            raise RuntimeError("locked")
        return Booked(dict(self.sums), frozenset(self.present & set(ended)))


class Session:
    """One session whose exchanges the test makes."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.books = Books()
        self.sessions = Sessions(clock=self.clock)
        self.price: Any = lambda record: Charge(1000)
        self.sums = SessionSums(
            self.sessions, self.books, self._price, clock=self.clock, **{"wait": 20, "short_wait": 20, **options}
        )
        self._numbers = iter(range(1, 10_000))

    def _price(self, record: Record) -> Charge:
        priced: Charge = self.price(record)
        return priced

    def begin(self, **usage: int) -> Exchange:
        one = Exchange(ids.encode(next(self._numbers)), "POST", "/v1/messages", "c", 0.0, 0.0, session="s", kind=Kind.MESSAGES)
        one.usage = Usage(**usage) if usage else None
        self.sessions.on_exchange_start(one)
        return one

    def end(self, one: Exchange) -> Exchange:
        self.sessions.on_exchange_end(one)
        return one

    async def tokens(self) -> Tokens:
        found = await self.sums.of("s")
        assert found is not None
        return found.tokens


async def test_a_session_that_nobody_has_seen_is_empty() -> None:
    assert await Session().sums.of("s") == Sums(Tokens(), Cost(0))


async def test_an_exchange_is_counted_once_on_its_way_into_the_ledger() -> None:
    """Running, ended, booked: its sum never goes down, and never up twice."""
    session = Session()
    one = session.begin(input=10, output=1, cache_read=90)
    assert await session.sums.of("s") == Sums(Tokens(10, 1, 90, 0, True), Cost(1000, 0, True))
    one.usage = Usage(input=10, output=5, cache_read=90)
    session.end(one)
    assert await session.sums.of("s") == Sums(Tokens(10, 5, 90), Cost(1000))
    session.books.book(one)
    assert await session.sums.of("s") == Sums(Tokens(10, 5, 90), Cost(1000)), "the ledger's answer of before"
    session.clock.now += FRESH + 0.1
    assert await session.sums.of("s") == Sums(Tokens(10, 5, 90), Cost(1000)), "the ledger has it"
    session.clock.now += 60
    assert await session.sums.of("s") == Sums(Tokens(10, 5, 90), Cost(1000)), "nobody but the ledger has it"


async def test_many_exchanges_in_every_state() -> None:
    session = Session()
    total = 0
    for number in range(40):
        one = session.begin(input=1, output=number)
        total += number
        if number % 4:
            session.end(one)
        if number % 4 > 1:
            session.books.book(one)
        session.clock.now += 0.3
        assert await session.tokens() == Tokens(number + 1, total, 0, 0, True)


async def test_the_ledger_is_asked_once_a_second_at_most() -> None:
    session = Session()
    for _ in range(10):
        await session.sums.of("s")
    assert session.books.asked == 1
    session.clock.now += FRESH + 0.1
    await asyncio.gather(*(session.sums.of("s") for _ in range(10)))
    assert session.books.asked == 2


async def test_what_has_no_price_is_unpriced_and_not_free() -> None:
    session = Session()
    session.price = lambda record: Charge(None)
    session.end(session.begin(input=10))
    found = await session.sums.of("s")
    assert found is not None
    assert found.cost == Cost(None, 1)


async def test_a_call_that_reports_nothing_costs_nothing() -> None:
    session = Session()
    session.price = lambda record: Charge(None)
    session.end(session.begin())
    session.begin()
    assert await session.sums.of("s") == Sums(Tokens(), Cost(0))


async def test_a_ledger_that_is_slow_does_not_hold_up_the_line() -> None:
    session = Session(wait=0.01)
    session.books.may_answer.clear()
    assert await session.sums.of("s") is None
    assert await session.sums.of("s") is None
    assert session.books.asked == 1, "one question at a time"
    session.books.may_answer.set()
    await eventually(lambda: not session.sums._asking)
    assert await session.sums.of("s") is not None


@pytest.mark.parametrize(("later", "known"), [(FRESH + 1, True), (STALE + 1, False)])
async def test_a_ledger_that_cannot_be_read_is_believed_for_some_seconds(later: float, known: bool) -> None:
    session = Session()
    session.end(session.begin(input=10))
    assert await session.tokens() == Tokens(10)
    session.books.broken = True
    session.clock.now += later
    assert (await session.sums.of("s") is not None) is known


async def test_answers_are_kept_for_some_sessions_only() -> None:
    session = Session()
    for number in range(300):
        await session.sums.of(str(number))
    assert len(session.sums._kept) == 200


async def test_a_ledger_that_is_late_is_not_waited_for_where_an_older_answer_is_there() -> None:
    session = Session(short_wait=0.001)
    session.books.book(session.end(session.begin(input=10)))
    assert await session.tokens() == Tokens(10)
    session.end(session.begin(input=5))
    session.clock.now += FRESH + 0.1
    session.books.may_answer.clear()
    assert await session.tokens() == Tokens(15), "the older answer and what ended since"
    session.books.may_answer.set()
    await eventually(lambda: not session.sums._asking)
    assert await session.tokens() == Tokens(15)
    assert session.books.asked == 2


@pytest.mark.parametrize("calls", [1, FEW, FEW + 1])
async def test_many_calls_are_priced_in_a_thread_and_few_on_the_loop_once_the_table_is_read(calls: int) -> None:
    session = Session()
    threads: list[bool] = []

    def price(record: Record) -> Charge:
        threads.append(threading.current_thread() is threading.main_thread())
        return Charge(1000)

    session.price = price
    session.begin(input=1)
    await session.tokens()
    assert threads == [False]
    for _ in range(calls - 1):
        session.begin(input=1)
    await session.tokens()
    assert threads[1:] == [calls <= FEW] * calls
