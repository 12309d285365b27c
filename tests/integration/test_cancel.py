"""A client that leaves: the upstream sees it within 100 ms, it is recorded once, nothing is left (docs/design.md)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from claude_proxy.exchange import Exchange, Outcome
from claude_proxy.simulator import Scenario, Simulator, faults
from claude_proxy.upstream.connection import READ_AHEAD
from tests.integration.leftovers import Leftovers, until
from tests.integration.listeners import listening, not_accepting, silent
from tests.integration.messages import FILES, MESSAGES, MODELS, body, head, length, post
from tests.integration.proxy import RunningProxy, running_proxy
from tests.integration.wire import Wire, ask, connect, request

SOON = 0.1  # seconds, as docs/design.md promises
NEVER = {"keepalive_expiry": 0}  # no upstream connection outlives its exchange: what is left is a leak


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def clean(base_url: str, **settings: object) -> AsyncIterator[RunningProxy]:
    """A proxy that must have neither upstream connection nor task left when the block is done."""
    async with running_proxy(base_url, **NEVER, **settings) as proxy:
        left = Leftovers()
        yield proxy
        await left.gone()
        assert proxy.upstream_connections == 0
        assert proxy.app.forward.running == 0


async def upstream_sees_it(simulator: Simulator, wire: Wire) -> None:
    """Leave; the upstream notices in time."""
    since = now()
    wire.leave()
    await simulator.wait_for(lambda sim: sim.requests[-1].left_at is not None)
    left = simulator.requests[-1].left_at
    assert left is not None
    assert left - since < SOON


async def cancelled(proxy: RunningProxy) -> Exchange:
    """The one exchange there was, recorded as cancelled and as nobody's fault."""
    (exchange,) = await proxy.recorder.wait_for(1)
    assert exchange.outcome is Outcome.CANCELLED
    assert exchange.failure is None
    assert exchange.ended is not None
    return exchange


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_before_the_head(simulator: Simulator, stream: bool) -> None:
    simulator.scenario = Scenario(fault=faults.stall("head"))
    async with clean(simulator.base_url) as proxy, connect(proxy.port) as wire:
        wire.send(post(stream=stream))
        await simulator.hold.wait()
        await upstream_sees_it(simulator, wire)
        exchange = await cancelled(proxy)
    assert exchange.status == 499
    assert exchange.usage is None
    assert exchange.model == "glm-5.3"


@pytest.mark.parametrize("events", [1, 4])
@pytest.mark.parametrize("where", ["events", "mid-event"])
async def test_a_client_that_leaves_a_silent_stream(simulator: Simulator, where: faults.Where, events: int) -> None:
    simulator.scenario = Scenario(fault=faults.stall(where, events))
    async with clean(simulator.base_url) as proxy, connect(proxy.port) as wire:
        wire.send(post())
        status, _ = await wire.head()
        await simulator.hold.wait()
        await upstream_sees_it(simulator, wire)
        exchange = await cancelled(proxy)
    reported = simulator.requests[0].usage
    assert (status, exchange.status) == (200, 499)
    assert exchange.usage is not None
    assert (exchange.usage.input, exchange.usage.output) == (reported.input_tokens, reported.output_tokens)
    assert reported.input_tokens > 0


async def test_a_client_that_leaves_while_events_flow(simulator: Simulator) -> None:
    simulator.scenario = Scenario("text", text="x" * 1000, deltas=1000, pace=0.002)
    async with clean(simulator.base_url) as proxy, connect(proxy.port) as wire:
        wire.send(post())
        await wire.head()
        received = sum([len(await wire.chunk()) for _ in range(20)])
        await upstream_sees_it(simulator, wire)
        exchange = await cancelled(proxy)
    assert exchange.stream
    assert exchange.usage is not None
    assert received <= exchange.bytes_out <= simulator.requests[0].sent


async def test_a_client_that_leaves_in_the_middle_of_an_unstreamed_answer(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("mid-event", 0))
    async with clean(simulator.base_url) as proxy, connect(proxy.port) as wire:
        wire.send(post(stream=False))
        await wire.head()
        await simulator.hold.wait()
        await upstream_sees_it(simulator, wire)
        exchange = await cancelled(proxy)
    assert (exchange.status, exchange.stream) == (499, False)


async def test_a_client_that_leaves_while_the_head_waits_for_the_first_event(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("events", 0))
    async with clean(simulator.base_url, first_event_wait=60) as proxy, connect(proxy.port) as wire:
        wire.send(post())
        await simulator.hold.wait()
        await upstream_sees_it(simulator, wire)
        exchange = await cancelled(proxy)
    assert exchange.status == 499


async def test_a_client_that_only_closes_its_side_has_left(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("head"))
    async with clean(simulator.base_url) as proxy, connect(proxy.port) as wire:
        wire.send(post())
        await simulator.hold.wait()
        since = now()
        wire.writer.write_eof()
        await simulator.wait_for(lambda sim: sim.requests[0].left_at is not None)
        await cancelled(proxy)
        assert (simulator.requests[0].left_at or 0) - since < SOON


async def test_a_client_that_leaves_behind_a_pipelined_request_ends_both(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("head"))
    async with clean(simulator.base_url) as proxy, connect(proxy.port) as wire:
        wire.send(post() + request("GET", MODELS))
        await simulator.hold.wait()
        await upstream_sees_it(simulator, wire)
        await cancelled(proxy)
    assert len(simulator.requests) == 1


async def test_a_client_that_leaves_while_the_upstream_does_not_accept() -> None:
    async with not_accepting() as port, clean(f"http://127.0.0.1:{port}") as proxy, connect(proxy.port) as wire:
        wire.send(post())
        await until(lambda: proxy.app.forward.config.upstreams[0].pool._dialing == 1)
        since = now()
        wire.leave()
        exchange = await cancelled(proxy)
        assert (exchange.ended or 0) - since < SOON
        assert exchange.status == 499
        assert proxy.app.forward.config.upstreams[0].pool._dialing == 0


async def test_a_client_that_leaves_while_an_outbound_proxy_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(silent) as tunnel:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{tunnel.port}")
        async with clean("https://api.example/x") as proxy, connect(proxy.port) as wire:
            wire.send(post())
            await tunnel.wait_for(lambda t: t.heads)
            since = now()
            wire.leave()
            await tunnel.wait_for(lambda t: t.left)
            assert tunnel.left[0] - since < SOON
            await cancelled(proxy)


async def test_a_client_that_leaves_while_it_waits_for_a_connection_gives_its_place_up(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("head", until="release"))
    async with clean(simulator.base_url, max_connections=1) as proxy, connect(proxy.port) as first, connect(proxy.port) as wire:
        first.send(post())
        await simulator.hold.wait()
        wire.send(post())
        await until(lambda: proxy.app.forward.config.upstreams[0].pool._queue)
        wire.leave()
        exchange = await cancelled(proxy)
        assert exchange.status == 499
        simulator.release()
        assert (await first.reply()).whole
        assert (await ask(proxy.port, "GET", MODELS)).status == 200


async def test_a_client_that_leaves_in_a_messages_body_costs_the_upstream_nothing(simulator: Simulator) -> None:
    async with clean(simulator.base_url) as proxy, connect(proxy.port) as wire:
        wire.send(head("POST", MESSAGES, length(1000)) + b'{"model":')
        await until(lambda: proxy.app.forward.running == 1)
        since = now()
        wire.leave()
        exchange = await cancelled(proxy)
        assert (exchange.ended or 0) - since < SOON
    assert exchange.status == 499
    assert simulator.connections == 0


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_client_that_leaves_in_an_upload(simulator: Simulator, chunked: bool) -> None:
    async with clean(simulator.base_url) as proxy, connect(proxy.port) as wire:
        if chunked:
            wire.send(head("POST", FILES, (b"Transfer-Encoding", b"chunked")) + b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        else:
            wire.send(head("POST", FILES, length(100_000)) + b"x" * 1000)
        await simulator.wait_for(lambda sim: sim.requests and sim.requests[0].body_size == 1000)
        await upstream_sees_it(simulator, wire)
        exchange = await cancelled(proxy)
    assert exchange.bytes_in == 1000
    assert not simulator.requests[0].complete


async def test_a_client_that_leaves_a_finished_upload_without_an_answer(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("head"))
    async with clean(simulator.base_url) as proxy, connect(proxy.port) as wire:
        wire.send(head("POST", FILES, length(200_000)) + b"x" * 100_000)
        await simulator.wait_for(lambda sim: sim.requests and sim.requests[0].body_size == 100_000)
        wire.send(b"x" * 100_000)
        await simulator.hold.wait()
        await upstream_sees_it(simulator, wire)
        exchange = await cancelled(proxy)
    assert exchange.bytes_in == 200_000


async def test_leaving_a_body_that_the_upstream_does_not_take_is_bounded_by_the_write_timeout(simulator: Simulator) -> None:
    """ASGI reports a disconnect only if we keep reading, and reading on would fill the memory."""
    simulator.scenario = Scenario(fault=faults.stop_reading())
    size = 24 * 1024 * 1024
    async with running_proxy(simulator.base_url, write_timeout=0.3) as proxy, connect(proxy.port) as wire:
        wire.send(head("POST", FILES, length(size)) + b"x" * size)
        await simulator.hold.wait()
        wire.leave()
        (exchange,) = await proxy.recorder.wait_for(1)
        assert exchange.outcome in (Outcome.CANCELLED, Outcome.FAILED)
        assert proxy.app.forward.running == 0
        simulator.release()
        await simulator.wait_for(lambda sim: not sim.open_connections)
        assert proxy.upstream_connections == 0


async def test_an_exchange_that_ended_well_is_not_cancelled_by_a_client_that_leaves_then(simulator: Simulator) -> None:
    async with clean(simulator.base_url) as proxy:
        await ask(proxy.port, "POST", MESSAGES, body=body())
        (exchange,) = await proxy.recorder.wait_for(1)
    assert exchange.outcome is Outcome.COMPLETED


STORM = [
    Scenario("text", text="x" * 500, deltas=100, pace=0.01),
    Scenario("text", text="whole"),
    Scenario(delay=0.3),
    Scenario(fault=faults.stall("head")),
    Scenario(fault=faults.stall("events", 0)),
    Scenario(fault=faults.stall("events", 5)),
    Scenario(fault=faults.stall("mid-event", 2)),
    Scenario(fault=faults.cut("events", 3)),
]


async def test_after_a_storm_of_leaving_clients_nothing_is_left(simulator: Simulator) -> None:
    clients, dice = 500, random.Random(20260831)
    moments = [dice.uniform(0, 0.3) for _ in range(clients)]
    streams = [dice.random() < 0.7 for _ in range(clients)]
    turns = iter(dice.choices(STORM, k=clients))
    simulator.scenario = lambda _: next(turns)
    at_once = asyncio.Semaphore(60)

    async def one(number: int) -> None:
        async with at_once, connect(proxy.port) as wire:
            wire.send(post(stream=streams[number]))
            with suppress(TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(moments[number]):
                    await wire.reply()

    async with clean(simulator.base_url) as proxy:
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(one(number))
        await until(lambda: not proxy.server.server_state.connections)
        await simulator.wait_for(lambda sim: not sim.open_connections)
        exchanges = await proxy.recorder.wait_for(len(proxy.recorder.started))
        assert len({exchange.id for exchange in exchanges}) == len(exchanges) == len(proxy.recorder.started)
        assert {exchange.outcome for exchange in exchanges} == {Outcome.COMPLETED, Outcome.CANCELLED, Outcome.CUT}
        assert sum(exchange.outcome is Outcome.CANCELLED for exchange in exchanges) > clients / 4
    assert all(one.outcome for one in simulator.requests)


async def test_a_client_that_leaves_while_the_last_of_its_body_waits_for_the_upstream(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stop_reading())
    async with running_proxy(simulator.base_url) as proxy, connect(proxy.port) as wire:
        wire.send(head("POST", FILES, (b"Transfer-Encoding", b"chunked")))
        upstreams = proxy.app.forward.config.upstreams[0].pool._open
        piece = b"4000\r\n%b\r\n" % (b"x" * 0x4000)
        while not any(connection.unsent > READ_AHEAD - 2 * 0x4000 for connection in upstreams):
            wire.send(piece)
            await wire.writer.drain()
            await asyncio.sleep(0)
        wire.send(b"f000\r\n%b\r\n0\r\n\r\n" % (b"y" * 0xF000))
        await until(lambda: any(connection._write_paused for connection in upstreams))
        wire.leave()
        (exchange,) = await proxy.recorder.wait_for(1)
        simulator.release()
    assert exchange.outcome is Outcome.CANCELLED


async def test_a_client_that_leaves_an_early_stream_whose_upload_failed(simulator: Simulator) -> None:
    events = b"data: 1\n\n" * 200
    simulator.scenario = Scenario("raw", body=events, content_type="text/event-stream", pace=0.02, fault=faults.early(1000))
    async with running_proxy(simulator.base_url, client_read_timeout=0.1) as proxy, connect(proxy.port) as wire:
        wire.send(head("POST", FILES, length(200_000)) + b"x" * 1000)
        await wire.head()
        for _ in range(15):  # well past CLIENT_READ_TIMEOUT
            assert await wire.chunk()
        wire.leave()
        (exchange,) = await proxy.recorder.wait_for(1, 2)
    assert exchange.outcome is Outcome.CANCELLED
