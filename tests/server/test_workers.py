"""Several workers: replaced when they die, drained together, exchanged without a failed request."""

import asyncio
import os
import signal

import pytest

from tests.server.process import Process, serving
from tests.server.test_run import gated, is_refused
from tests.server.wire import connect, get

pytestmark = pytest.mark.system  # each starts processes of its own


async def pid_of_worker(process: Process) -> int:
    async with connect(process.port) as wire:
        await wire.send(get("/pid", b"Connection: close"))
        return int((await wire.response()).body)


async def pids(process: Process, count: int) -> set[int]:
    """The pids of all workers that have ever listened, once there are so many."""
    await process.event("worker_ready", count)
    return {line["pid"] for line in process.events("worker_ready")}


def two(**environ: str) -> dict[str, str]:
    return {"WEB_CONCURRENCY": "2", "LOG_LEVEL": "debug", **environ}


async def test_the_requests_are_served_by_workers() -> None:
    async with serving(**two()) as process:
        assert await pid_of_worker(process) in await pids(process, 2)


async def test_a_killed_worker_is_replaced() -> None:
    async with serving(**two()) as process:
        await pids(process, 2)
        victim = await pid_of_worker(process)
        os.kill(victim, signal.SIGKILL)
        died = await process.event("worker_died")
        assert (died["pid"], died["code"], died["listening"]) == (victim, -9, True)
        assert len(await pids(process, 3)) == 3
        assert await pid_of_worker(process) != victim
        process.signal(signal.SIGTERM)
        assert (await process.end())[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_drains_all_workers(number: int) -> None:
    async with serving(**two()) as process:
        await pids(process, 2)
        async with connect(process.port) as first, connect(process.port) as second:
            await gated(first)
            await gated(second)
            process.signal(number)
            await process.event("draining", 2)
            assert await is_refused(process)
            for wire in (first, second):
                await wire.send(b"x")
                assert await wire.chunk() == b"last"
                assert await wire.chunk() == b""
        assert await process.end() == (0, "down draining\n" * 2)
        assert process.log[-1]["event"] == "stopped"


async def test_a_stop_that_reaches_parent_and_workers_alike_drains_too() -> None:
    """As Ctrl-C and some process managers send it: to the whole group."""
    async with serving(**two()) as process:
        await pids(process, 2)
        async with connect(process.port) as wire:
            await gated(wire)
            for pid in await pids(process, 2):
                os.kill(pid, signal.SIGINT)
                os.kill(pid, signal.SIGTERM)
            process.signal(signal.SIGTERM)
            await process.event("draining", 2)
            await wire.send(b"x")
            assert await wire.chunk() == b"last"
        assert (await process.end())[0] == 0


async def test_a_second_stop_kills_the_workers() -> None:
    async with serving(**two()) as process, connect(process.port) as wire:
        await gated(wire)
        process.signal(signal.SIGTERM)
        await process.event("draining")
        process.signal(signal.SIGTERM)
        assert (await process.end())[0] == 143
        assert await wire.rest() == b""


async def test_a_hangup_exchanges_all_workers_and_a_running_stream_finishes() -> None:
    async with serving(**two()) as process:
        old = await pids(process, 2)
        async with connect(process.port) as wire:
            await gated(wire)
            process.signal(signal.SIGHUP)
            new = await pids(process, 4) - old
            await process.event("draining", 2)
            assert await pid_of_worker(process) in new
            await wire.send(b"x")
            assert await wire.chunk() == b"last"
            assert await wire.chunk() == b""
        process.signal(signal.SIGTERM)
        assert await process.end() == (0, "down draining\n" * 4)
        assert process.events("worker_died") == []


async def test_ttin_and_ttou_change_the_number_of_workers() -> None:
    async with serving(**two()) as process:
        await pids(process, 2)
        process.signal(signal.SIGTTIN)
        await pids(process, 3)
        process.signal(signal.SIGTTOU)
        ended = await process.event("worker_ended")
        assert ended["pid"] in await pids(process, 3)
        process.signal(signal.SIGTERM)
        assert (await process.end())[0] == 0


async def test_workers_do_not_outlive_a_parent_that_is_killed() -> None:
    async with serving(**two()) as process:
        await pids(process, 2)
        process.signal(signal.SIGKILL)
        # Standard output ends only when the last process that holds it has ended.
        code, out = await asyncio.wait_for(process.end(), 30)
        assert code == -signal.SIGKILL
        assert set(out.splitlines()) <= {"down draining"}
        assert await is_refused(process)
