"""The live page over a real server: what starts, changes and ends is seen; nothing is done while nobody looks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from claude_proxy.exchange import State
from claude_proxy.ledger import reader as readers
from claude_proxy.observe.live import Live
from claude_proxy.observe.seen import Together
from claude_proxy.observe.siblings import Siblings
from claude_proxy.simulator import Scenario, Simulator, faults
from claude_proxy.web.pages import hub as hubs
from claude_proxy.web.pages.hub import QUEUE, Chunk, Hub, Reader, pause
from claude_proxy.web.pages.pulse import Figures, Pulse
from tests.integration.booked import booked
from tests.integration.messages import JSON, MESSAGES, body
from tests.integration.proxy import RunningProxy
from tests.integration.wire import connect, request
from tests.observe.running import exchange
from tests.web.pages.events import watching
from tests.web.pages.site import call
from tests.web.serving import nothing, without_books


@pytest.fixture
async def proxy(simulator: Simulator, tmp_path: Path) -> AsyncIterator[RunningProxy]:
    async with booked(simulator, tmp_path) as running:
        yield running


async def test_a_stream_is_seen_from_its_start_to_its_end(proxy: RunningProxy, simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("events", 3))
    async with watching(proxy) as page, connect(proxy.port) as wire:
        await page.until(lambda shown: shown.beats)
        assert page.rows == {}
        wire.send(request("POST", MESSAGES, [JSON, (b"x-claude-code-session-id", b"session-9")], body()))
        await page.until(lambda shown: any("streaming" in row for row in shown.rows.values()))
        (number,) = page.rows
        assert number.startswith("r-cp_")
        assert "glm-5.3" in page.rows[number]
        assert "session-9" in page.rows[number]
        assert "1 streaming" in page.tiles
        wire.leave()
        await page.until(lambda shown: number.replace("r-", "f-") in shown.rows)
        await page.until(lambda shown: number not in shown.rows)
        assert "cancelled" in page.rows[number.replace("r-", "f-")]


async def test_a_page_that_opens_later_gets_everything(proxy: RunningProxy, simulator: Simulator) -> None:
    async with watching(proxy) as first:
        await call(proxy, simulator)
        await first.until(lambda shown: len(shown.rows) == 1)
        async with watching(proxy) as second:
            await second.until(lambda shown: len(shown.rows) == 1 and shown.charts)
            assert second.rows.keys() == first.rows.keys()
            assert set(second.charts) == {"requests", "first-byte"}


async def test_each_language_is_rendered_in_itself(proxy: RunningProxy, simulator: Simulator) -> None:
    async with watching(proxy, "en") as english, watching(proxy, "ko") as korean:
        await call(proxy, simulator)
        await english.until(lambda shown: any("completed" in row for row in shown.rows.values()))
        await korean.until(lambda shown: any("완료" in row for row in shown.rows.values()))


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_the_stream_is_the_same_compressed_or_not(proxy: RunningProxy, simulator: Simulator, encoding: str) -> None:
    async with watching(proxy, **{"accept-encoding": encoding}) as page:
        await call(proxy, simulator)
        await page.until(lambda shown: any("completed" in row for row in shown.rows.values()))
        proxy.app.state.live.end()
        await page.to_end()  # httpx checks the checksum of what was compressed


async def test_the_streams_end_when_the_process_is_told_to_stop(proxy: RunningProxy) -> None:
    async with watching(proxy) as one, watching(proxy) as two:
        await one.until(lambda shown: shown.beats)
        await two.until(lambda shown: shown.beats)
        proxy.app.state.live.end()
        await one.to_end()
        await two.to_end()


class Place:
    """A hub with what it reads, and no server."""

    def __init__(self, tick: float = 0.01) -> None:
        self.live = Live()
        self.looks = 0
        alone = Siblings(Path("nowhere"), group=lambda: None)
        self.together = Together(self.live, alone, lambda _: None, nothing)
        self.pulse = Pulse(without_books(self.live, alone))
        self.hub = Hub(self.live, self.pulse, self.news, tick=tick)
        self.fails = 0

    async def news(self) -> list[dict[str, Any]]:
        self.looks += 1
        if self.fails:
            self.fails -= 1
            raise RuntimeError("this look failed")
        return await self.together.news()


async def ended(hub: Hub) -> None:
    """Return once the hub rests."""
    async with asyncio.timeout(5):
        while hub._task is not None:
            await asyncio.wait((hub._task,))


async def test_nobody_looks_while_nobody_watches() -> None:
    place = Place()
    place.live.on_exchange_start(exchange())
    assert place.looks == 0
    reader = place.hub.join("en")
    await reader.next()
    assert place.looks > 0
    place.hub.leave(reader)
    await ended(place.hub)
    looks = place.looks
    assert place.hub.readers == 0
    place.live.on_exchange_start(exchange())
    assert place.looks == looks


async def test_what_is_rendered_is_shared_by_all_who_read_that_language() -> None:
    place = Place()
    readers = [place.hub.join("en") for _ in range(3)]
    chunks = [await reader.next() for reader in readers]
    assert chunks[0] is not None
    assert all(chunk is chunks[0] for chunk in chunks)


async def test_a_row_that_did_not_change_is_not_sent_again() -> None:
    place = Place()
    one, two = exchange(state=State.SENT), exchange(state=State.SENT)
    place.live.on_exchange_start(one)
    place.live.on_exchange_start(two)
    reader = place.hub.join("en")
    first = await reader.next()
    two.model = "glm-5.4"
    second = await reader.next()
    assert first is not None
    assert second is not None
    assert one.id.encode() in first.raw
    assert one.id.encode() not in second.raw
    assert two.id.encode() in second.raw


@pytest.mark.parametrize(("spent", "seconds"), [(0.0, 0.5), (0.0015, 0.5), (0.003, 1.0), (0.5, 2.0)])
def test_looks_that_cost_much_are_rarer(spent: float, seconds: float) -> None:
    assert pause(0.5, spent) == pytest.approx(seconds)


async def test_a_look_that_fails_costs_only_itself() -> None:
    place = Place()
    place.fails = 2
    reader = place.hub.join("en")
    async with asyncio.timeout(5):
        assert await reader.next() is not None
    assert place.looks >= 3


async def test_a_page_that_opens_while_the_last_one_closes_is_served() -> None:
    place = Place()
    first = place.hub.join("en")
    await first.next()
    place.hub.leave(first)
    second = place.hub.join("ko")
    async with asyncio.timeout(5):
        assert await second.next() is not None


async def test_a_reader_that_is_too_slow_gets_everything_instead() -> None:
    reader = Reader("en")
    reader.fresh = False
    for number in range(QUEUE):
        reader.put(Chunk(b"%d" % number, b""))
    assert not reader.fresh
    reader.put(Chunk(b"too much", b""))
    assert reader.fresh
    reader.put(Chunk(b"everything", b""))
    reader.end()
    assert await reader.next() == Chunk(b"everything", b"")
    assert await reader.next() is None


async def test_too_many_pages_are_refused_in_a_sentence(proxy: RunningProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "MAX_READERS", 1)
    async with watching(proxy) as page, httpx.AsyncClient() as client:
        await page.until(lambda shown: shown.beats)
        answer = await client.get(f"{proxy.origin}/live")
    assert answer.status_code == 503
    assert "close one" in answer.json()["error"]["message"]


async def test_a_page_that_was_closed_is_forgotten(proxy: RunningProxy) -> None:
    looking = partial(task_named, "page")
    async with watching(proxy) as page:
        await page.until(lambda shown: shown.beats)
        assert looking() is not None
    task = looking()
    if task is not None:
        async with asyncio.timeout(5):
            await asyncio.wait((task,))


def task_named(name: str) -> asyncio.Task[object] | None:
    """A task of this event loop."""
    return next((task for task in asyncio.all_tasks() if task.get_name() == name), None)


async def test_figures_are_read_once_for_all_who_ask_at_the_same_time() -> None:
    pulse = Pulse(without_books(Live(), Siblings(Path("nowhere"), group=lambda: None)), clock=lambda: 5.0)
    one, two = await asyncio.gather(pulse.read(), pulse.read())
    assert one is two
    assert one == Figures(problem="No books are kept here: LEDGER is off.")


@pytest.mark.parametrize(("spent", "seconds"), [(0.001, 5.0), (0.01, 10.0), (0.5, 30.0)])
async def test_figures_that_cost_much_are_read_more_rarely(spent: float, seconds: float) -> None:
    read: list[float] = []
    times = [100.0, 100.0 + seconds - 0.1, 100.0 + seconds]

    class Costly(Pulse):
        async def _read(self) -> Figures:
            read.append(times[0])
            self._spent = spent
            return self._keep(Figures(finished=[{"id": "cp_1"}]))

    pulse = Costly(without_books(Live(), Siblings(Path("nowhere"), group=lambda: None)), clock=lambda: times[0])
    while times:
        await pulse.read()
        del times[0]
    assert read == [100.0, 100.0 + seconds]


async def test_books_that_fail_unexpectedly_do_not_cost_the_page() -> None:
    def broken() -> Any:
        raise KeyError(7)

    sources = without_books(Live(), Siblings(Path("nowhere"), group=lambda: None))
    figures = await Pulse(replace(sources, reader=readers.Reader(broken, shut=lambda: None)), clock=lambda: 5.0).read()
    assert figures.hour is None
    assert figures.problem is not None
    assert "log" in figures.problem
