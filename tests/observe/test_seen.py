"""What the workers of a machine tell the page: what runs, and what ended since the last look, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.exchange import Exchange
from claude_proxy.observe.live import REMEMBERED, Live
from claude_proxy.observe.seen import SHOWN, Together
from claude_proxy.observe.siblings import Siblings
from tests.observe.folders import short_folder
from tests.observe.running import exchange, finished


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


class Worker:
    """One of several workers in this process, told apart by their names."""

    def __init__(self, folder: Path, name: str) -> None:
        self.live = Live()
        self.siblings = Siblings(folder, group=lambda: "group", name=name, patience=10.0)
        self.together = Together(self.live, self.siblings, lambda _: 2 * 10**9, lambda: [{"name": name}])

    def runs(self, **values: Any) -> Exchange:
        one = exchange(**values)
        self.live.on_exchange_start(one)
        return one

    def ends(self, ago: float = 0.0) -> Exchange:
        one = finished(ended=asyncio.get_running_loop().time() - ago)
        self.live.on_exchange_end(one)
        return one


@asynccontextmanager
async def workers(folder: Path, *names: str) -> AsyncIterator[list[Worker]]:
    made = [Worker(folder, name) for name in names]
    for one in made:
        await one.siblings.start()
    try:
        yield made
    finally:
        for one in made:
            await one.siblings.aclose()


def ended(answers: list[dict[str, Any]]) -> set[str]:
    return {one["id"] for answer in answers for one in answer["ended"]}


async def test_each_worker_sees_what_runs_in_all(folder: Path) -> None:
    async with workers(folder, "1", "2") as (one, two):
        here, there = one.runs(model="glm-5.3"), two.runs(project="checkout")
        for asking in (one, two):
            answers = await asking.together.look()
            assert {item["id"] for answer in answers for item in answer["running"]} == {here.id, there.id}
            assert [answer["states"] for answer in answers] == [{"reading": 1}, {"reading": 1}]
            assert {answer["upstreams"][0]["name"] for answer in answers} == {"1", "2"}
        running = {item["id"]: item for answer in answers for item in answer["running"]}
        assert running[there.id]["project"] == "checkout"


async def test_what_ended_before_is_told_once_to_each_who_follows(folder: Path) -> None:
    async with workers(folder, "1", "2") as (one, two):
        old, new = two.ends(ago=60.0), two.ends(ago=0.5)
        assert ended(await one.together.news()) == {old.id, new.id}, "the first look gets all that is remembered"
        assert ended(await one.together.news()) == {new.id}, "what has just ended comes again, for the clocks' sake"
        assert ended(await two.together.news()) == {old.id, new.id}
        assert ended(await one.together.look()) == {old.id, new.id}
        (told,) = [item for answer in await one.together.news() for item in answer["ended"]]
        assert told["cost_usd"] is None, "an exchange without usage costs nothing that we know"


async def test_only_the_last_ones_are_remembered_and_only_the_newest_are_shown(folder: Path) -> None:
    async with workers(folder, "1") as (one,):
        gone = [one.ends() for _ in range(REMEMBERED + 5)]
        there = [one.runs() for _ in range(SHOWN + 5)]
        (answer,) = await one.together.look()
        assert [item["id"] for item in answer["ended"]] == [item.id for item in gone[5:]]
        assert [item["id"] for item in answer["running"]] == [item.id for item in reversed(there[5:])]
        assert answer["states"] == {"reading": SHOWN + 5}


async def test_a_worker_that_has_gone_is_left_out(folder: Path) -> None:
    async with workers(folder, "1", "2") as (one, two):
        await two.siblings.aclose()
        assert len(await one.together.look()) == 1
