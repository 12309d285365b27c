"""One leader among several workers: it alone gets the events of all, and each of them once, whoever ends when."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.notify import crew as crews
from claude_proxy.notify.crew import Crew
from claude_proxy.notify.events import Answered, Event, Failed
from claude_proxy.observe.election import Election
from tests.notify.exchanges import answered, fault, settings, used_up
from tests.notify.test_notifier import Clock, Sent, made

PERIOD = 0.01


class Worker:
    """A crew whose events are kept."""

    def __init__(self, folder: Path, group: str = "notices-1") -> None:
        self.taken: list[Event] = []
        self.kept: bool | None = None
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.crew = Crew(Election(folder, group), self._lead, self._take, period=PERIOD)

    async def _lead(self, kept: bool) -> None:
        self.kept = kept
        self._tell()

    def _take(self, event: Event) -> None:
        self.taken.append(event)
        self._tell()

    def _tell(self) -> None:
        async def tell() -> None:
            async with self._changed:
                self._changed.notify_all()

        task = asyncio.get_running_loop().create_task(tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def until(self, count: int) -> None:
        async with self._changed, asyncio.timeout(20):
            await self._changed.wait_for(lambda: len(self.taken) >= count)

    async def leads(self) -> None:
        async with self._changed, asyncio.timeout(20):
            await self._changed.wait_for(lambda: self.crew.leads)


def good(number: int) -> Answered:
    return Answered("default", "z.ai", f"model-{number}", 1.0)


async def started(stack: AsyncExitStack, folder: Path, count: int) -> list[Worker]:
    workers = [Worker(folder) for _ in range(count)]
    for worker in workers:
        await worker.crew.start()
        stack.push_async_callback(end, worker)
    return workers


async def end(worker: Worker) -> None:
    await worker.crew.aclose()
    worker.crew.resign()


async def test_the_first_leads_and_gets_the_events_of_all(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        first, *others = await started(stack, tmp_path, 4)
        assert [worker.crew.leads for worker in (first, *others)] == [True, False, False, False]
        for number, worker in enumerate((first, *others)):
            worker.crew.submit(Failed(fault(upstream=f"u{number}")))
            worker.crew.submit(good(number))
        await first.until(8)
    assert sorted(event.fault.upstream for event in first.taken if isinstance(event, Failed)) == ["u0", "u1", "u2", "u3"]
    assert all(worker.taken == [] for worker in others)


async def test_the_order_of_one_worker_is_kept(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        first, second = await started(stack, tmp_path, 2)
        sent = [good(number) for number in range(2000)]
        for event in sent:
            second.crew.submit(event)
        await first.until(2000)
    assert first.taken == sent


async def test_when_the_leader_ends_another_takes_over_with_what_was_not_taken(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        first, second, third = await started(stack, tmp_path, 3)
        second.crew.submit(good(1))
        await first.until(1)
        await end(first)
        for number in range(50):
            second.crew.submit(good(100 + number))
            third.crew.submit(good(200 + number))
        waiting = [asyncio.ensure_future(worker.leads()) for worker in (second, third)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        leader = second if second.crew.leads else third
        await leader.until(100)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert len({event.model for event in leader.taken if isinstance(event, Answered)}) == len(leader.taken) == 100


async def test_the_stop_hands_over_what_waits(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        first, second = await started(stack, tmp_path, 2)
        second.crew.submit(good(1))
        await end(second)
        await first.until(1)


async def test_without_a_folder_each_works_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    async with AsyncExitStack() as stack:
        workers = await started(stack, tmp_path / "file", 2)
        for worker in workers:
            worker.crew.submit(good(1))
    assert [(worker.crew.leads, worker.kept, len(worker.taken)) for worker in workers] == [(True, False, 1)] * 2


async def test_a_leader_that_cannot_be_reached_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where another machine holds the lock of a shared folder."""
    monkeypatch.setattr(crews, "UNHEARD", 0.05)
    elsewhere = Election(tmp_path, "notices-1")
    assert elsewhere.stand()
    elsewhere.announce()
    async with AsyncExitStack() as stack:
        (worker,) = await started(stack, tmp_path, 1)
        worker.crew.submit(good(1))
        await worker.leads()
        await worker.until(1)
    assert worker.kept is False
    elsewhere.resign()


async def test_too_many_events_cost_good_answers_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crews, "WAITING", 10)
    worker = Worker(tmp_path)
    for number in range(20):
        worker.crew.submit(good(number))
    worker.crew.submit(Failed(fault()))
    for number in range(20):
        worker.crew.submit(good(100 + number))
    await worker.crew.start()
    assert len(worker.taken) == 10
    assert any(isinstance(event, Failed) for event in worker.taken)
    await worker.crew.aclose()


@pytest.mark.parametrize("junk", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x04junk", b"", b"\x00\x00\x00\x02\x91\x81"])
async def test_nonsense_on_the_socket_ends_its_connection_only(tmp_path: Path, junk: bytes) -> None:
    async with AsyncExitStack() as stack:
        first, second = await started(stack, tmp_path, 2)
        path = Election(tmp_path, "notices-1").leader()
        assert path is not None
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(junk)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        second.crew.submit(good(1))
        await first.until(1)


async def test_four_notifiers_push_an_incident_once_and_the_next_leader_closes_it(tmp_path: Path) -> None:
    clock, given = Clock(), settings(data_dir=tmp_path)
    seat: Any = lambda name: Election(tmp_path, name)  # noqa: E731
    sents = [Sent() for _ in range(4)]
    notifiers = [made(sent, clock, given, seat=seat) for sent in sents]
    for notifier in notifiers:
        await notifier.start()
    for notifier in notifiers:
        notifier.on_exchange_end(used_up(1000))
    await sents[0].until(1)
    for notifier in (notifiers[2], notifiers[3], notifiers[0]):
        await notifier.aclose()
    clock.now += 10
    for _ in range(2):
        notifiers[1].on_exchange_end(answered(clock.now, took=0))  # its own failure may still be on its way
    await sents[1].until(1)
    await notifiers[1].aclose()
    assert [sent.titles for sent in sents] == [["z.ai: usage window used up (1308)"], ["z.ai: works again"], [], []]
    assert sents[0].notices[0].sequence == sents[1].notices[0].sequence
