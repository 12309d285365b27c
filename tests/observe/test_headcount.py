"""Workers that count each other over real Unix sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from claude_proxy.observe.headcount import Headcount
from claude_proxy.observe.siblings import Siblings
from tests.integration.leftovers import until
from tests.observe.folders import short_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


class Worker:
    """One worker, and what it was told.

    Attributes:
        counts: the numbers of workers, as they changed.
        advised: the numbers that it was asked for advice about.
    """

    def __init__(
        self, folder: Path, name: str, *, group: str | None = "group", known: int = 1, look: float = 0.01, settled: float = 0.0
    ) -> None:
        self.counts: list[int] = []
        self.advised: list[int] = []
        self.siblings = Siblings(folder, group=lambda: group, name=name)
        self.headcount = Headcount(
            self.siblings, self.counts.append, self._advise, known=known, look=look, settled=settled
        )  # fmt: skip

    def _advise(self, workers: int) -> str | None:
        self.advised.append(workers)
        return None

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        await self.siblings.start()
        await self.headcount.start()
        try:
            yield
        finally:
            await self.headcount.aclose()
            await self.siblings.aclose()


async def test_each_worker_that_starts_is_counted_by_all_without_being_looked_for(folder: Path) -> None:
    one, two, three = (Worker(folder, name, look=3600) for name in "123")
    async with one.at_work():
        assert one.headcount.count == 1
        async with two.at_work():
            await until(lambda: one.headcount.count == 2)
            async with three.at_work():
                await until(lambda: {each.headcount.count for each in (one, two, three)} == {3})
    assert (one.counts, two.counts, three.counts) == ([2, 3], [2, 3], [3])


async def test_a_worker_that_ends_is_not_counted_after_a_while(folder: Path) -> None:
    one, two = (Worker(folder, name) for name in "12")
    async with one.at_work():
        async with two.at_work():
            await until(lambda: one.headcount.count == 2)
        await until(lambda: one.headcount.count == 1)
    assert one.counts == [2, 1]


async def test_a_worker_that_is_replaced_changes_nothing(folder: Path) -> None:
    one, two = Worker(folder, "1", settled=3600), Worker(folder, "2")
    async with one.at_work():
        async with two.at_work():
            await until(lambda: one.headcount.count == 2)
        await until(lambda: one.headcount._fewer_since is not None)
        async with Worker(folder, "3").at_work():
            await until(lambda: one.headcount._fewer_since is None)
    assert one.counts == [2]


@pytest.mark.parametrize("group", [None, "group"], ids=["no workers", "the only worker"])
async def test_what_the_settings_say_holds_until_it_proves_wrong(folder: Path, group: str | None) -> None:
    """`gunicorn -w 1` in an environment with WEB_CONCURRENCY=4."""
    one = Worker(folder, "1", group=group, known=4, settled=0.05)
    async with one.at_work():
        assert one.headcount.count == 4
        await until(lambda: one.headcount.count == 1)
    assert one.counts == [1]


async def test_workers_that_cannot_find_each_other_believe_the_settings(folder: Path) -> None:
    (folder / "workers").write_text("not a folder")
    one = Worker(folder, "1", known=4)
    async with one.at_work():
        await until(lambda: bool(one.advised))
    assert (one.headcount.count, one.counts) == (4, [])


async def test_one_of_them_is_asked_for_advice_and_only_once(folder: Path) -> None:
    workers = [Worker(folder, name, look=0.2) for name in "123"]
    async with workers[0].at_work(), workers[1].at_work(), workers[2].at_work():
        await until(lambda: bool(workers[0].advised))
    assert [each.advised for each in workers] == [[3], [], []]
