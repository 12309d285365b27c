"""Streams end when their viewers may no longer look. The clock is the event loop's; waits end by events."""

from __future__ import annotations

import asyncio

import pytest

from claude_proxy.access.streams import Streams

PATIENCE = 10.0
NEVER = 3600.0


class Guests:
    """Who may look, and how often they were asked for."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.asked = 0

    def may_look(self, name: str) -> bool:
        self.asked += 1
        return name in self.names


async def over(ended: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        await ended.wait()


async def test_a_check_ends_the_streams_of_those_who_may_no_longer_look() -> None:
    guests = Guests("ada", "bob")
    streams = Streams(guests.may_look, every=NEVER)
    of_ada, again, of_bob = asyncio.Event(), asyncio.Event(), asyncio.Event()
    with streams.watched("ada", of_ada.set), streams.watched("ada", again.set), streams.watched("bob", of_bob.set):
        guests.names.discard("ada")
        streams.check()
        await over(of_ada)
        await over(again)
        assert not of_bob.is_set()


async def test_what_nobody_tells_is_found_by_itself() -> None:
    guests = Guests("ada")
    streams = Streams(guests.may_look, every=0.001)
    ended = asyncio.Event()
    with streams.watched("ada", ended.set):
        guests.names.clear()
        await over(ended)


async def test_one_who_was_logged_out_between_the_check_and_the_stream_gets_none() -> None:
    ended = asyncio.Event()
    with Streams(Guests().may_look, every=NEVER).watched("ada", ended.set):
        await over(ended)


async def test_a_stream_is_ended_once() -> None:
    guests = Guests()
    streams = Streams(guests.may_look, every=0.001)
    ended: list[str] = []
    other = asyncio.Event()
    with streams.watched("ada", lambda: ended.append("ada")):
        with streams.watched("bob", other.set):
            await over(other)
        guests.asked = 0
        streams.check()
        await asyncio.to_thread(int)
        assert ended == ["ada"]
    assert guests.asked == 0


async def test_nothing_is_checked_and_no_task_is_left_while_no_stream_is_open() -> None:
    guests = Guests("ada")
    streams = Streams(guests.may_look, every=NEVER)
    with streams.watched("ada", lambda: None):
        [task] = [one for one in asyncio.all_tasks() if one.get_name() == "streams"]
    async with asyncio.timeout(PATIENCE):
        await task
    asked = guests.asked
    streams.check()
    await asyncio.to_thread(int)
    assert guests.asked == asked


@pytest.mark.parametrize("gap", [0, 1, 5])
async def test_a_stream_that_opens_after_the_last_one_closed_is_watched_too(gap: int) -> None:
    guests = Guests("ada", "bob")
    streams = Streams(guests.may_look, every=NEVER)
    with streams.watched("ada", lambda: None):
        await asyncio.sleep(0)
    for _ in range(gap):
        await asyncio.sleep(0)
    ended = asyncio.Event()
    with streams.watched("bob", ended.set):
        await asyncio.sleep(0)
        guests.names.clear()
        streams.check()
        await over(ended)
