"""Workers that ask each other over real Unix sockets: some answer, some hang, some were killed, some talk nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.observe.election import MAX_SOCKET_PATH, Election
from claude_proxy.observe.siblings import Siblings
from tests.integration.leftovers import Leftovers, until
from tests.observe.folders import short_folder

LONG = 10.0


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def worker(folder: Path, name: str, *, group: str | None = "group", patience: float = LONG) -> Siblings:
    """A worker that answers `echo` with its name and the question, and `count` with 1, 2, 3."""
    made = Siblings(folder, group=lambda: group, name=name, patience=patience)
    made.on_question("echo", lambda data: [name, data])
    made.on_listen("count", count)
    return made


async def count() -> AsyncIterator[Any]:
    for number in (1, 2, 3):
        yield number


@asynccontextmanager
async def started(*workers: Siblings) -> AsyncIterator[None]:
    for one in workers:
        await one.start()
    try:
        yield
    finally:
        for one in workers:
            await one.aclose()


async def test_every_other_worker_of_the_group_answers(folder: Path) -> None:
    one, two, three = (worker(folder, name) for name in "123")
    async with started(one, two, three, worker(folder, "4", group="another server")):
        for asking, others in ((one, "23"), (two, "13"), (three, "12")):
            answers = await asking.ask("echo", {"n": 1, "secret": b"\xff"})
            assert sorted(answers.data) == [[name, {"n": 1, "secret": b"\xff"}] for name in others]
            assert answers.silent == 0
    assert list((folder / "workers").iterdir()) == []


@pytest.mark.parametrize("topic", ["nobody-knows-it", "count"])
async def test_a_question_that_nobody_answers_has_no_answers(folder: Path, topic: str) -> None:
    one, two = worker(folder, "1"), worker(folder, "2")
    async with started(one, two):
        assert [data for data in (await one.ask(topic)).data if not isinstance(data, int)] == []


async def test_a_process_that_works_alone_opens_no_socket(folder: Path) -> None:
    alone = worker(folder, "1", group=None)
    async with started(alone):
        assert (await alone.ask("echo")).data == []
        assert not (folder / "workers").exists()


async def test_without_a_folder_it_is_alone(folder: Path) -> None:
    (folder / "workers").write_text("not a folder")
    alone = worker(folder, "1")
    async with started(alone):
        assert (await alone.ask("echo")) == ([], 0)


async def test_a_worker_that_hangs_is_counted_and_costs_no_more_than_the_patience(folder: Path) -> None:
    one, two = worker(folder, "1", patience=0.05), worker(folder, "2")
    hanging = Election(folder, "group-3")
    assert hanging.stand()
    assert hanging.socket is not None
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(hanging.socket))
        silent.listen()
        hanging.announce()
        async with started(one, two):
            answers = await one.ask("echo")
    assert ([name for name, _ in answers.data], answers.silent) == (["2"], 1)
    hanging.resign()


@pytest.mark.parametrize("left", ["no socket", "a socket that nobody listens on"])
async def test_what_a_killed_worker_left_is_neither_asked_for_long_nor_counted(folder: Path, left: str) -> None:
    one, two = worker(folder, "1"), worker(folder, "2")
    async with started(one, two):
        path = folder / "workers/group-9.sock"
        (folder / "workers/group-9.lock").write_text(str(path))
        if left != "no socket":
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(path))
        assert await one.ask("echo") == ([["2", None]], 0)
        async with started(worker(folder, "3")):  # the next one to start clears it away
            assert not (folder / "workers/group-9.lock").exists()
            assert not path.exists()


@pytest.mark.parametrize("sent", [b"", b"\0\0\0\x05hello", b"\xff\xff\xff\xff", b"\0\0\0\x02\x91\xa1"])
async def test_nonsense_ends_its_own_connection_only(folder: Path, sent: bytes) -> None:
    one, two = worker(folder, "1"), worker(folder, "2")
    async with started(one, two):
        reader, writer = await asyncio.open_unix_connection(one.others()[0])
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        assert (await one.ask("echo")).data == [["2", None]]


async def test_a_handler_that_fails_costs_its_own_answer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two, three = (worker(folder, name) for name in "123")
    two.on_question("echo", lambda _: 1 // 0)
    async with started(one, two, three):
        assert await one.ask("echo") == ([["3", None]], 0)
    assert "worker_question_failed" in capsys.readouterr().out


async def test_a_stream_is_heard_to_its_end(folder: Path) -> None:
    one, two = worker(folder, "1"), worker(folder, "2")
    async with started(one, two):
        (path,) = one.others()
        assert [number async for number in one.listen(path, "count")] == [1, 2, 3]


async def test_a_stream_is_closed_when_its_listener_goes(folder: Path) -> None:
    one, two = worker(folder, "1"), worker(folder, "2")
    state: list[str] = []

    async def endless() -> AsyncIterator[Any]:
        try:
            yield "first"
            state.append("open")
            await asyncio.Event().wait()
        finally:
            state.append("closed")

    two.on_listen("endless", endless)
    async with started(one, two):
        left = Leftovers()
        async with contextlib.aclosing(one.listen(one.others()[0], "endless")) as heard:  # type: ignore[type-var]
            assert await anext(heard) == "first"
            await until(lambda: state == ["open"])
        await until(lambda: state == ["open", "closed"])
        await left.gone()


async def test_a_stop_ends_the_streams(folder: Path) -> None:
    one, two = worker(folder, "1"), worker(folder, "2")

    async def endless() -> AsyncIterator[Any]:
        yield "first"
        await asyncio.Event().wait()

    two.on_listen("endless", endless)
    async with started(one, two):
        heard = one.listen(one.others()[0], "endless")
        assert await anext(heard) == "first"
        await two.aclose()
        assert [one async for one in heard] == []


async def test_a_path_too_long_for_a_socket_is_no_obstacle(folder: Path) -> None:
    deep = folder / ("d" * MAX_SOCKET_PATH)
    one, two = worker(deep, "1"), worker(deep, "2")
    async with started(one, two):
        assert not one.others()[0].is_relative_to(deep)
        assert (await one.ask("echo")).data == [["2", None]]
