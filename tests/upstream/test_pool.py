"""The pool: reuse, expiry, limits, turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from claude_proxy.errors import ConnectFailed, Unavailable, UpstreamTimeout
from claude_proxy.simulator import Scenario, Simulator, faults
from claude_proxy.upstream.connection import Connection
from claude_proxy.upstream.dial import parse_origin
from claude_proxy.upstream.pool import FRESH, Pool
from claude_proxy.upstream.suspend import TOLERANCE, SuspendWatch, boot_clock
from tests.integration.leftovers import until
from tests.integration.listeners import not_accepting

ASK = b"GET /api/anthropic/v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
RESTED = FRESH * 2  # seconds after which an idle connection is looked at before it is taken


@asynccontextmanager
async def pool_to(
    base_url: str, *, expiry: float = 30, limit: int = 10, connect_timeout: float = 5, watch: SuspendWatch | None = None
) -> AsyncIterator[Pool]:
    """A pool, closed at the end."""
    origin = parse_origin(base_url)
    pool = Pool(origin, connect_timeout=connect_timeout, expiry=expiry, limit=limit, suspend_watch=watch)
    yield pool
    pool.close()
    await until(lambda: len(pool) == 0)


def now() -> float:
    return asyncio.get_running_loop().time()


async def use(pool: Pool) -> Connection:
    """One request on an idle connection or a new one; the connection is not given back."""
    connection = pool.take(now()) or await pool.connect(asyncio.get_running_loop())
    connection.send(ASK, b"")
    await connection.head()
    while not connection.finished:
        await connection.read()
    return connection


async def test_the_connection_used_last_is_used_next(simulator: Simulator) -> None:
    async with pool_to(simulator.base_url) as pool:
        first, second = await use(pool), await use(pool)
        assert (len(pool), pool.idle) == (2, 0)
        pool.release(first, now())
        pool.release(second, now())
        assert pool.idle == 2
        assert pool.take(now()) is second
        assert pool.take(now()) is first
        assert pool.take(now()) is None


async def test_a_connection_that_has_rested_too_long_is_not_used(simulator: Simulator) -> None:
    async with pool_to(simulator.base_url, expiry=30) as pool:
        connection = await use(pool)
        pool.release(connection, now())
        assert pool.take(now() + 30) is None
        await simulator.wait_for(lambda sim: not sim.open_connections)


async def test_idle_connections_are_closed_in_time_without_being_asked_for(simulator: Simulator) -> None:
    async with pool_to(simulator.base_url, expiry=0.1) as pool:
        one, other = await use(pool), await use(pool)
        pool.release(one, now())
        pool.release(other, now())
        await simulator.wait_for(lambda sim: not sim.open_connections)
        assert (len(pool), pool.idle) == (0, 0)


async def test_with_no_expiry_nothing_is_kept(simulator: Simulator) -> None:
    async with pool_to(simulator.base_url, expiry=0) as pool:
        pool.release(await use(pool), now())
        assert pool.idle == 0
        await simulator.wait_for(lambda sim: not sim.open_connections)


@pytest.mark.parametrize(
    ("said", "rests", "good"),
    [
        ("timeout=5", 3.9, True),
        ("timeout=5", 4.0, False),
        ("max=100, timeout=5", 4.0, False),
        ("Timeout = 5", 29.0, True),  # no number: our own expiry
        ("timeout=1", 0.0, False),
        ("timeout=600", 30.0, False),
        ("timeout=x", 29.0, True),
    ],
)
async def test_what_an_upstream_says_of_keeping_it_is_heeded(simulator: Simulator, said: str, rests: float, good: bool) -> None:
    simulator.scenario = Scenario(headers=(("keep-alive", said),))
    async with pool_to(simulator.base_url) as pool:
        connection = await use(pool)
        pool.release(connection, since := now())
        assert (pool.take(since + rests) is connection) is good


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_connection_that_the_upstream_closed_is_not_used(simulator: Simulator, how: faults.Ending) -> None:
    simulator.scenario = Scenario(fault=faults.close_after(how))
    async with pool_to(simulator.base_url) as pool:
        connection = await use(pool)
        await simulator.wait_for(lambda sim: not sim.open_connections)
        pool.release(connection, now())
        await until(lambda: connection.closed)
        assert pool.take(now()) is None
        assert pool.idle == len(pool) == 0


async def test_a_close_that_the_loop_has_not_seen_yet_is_seen_by_the_kernel(simulator: Simulator) -> None:
    """Between two turns of the loop the kernel already knows; `take` asks it for a connection that has rested."""
    async with pool_to(simulator.base_url) as pool:
        connection = await use(pool)
        pool.release(connection, now() - 1)
        connection._transport.pause_reading()  # the loop will not see it
        peer = next(iter(simulator._open))
        peer.transport.abort()
        await simulator.wait_for(lambda sim: not sim.open_connections)
        assert not connection.closed
        assert pool.take(now()) is None


class Clocks:
    """The boot clock and the monotonic one, set by hand."""

    def __init__(self) -> None:
        self.boot = self.monotonic = 100.0

    def watch(self) -> SuspendWatch:
        return SuspendWatch(lambda: self.boot, lambda: self.monotonic)

    def run(self, seconds: float) -> None:
        self.boot += seconds
        self.monotonic += seconds

    def suspend(self, seconds: float) -> None:
        self.boot += seconds


async def test_after_a_suspend_no_idle_connection_is_used(simulator: Simulator) -> None:
    clocks = Clocks()
    async with pool_to(simulator.base_url, watch=clocks.watch()) as pool:
        connections = [await use(pool) for _ in range(3)]
        for connection in connections:
            pool.release(connection, now())
        clocks.suspend(3600)
        assert pool.take(now() + RESTED) is None
        await until(lambda: all(connection.closed for connection in connections))
        fresh = await use(pool)
        pool.release(fresh, now())
        clocks.run(3600)
        assert pool.take(now() + RESTED) is fresh


async def test_after_a_suspend_idle_connections_are_closed_without_being_asked_for(simulator: Simulator) -> None:
    clocks = Clocks()
    async with pool_to(simulator.base_url, watch=clocks.watch(), expiry=0.2) as pool:
        connection = await use(pool)
        pool.release(connection, now() + 60)  # it would not expire for a minute
        clocks.suspend(10)
        await until(lambda: connection.closed)


async def test_a_suspend_does_not_touch_a_connection_in_use(simulator: Simulator) -> None:
    clocks = Clocks()
    async with pool_to(simulator.base_url, watch=clocks.watch()) as pool:
        idle, busy = await use(pool), await use(pool)
        pool.release(idle, now())
        clocks.suspend(10)
        assert pool.take(now() + RESTED) is None
        assert not busy.closed
        pool.release(busy, now())
        assert pool.take(now() + RESTED) is busy


@pytest.mark.parametrize(("seconds", "noticed"), [(0.0, False), (TOLERANCE, False), (TOLERANCE + 0.1, True), (1e6, True)])
def test_a_suspend_is_told_once(seconds: float, noticed: bool) -> None:
    clocks = Clocks()
    watch = clocks.watch()
    clocks.run(1e6)
    clocks.suspend(seconds)
    assert [watch.was_suspended(), watch.was_suspended()] == [noticed, False]


def test_clocks_that_drift_apart_slowly_are_no_suspend() -> None:
    clocks = Clocks()
    watch = clocks.watch()
    for _ in range(100):
        clocks.suspend(0.5)
        assert not watch.was_suspended()


def test_the_machines_own_clocks_tell_of_no_suspend_now() -> None:
    before = boot_clock()
    assert not SuspendWatch().was_suspended()
    assert boot_clock() >= before


async def test_the_limit_holds_and_the_next_in_the_queue_gets_what_becomes_free(simulator: Simulator) -> None:
    async with pool_to(simulator.base_url, limit=2) as pool:
        held = [await use(pool), await use(pool)]
        waiting = [asyncio.create_task(use(pool)) for _ in range(3)]
        await until(lambda: pool.waiting == 3)
        for task in waiting:
            pool.release(held.pop(0), now())
            held.append(await task)
        assert simulator.connections == 2
        assert len(pool) == 2


async def test_a_place_becomes_free_when_a_connection_is_closed(simulator: Simulator) -> None:
    async with pool_to(simulator.base_url, limit=1) as pool:
        connection = await use(pool)
        waiting = asyncio.create_task(use(pool))
        await until(lambda: pool.waiting)
        connection.abort()
        other = await waiting
    assert other is not connection
    assert simulator.connections == 2


async def test_no_place_in_time(simulator: Simulator) -> None:
    async with pool_to(simulator.base_url, limit=1, connect_timeout=0.1) as pool:
        connection = await use(pool)
        with pytest.raises(Unavailable, match="MAX_CONNECTIONS"):
            await use(pool)
        pool.release(connection, now())
        assert await use(pool) is connection


async def test_those_who_gave_up_do_not_take_a_turn(simulator: Simulator) -> None:
    async with pool_to(simulator.base_url, limit=1) as pool:
        connection = await use(pool)
        tasks = [asyncio.create_task(use(pool)) for _ in range(3)]
        await until(lambda: pool.waiting == 3)
        pool.release(connection, now())
        tasks[0].cancel()  # woken, and cancelled before it runs
        tasks[1].cancel()
        assert await tasks[2] is connection
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == [True, True, False]


async def test_a_newcomer_does_not_take_what_was_released_for_one_that_waits(simulator: Simulator) -> None:
    async with pool_to(simulator.base_url, limit=1) as pool:
        connection = await use(pool)
        first, second = (asyncio.create_task(use(pool)) for _ in range(2))
        await until(lambda: pool.waiting == 2)
        pool.release(connection, now())
        assert pool.take(now()) is None  # the one who waits has not even run since
        newcomer = asyncio.create_task(use(pool))
        assert await first is connection
        assert not second.done()
        pool.release(connection, now())
        assert await second is connection
        assert not newcomer.done()
        pool.release(connection, now())
        assert await newcomer is connection


async def test_a_connection_that_closes_on_its_way_to_a_waiter_does_not_cost_the_waiter_its_turn(simulator: Simulator) -> None:
    async with pool_to(simulator.base_url, limit=1) as pool:
        connection = await use(pool)
        first, second = (asyncio.create_task(pool.connect(asyncio.get_running_loop())) for _ in range(2))
        await until(lambda: pool.waiting == 2)
        pool.release(connection, now())
        connection.connection_lost(None)
        replacement = await first
        assert replacement is not connection
        assert (pool.waiting, len(pool), second.done()) == (1, 1, False)
        replacement.abort()
        (await second).abort()


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
async def test_ten_thousand_that_gave_up_leave_nothing_behind(simulator: Simulator, how: str) -> None:
    patience = 0.2 if how == "timed out" else 60
    async with pool_to(simulator.base_url, limit=1, connect_timeout=patience) as pool:
        connection = await use(pool)
        tasks = [asyncio.create_task(use(pool)) for _ in range(10_000)]
        await until(lambda: pool.waiting == len(tasks))
        if how == "cancelled":
            for task in reversed(tasks):
                task.cancel()
        await asyncio.wait(tasks)
        assert pool.waiting == 0
        assert not pool._queue
        pool.release(connection, now())
        assert await use(pool) is connection


async def test_those_who_wait_when_the_pool_closes_are_told(simulator: Simulator) -> None:
    async with pool_to(simulator.base_url, limit=1) as pool:
        await use(pool)
        waiting = [asyncio.create_task(use(pool)) for _ in range(3)]
        await until(lambda: pool.waiting == 3)
        pool.close()
        failures = await asyncio.gather(*waiting, return_exceptions=True)
        assert [getattr(failure, "code", failure) for failure in failures] == ["draining"] * 3
        with pytest.raises(Unavailable, match="stopping"):
            await use(pool)


async def test_a_connection_that_fails_gives_its_place_to_the_next() -> None:
    hang_up = asyncio.Event()

    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hang_up.wait()
        writer.transport.abort()

    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, pool_to(url, limit=1, connect_timeout=10) as pool:
        tasks = [asyncio.create_task(use(pool)) for _ in range(3)]
        await until(lambda: pool.waiting == 2)
        hang_up.set()
        async with asyncio.timeout(5):
            failures = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(failure, "code", failure) for failure in failures] == ["tls_failed"] * 3


async def test_failures_leave_no_place_taken(simulator: Simulator) -> None:
    await simulator.refuse()
    async with pool_to(simulator.base_url, limit=1) as pool:
        for _ in range(3):
            with pytest.raises(ConnectFailed, match=f"127.0.0.1:{simulator.port} does not accept connections"):
                await use(pool)
        await simulator.start()
        await use(pool)


async def test_waiting_for_a_connection_that_is_not_made_ends_in_time() -> None:
    async with not_accepting() as port, pool_to(f"http://127.0.0.1:{port}", limit=1, connect_timeout=0.1) as pool:
        for _ in range(2):
            with pytest.raises(UpstreamTimeout, match="CONNECT_TIMEOUT"):
                await use(pool)


async def test_a_closed_pool_keeps_nothing(simulator: Simulator) -> None:
    async with pool_to(simulator.base_url) as pool:
        idle, busy = await use(pool), await use(pool)
        pool.release(idle, now())
        pool.close()
        pool.release(busy, now())
        await simulator.wait_for(lambda sim: not sim.open_connections)
        assert pool.take(now()) is None


async def test_a_retired_pool_keeps_nothing_but_serves_who_still_needs_it(simulator: Simulator) -> None:
    """Its upstream was removed by a reload, while exchanges that began before still run."""
    async with pool_to(simulator.base_url) as pool:
        idle, busy = await use(pool), await use(pool)
        pool.release(idle, now())
        pool.retire()
        assert pool.idle == 0
        await until(lambda: len(pool) == 1)
        late = await use(pool)
        pool.release(busy, now())
        pool.release(late, now())
        await simulator.wait_for(lambda sim: not sim.open_connections)
        assert len(pool) == 0


async def test_who_waits_for_a_place_in_a_retired_pool_gets_one(simulator: Simulator) -> None:
    async with pool_to(simulator.base_url, limit=1) as pool:
        first = await use(pool)
        waiting = asyncio.create_task(use(pool))
        await until(lambda: pool.waiting == 1)
        pool.retire()
        pool.release(first, now())
        second = await waiting
        pool.release(second, now())
        assert second is not first
        await until(lambda: len(pool) == 0)
