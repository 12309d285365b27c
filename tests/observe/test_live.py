"""What runs now, and readers that are told of it: bounded, contained, let go at the end."""

from __future__ import annotations

import asyncio

import pytest

from claude_proxy.exchange import Attempt, Exchange, State, Usage
from claude_proxy.observe.live import MAX_WATCHERS, Event, Full, Live, What, item
from tests.observe.running import exchange, finished

LONG = 20.0


def live() -> Live:
    return Live(clock=lambda: 60.0)


def test_what_has_started_runs_until_it_ends() -> None:
    one, two = exchange(), exchange()
    watched = live()
    watched.on_exchange_start(one)
    watched.on_exchange_start(two)
    assert [found["id"] for found in watched.running()] == [one.id, two.id]
    watched.on_exchange_end(one)
    assert [found["id"] for found in watched.running()] == [two.id]
    watched.on_exchange_end(two)
    assert watched.running() == []


def test_an_end_without_a_start_is_no_fault() -> None:
    live().on_exchange_end(finished())


def test_a_running_exchange_is_brought_up_to_date_when_somebody_looks() -> None:
    one = exchange(state=State.ANSWERING, stream=True)

    def refresh() -> None:
        one.usage = Usage(input=5, output=one.bytes_out)
        one.bytes_out += 100
        one.heard_at = 58.75

    one.live = refresh
    watched = live()
    watched.on_exchange_start(one)
    assert one.bytes_out == 0
    (found,) = watched.running()
    assert (found["state"], found["bytes_out"], found["usage"]["input_tokens"]) == ("answering", 100, 5)
    assert (found["duration_ms"], found["silent_ms"], found["status"], found["outcome"]) == (10_000, 1250, None, None)
    assert watched.running()[0]["usage"]["output_tokens"] == 100


def test_a_finished_exchange_is_not_refreshed() -> None:
    one = finished(first_byte=0.75, attempts=[Attempt("default", 50.0), Attempt("default", 51.0)])
    one.live = lambda: pytest.fail("it has ended")
    found = item(one, 99.0)
    assert (found["state"], found["duration_ms"], found["first_byte_ms"], found["attempts"]) == ("ended", 2500, 750, 2)
    assert found["silent_ms"] is None


def test_an_upstream_is_up_until_somebody_says_otherwise() -> None:
    watched = live()
    watched.on_exchange_start(exchange())
    watched.on_exchange_start(exchange(upstream="another"))
    assert watched.of_upstream("default") == (1, "up")
    watched.on_upstream_state("default", "ejected")
    assert watched.of_upstream("default") == (1, "ejected")
    assert watched.of_upstream("third") == (0, "up")


# -- readers


async def taken(watched: Live, one: Exchange) -> list[Event | None]:
    """What a reader is given of an exchange, and then of the end."""
    watcher = watched.watch()
    watched.on_exchange_start(one)
    watched.on_exchange_end(one)
    watched.end()
    return [await watcher.next(LONG) for _ in range(3)]


async def test_a_reader_is_told_of_start_and_end_and_then_let_go() -> None:
    one = finished()
    started, ended, last = await taken(live(), one)
    assert (started is not None and started.what, ended is not None and ended.what, last) == (What.STARTED, What.ENDED, None)
    assert ended is not None
    assert ended.data["id"] == one.id


async def test_in_silence_there_are_heartbeats() -> None:
    watcher = live().watch()
    for _ in range(2):
        event = await watcher.next(0.001)
        assert event is not None
        assert event.what is What.HEARTBEAT
        assert event.data["at"].endswith("Z")


async def test_an_event_wakes_a_reader_that_waits() -> None:
    watched = live()
    watcher = watched.watch()
    waiting = asyncio.create_task(watcher.next(LONG))
    await asyncio.sleep(0)
    watched.on_exchange_start(exchange())
    event = await waiting
    assert event is not None
    assert event.what is What.STARTED


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_a_slow_reader_loses_the_oldest_and_is_told_how_many(limit: int) -> None:
    watched = live()
    watcher = watched.watch(limit)
    made = [exchange() for _ in range(limit + 3)]
    for one in made:
        watched.on_exchange_start(one)
    lost = await watcher.next(LONG)
    assert lost == Event(What.LOST, {"events": 3})
    events = [await watcher.next(LONG) for _ in range(limit)]
    assert [event.data["id"] for event in events if event is not None] == [one.id for one in made[3:]]
    assert (await watcher.next(0.001)) is not None


async def test_a_slow_reader_does_not_hold_up_another() -> None:
    watched = live()
    slow, quick = watched.watch(1), watched.watch(10)
    for _ in range(5):
        watched.on_exchange_start(exchange())
    assert [event.what for event in [await quick.next(LONG) for _ in range(5)] if event is not None] == [What.STARTED] * 5
    first = await slow.next(LONG)
    assert first is not None
    assert first.what is What.LOST


async def test_there_are_only_so_many_readers() -> None:
    watched = live()
    watchers = [watched.watch() for _ in range(MAX_WATCHERS)]
    with pytest.raises(Full):
        watched.watch()
    watched.unwatch(watchers[0])
    watched.unwatch(watchers[0])
    watched.watch()
    assert watched.watchers == MAX_WATCHERS


async def test_who_comes_after_the_end_is_let_go_at_once() -> None:
    watched = live()
    await watched.aclose()
    assert await watched.watch().next(LONG) is None
