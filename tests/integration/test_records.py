"""What is recorded of an exchange: who asked, what it took, how it ended; once, whatever happens (docs/design.md)."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
from typing import Any

import pytest

from claude_proxy.app import create_app
from claude_proxy.exchange import Exchange, Outcome
from claude_proxy.server.limits import Limits
from claude_proxy.server.worker import Worker, WorkerConfig
from claude_proxy.settings import load
from claude_proxy.simulator import Scenario, Simulator, faults
from tests.integration.leftovers import Leftovers, until
from tests.integration.messages import JSON, MESSAGES, MODELS, body, post
from tests.integration.proxy import Recorder, RunningProxy, running_proxy
from tests.integration.wire import Header, ask, connect

CLAUDE_CODE: list[Header] = [
    (b"X-Claude-Code-Session-Id", b"0f0e0d0c-session"),
    (b"x-claude-code-agent-id", b"agent-7"),
    (b"x-claude-code-request-class", b"subagent"),
]


async def recorded(proxy: RunningProxy, *headers: Header, **fields: Any) -> Exchange:
    """One Messages request and its record."""
    await ask(proxy.port, "POST", MESSAGES + "?beta=true", [JSON, *headers], body(**fields))
    return (await proxy.recorder.wait_for(1))[-1]


async def test_who_asked(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        exchange = await recorded(proxy, *CLAUDE_CODE)
    assert (exchange.session, exchange.agent, exchange.request_class) == ("0f0e0d0c-session", "agent-7", "subagent")
    assert (exchange.method, exchange.path, exchange.client) == ("POST", "/v1/messages", "127.0.0.1")


@pytest.mark.parametrize("value", [b"x" * 5000, b"\xff\xfe", b""])
async def test_what_a_client_says_of_itself_is_bounded(simulator: Simulator, value: bytes) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        exchange = await recorded(proxy, *((name, value) for name, _ in CLAUDE_CODE), model="m" * 5000)
    assert {exchange.session, exchange.agent, exchange.request_class} == {value.decode("latin-1")[:100]}
    assert exchange.model == "m" * 200


@pytest.mark.parametrize("stream", [True, False])
async def test_what_it_took(simulator: Simulator, stream: bool) -> None:
    simulator.scenario = Scenario("text", text="x" * 20, deltas=10, delay=0.05, pace=0.03)
    async with running_proxy(simulator.base_url) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body(stream=stream))
        (exchange,) = await proxy.recorder.wait_for(1)
    assert (exchange.bytes_in, exchange.bytes_out) == (len(body(stream=stream)), len(reply.body))
    assert exchange.upstream_request_id == reply.get("request-id")
    assert exchange.first_byte is not None
    assert 0.04 <= exchange.first_byte <= exchange.duration  # the loop's clock counts milliseconds
    assert (exchange.stream, exchange.status, exchange.outcome) == (stream, 200, Outcome.COMPLETED)
    (attempt,) = exchange.attempts
    assert (attempt.upstream, attempt.status, attempt.failure) == ("default", 200, None)
    if stream:
        assert exchange.longest_silence >= 0.02
        assert exchange.duration >= 0.2 - 1e-6  # times are floats


async def test_a_compressed_request_says_nothing_but_its_answer_does(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        await ask(proxy.port, "POST", MESSAGES, [(b"Content-Encoding", b"gzip")], gzip.compress(body()))
        (exchange,) = await proxy.recorder.wait_for(1)
    assert exchange.model == "glm-5.3"


async def test_a_request_of_another_kind_has_a_record_too(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        await ask(proxy.port, "GET", MODELS)
        (exchange,) = await proxy.recorder.wait_for(1)
    assert (exchange.model, exchange.usage, exchange.stream, exchange.path) == (None, None, False, "/v1/models")


async def test_a_process_that_is_stopped_records_what_it_breaks_off(simulator: Simulator) -> None:
    """A server that runs out of patience cancels the call itself: that is nobody's leaving."""
    simulator.scenario = Scenario(fault=faults.stall("events", 3))
    async with running_proxy(simulator.base_url) as proxy, connect(proxy.port) as wire:
        left = Leftovers()
        wire.send(post())
        await wire.head()
        await simulator.hold.wait()
        for task in list(proxy.server.server_state.tasks):
            task.cancel()
        (exchange,) = await proxy.recorder.wait_for(1)
        with contextlib.suppress(ConnectionError):
            assert not (await rest(wire)).endswith(b"0\r\n\r\n")
        await left.gone()
        await until(lambda: proxy.upstream_connections == 0)
    assert exchange.outcome is Outcome.ABORTED
    assert exchange.usage is not None
    assert exchange.usage.input


async def test_what_outlasts_the_grace_time_is_recorded_as_broken_off_by_us(simulator: Simulator) -> None:
    """Not as a client that left, although its connection ends too."""
    simulator.scenario = Scenario(fault=faults.stall("events", 3))
    recorder = Recorder()
    given = load({}, base_url=simulator.base_url).settings
    config = WorkerConfig(
        create_app(given, listeners=[recorder]), factory=False, limits=Limits(), grace=0.1, root_path="", trusted=""
    )
    ready = asyncio.Event()
    worker = Worker(config, on_ready=ready.set)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(worker.serve([listener]))
        await ready.wait()
        async with connect(listener.getsockname()[1]) as wire:
            wire.send(post())
            await wire.head()
            worker.stop()
            await serving
    assert [exchange.outcome for exchange in recorder.ended] == [Outcome.ABORTED]


async def rest(wire: Any) -> bytes:
    """What still comes, until the connection is closed."""
    data: bytes = await asyncio.wait_for(wire.reader.read(), 10)
    return data


async def test_a_listener_that_fails_harms_nobody(simulator: Simulator) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    async with running_proxy(simulator.base_url) as proxy:
        hooks = proxy.app.forward._listeners
        for name in ("_start", "_attempt", "_response", "_end"):
            getattr(hooks, name).insert(0, fail)
        exchange = await recorded(proxy)
    assert exchange.outcome is Outcome.COMPLETED
    assert hooks.errors == 4
