"""What several workers say together: running exchanges, events, upstreams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.observe.live import Event, Live, Watcher, What
from claude_proxy.observe.machine import Machine, merged
from claude_proxy.observe.siblings import Siblings
from tests.integration.leftovers import Leftovers, until
from tests.observe.folders import short_folder
from tests.observe.running import exchange, finished

LONG = 10.0


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


class Worker:
    """One worker with one upstream."""

    def __init__(self, folder: Path, name: str, *, rescan: float = 0.01) -> None:
        self.live = Live()
        self.siblings = Siblings(folder, group=lambda: "group", name=name, patience=LONG)
        self.state = "up"
        self.machine = Machine(self.live, self.siblings, self._upstreams, rescan=rescan)

    def _upstreams(self) -> list[dict[str, Any]]:
        return [upstream("default", self.state, running=self.live.of_upstream("default")[0], connections=2)]


def upstream(name: str, state: str = "up", *, running: int = 0, connections: int = 0) -> dict[str, Any]:
    return {"name": name, "state": state, "running": running, "connections": connections}


@asynccontextmanager
async def started(*workers: Worker) -> AsyncIterator[None]:
    for one in workers:
        await one.siblings.start()
    try:
        yield
    finally:
        for one in workers:
            one.live.end()
            await one.machine.aclose()
            await one.siblings.aclose()


async def next_of(watcher: Watcher) -> Event:
    event = await watcher.next(LONG)
    assert event is not None
    return event


async def followed(watching: Worker, *others: Worker) -> Watcher:
    """A reader at one worker, once all others know of it."""
    watcher = watching.live.watch()
    await until(lambda: all(one.live._siblings for one in others))
    return watcher


async def test_any_worker_knows_what_runs_in_all_of_them(folder: Path) -> None:
    workers = [Worker(folder, name) for name in "123"]
    made = [exchange(started_at=1_790_000_000.0 + 5 - number) for number in range(3)]
    async with started(*workers):
        for one, its in zip(workers, made, strict=True):
            one.live.on_exchange_start(its)
        for one in workers:
            found = await one.machine.running()
            assert [item["id"] for item in found.items] == [its.id for its in reversed(made)]
            assert found.silent == 0


async def test_a_reader_at_one_worker_gets_the_events_of_all_once(folder: Path) -> None:
    one, two = Worker(folder, "1"), Worker(folder, "2")
    async with started(one, two):
        reader, opposite = await followed(one, two), await followed(two, one)
        there, here = finished(), finished()
        two.live.on_exchange_start(there)
        two.live.on_exchange_end(there)
        for watcher in (reader, opposite):
            first, second = await next_of(watcher), await next_of(watcher)
            assert [(event.what, event.data["id"]) for event in (first, second)] == [
                (What.STARTED, there.id),
                (What.ENDED, there.id),
            ]
            assert second.data["outcome"] == "completed"
        one.live.on_exchange_start(here)
        for watcher in (reader, opposite):
            assert (await next_of(watcher)).data["id"] == here.id  # and nothing of `there` a second time


async def test_a_worker_that_starts_later_is_heard_too(folder: Path) -> None:
    one, two = Worker(folder, "1"), Worker(folder, "2")
    async with started(one):
        watcher = one.live.watch()
        async with started(two):
            await until(lambda: two.live._siblings)
            two.live.on_exchange_start(exchange())
            assert (await next_of(watcher)).what is What.STARTED


async def test_nothing_is_sent_while_nobody_reads(folder: Path) -> None:
    one, two = Worker(folder, "1"), Worker(folder, "2")
    async with started(one, two):
        left = Leftovers()
        first, second = await followed(one, two), one.live.watch()
        one.live.unwatch(first)
        assert two.live._siblings
        one.live.unwatch(second)
        await until(lambda: not two.live._siblings)
        await left.gone()


async def test_what_another_worker_lost_is_counted_here(folder: Path) -> None:
    live = Live()
    watcher = live.watch()
    waiting = asyncio.create_task(watcher.next(LONG))
    await asyncio.sleep(0)
    live.pass_on(What.LOST, {"events": 3})
    live.pass_on(What.HEARTBEAT, {"at": ""})
    live.pass_on(What.LOST, {"events": 4})
    assert await waiting == Event(What.LOST, {"events": 7})
    assert (await watcher.next(0.001) or waiting.result()).what is What.HEARTBEAT


@pytest.mark.parametrize(
    ("states", "together"), [(("up", "up"), "up"), (("ejected", "up"), "ejected"), (("up", "ejected"), "ejected")]
)
async def test_upstreams_have_the_counts_of_all_workers(folder: Path, states: tuple[str, str], together: str) -> None:
    one, two = Worker(folder, "1"), Worker(folder, "2")
    one.state, two.state = states
    async with started(one, two):
        for worker in (one, two):
            worker.live.on_exchange_start(exchange())
        found = await one.machine.upstreams()
    assert found.items == [upstream("default", together, running=2, connections=4)]


def test_upstreams_that_only_some_workers_know_yet_are_kept() -> None:
    assert merged([[upstream("a", running=1)], [upstream("b"), upstream("a", running=2)]]) == [
        upstream("a", running=3),
        upstream("b"),
    ]


def account(name: str, state: str = "up", back_at: str | None = None, **counts: Any) -> dict[str, Any]:
    return {"name": name, "state": state, "reason": "", "back_at": back_at, "limit": None, "running": 0, "waiting": 0} | counts


def test_accounts_have_the_counts_and_limits_of_all_workers() -> None:
    one = upstream("a") | {"waiting": 1, "accounts": [account("work", limit=2, running=1), account("spare")]}
    two = upstream("a") | {"waiting": 2, "accounts": [account("work", limit=3, waiting=2), account("new", running=1)]}
    (found,) = merged([[one], [two]])
    assert found["waiting"] == 3
    assert found["accounts"] == [account("work", limit=5, running=1, waiting=2), account("spare"), account("new", running=1)]


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_ends_of_a_pause_the_later_one_is_shown(turned: bool) -> None:
    views = [upstream("a", "out") | {"back_at": at} for at in ("2026-01-01T01:00:00.000Z", "2026-01-01T02:00:00.000Z")]
    (found,) = merged([[one] for one in (reversed(views) if turned else views)])
    assert (found["state"], found["back_at"]) == ("out", "2026-01-01T02:00:00.000Z")
