"""Workers that see one another: over sockets in one folder, only while somebody asks, without those that hang or have gone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.observe import fleet as fleets
from claude_proxy.observe.fleet import SUFFIX, Fleet
from claude_proxy.observe.live import Live, Watcher
from claude_proxy.observe.reports import read_frame, write_frame
from tests.ledger.waiting import until
from tests.observe.running import exchange, finished

GROUP = "abcdef"


class Worker:
    """A worker's part in it; several live in this process, told apart by their names."""

    def __init__(self, folder: Path, name: str, group: str | None = GROUP) -> None:
        self.live = Live(clock=lambda: 60.0)
        self.fleet = Fleet(self.live, self.answer, folder, group=lambda: group, name=lambda: name)
        self.name = name

    def answer(self, watcher: Watcher) -> dict[str, Any]:
        ended = [one.id for one in watcher.take_ended()]
        return {"name": self.name, "running": len(self.live.exchanges), "ended": ended}


@asynccontextmanager
async def workers(folder: Path, *names: str) -> AsyncIterator[list[Worker]]:
    """Workers that have started."""
    made = [Worker(folder, name) for name in names]
    for one in made:
        await one.fleet.start()
    try:
        yield made
    finally:
        for one in made:
            await one.fleet.aclose()


@pytest.fixture(autouse=True)
def _looks_at_the_folder_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleets, "LOOK", 0.0)


async def test_each_worker_sees_the_others_and_not_itself(tmp_path: Path) -> None:
    async with workers(tmp_path, "1", "2", "3") as (one, two, three):
        two.live.on_exchange_start(exchange())
        three.live.on_exchange_start(exchange())
        three.live.on_exchange_start(exchange())
        assert {answer["name"]: answer["running"] for answer in await one.fleet.ask()} == {"2": 1, "3": 2}
        assert {answer["name"] for answer in await two.fleet.ask()} == {"1", "3"}


async def test_what_ended_is_told_once_to_each_who_asks(tmp_path: Path) -> None:
    async with workers(tmp_path, "1", "2", "3") as (one, two, three):
        await one.fleet.ask()
        await two.fleet.ask()
        done = finished()
        three.live.on_exchange_end(done)
        for asking in (one, two):
            answers = {answer["name"]: answer["ended"] for answer in await asking.fleet.ask()}
            assert answers["3"] == [done.id]
            answers = {answer["name"]: answer["ended"] for answer in await asking.fleet.ask()}
            assert answers["3"] == []


async def test_nobody_watches_a_worker_before_it_is_asked_or_after_the_asker_let_go(tmp_path: Path) -> None:
    async with workers(tmp_path, "1", "2") as (one, two):
        assert two.live.watchers == 0
        await one.fleet.ask()
        assert two.live.watchers == 1
        one.fleet.let_go()
        await asyncio.to_thread(until, lambda: two.live.watchers == 0)
        assert [answer["name"] for answer in await one.fleet.ask()] == ["2"]


async def test_a_worker_that_works_alone_asks_nobody_and_leaves_no_file(tmp_path: Path) -> None:
    one = Worker(tmp_path, "1", group=None)
    await one.fleet.start()
    assert await one.fleet.ask() == []
    await one.fleet.aclose()
    assert not (tmp_path / "workers").exists()  # a look at a folder of the test


async def test_workers_of_another_server_are_not_asked(tmp_path: Path) -> None:
    stranger = Worker(tmp_path, "9", group="another")
    await stranger.fleet.start()
    async with workers(tmp_path, "1", "2") as (one, _):
        assert [answer["name"] for answer in await one.fleet.ask()] == ["2"]
    await stranger.fleet.aclose()


async def test_a_worker_that_has_gone_is_left_out_and_one_that_came_is_found(tmp_path: Path) -> None:
    async with workers(tmp_path, "1", "2") as (one, two):
        await one.fleet.ask()
        await two.fleet.aclose()
        assert await one.fleet.ask() == []
        async with workers(tmp_path, "3"):
            assert [answer["name"] for answer in await one.fleet.ask()] == ["3"]


async def test_the_file_of_a_killed_worker_is_removed(tmp_path: Path) -> None:
    async with workers(tmp_path, "1") as (one,):
        left = tmp_path / "workers" / f"{GROUP}.7{SUFFIX}"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(left))
        assert await one.fleet.ask() == []
        assert not left.exists()


@pytest.mark.parametrize("fault", ["silent", "hangs up", "nonsense", "too much"])
async def test_a_worker_that_answers_badly_costs_only_its_own_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(fleets, "PATIENCE", 0.2)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with_answer = {"nonsense": b"\x03\0\0", "too much": b"\xff\xff\xff\xff"}
        await read_frame(reader)
        if fault == "nonsense":
            write_frame(writer, b"\xc1")
        elif fault in with_answer:
            writer.write(with_answer[fault])
        if fault == "silent":
            await reader.read()
        writer.close()

    async with workers(tmp_path, "1", "2") as (one, _):
        server = await asyncio.start_unix_server(serve, tmp_path / "workers" / f"{GROUP}.bad{SUFFIX}")
        async with server:
            for _ in range(2):
                assert [answer["name"] for answer in await one.fleet.ask()] == ["2"]


async def test_a_path_too_long_for_a_socket_names_one_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    async with workers(folder, "1", "2") as (one, _):
        assert [answer["name"] for answer in await one.fleet.ask()] == ["2"]
        elsewhere = [Path(path.read_text()) for path in (folder / "workers").iterdir()]
        assert all(path.is_socket() for path in elsewhere)
    assert list((folder / "workers").iterdir()) == []
    assert [path for path in elsewhere if path.parent.exists()] == []


async def test_a_folder_that_cannot_be_used_leaves_each_worker_to_itself(tmp_path: Path) -> None:
    (tmp_path / "workers").write_text("in the way")
    async with workers(tmp_path, "1", "2") as (one, _):
        assert await one.fleet.ask() == []


async def test_the_sockets_are_for_this_user_alone(tmp_path: Path) -> None:
    async with workers(tmp_path, "1"):
        assert (tmp_path / "workers").stat().st_mode & 0o077 == 0
