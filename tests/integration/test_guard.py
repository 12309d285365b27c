"""The stream guard: pings in silence, between events only; what does not end well is passed on as a cut (docs/design.md)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from claude_proxy.exchange import Exchange, Outcome
from claude_proxy.protocol.sse import PING
from claude_proxy.simulator import Scenario, Simulator, faults, named, raw
from tests.integration.messages import MESSAGES, MODELS, PREFIX, body, post
from tests.integration.proxy import running_proxy
from tests.integration.wire import Reply, ask, connect, request

EVENTS = b'event: message_start\ndata: {"type":"message_start"}\n\n' + b'event: x\ndata: {"type":"x"}\n\n' * 8
QUICK = {"ping_interval": 0.05, "stream_idle_timeout": 0.35}


async def through(simulator: Simulator, scenario: Scenario, method: str = "POST", path: str = MESSAGES, **settings: Any) -> Reply:
    """One streamed request through a proxy of its own."""
    return (await recorded(simulator, scenario, method, path, **settings))[0]


async def recorded(
    simulator: Simulator, scenario: Scenario, method: str = "POST", path: str = MESSAGES, **settings: Any
) -> tuple[Reply, Exchange]:
    """The same, with how it was recorded."""
    simulator.scenario = scenario
    async with running_proxy(simulator.base_url, **settings) as proxy:
        reply = await ask(proxy.port, method, path, body=body() if method == "POST" else b"")
        (exchange,) = await proxy.recorder.wait_for(1)
    return reply, exchange


async def direct(scenario: Scenario) -> Reply:
    """The same request without a proxy; ids are equal when it is asked of a simulator of its own."""
    async with Simulator(scenario) as own:
        return await ask(own.port, "POST", MESSAGES, body=body())


# -- pings


async def test_a_silent_stream_gets_pings_and_then_goes_on_unchanged(simulator: Simulator) -> None:
    simulator.scenario = scenario = Scenario("text", text="hello", fault=faults.stall("events", 3, until="release"))
    async with running_proxy(simulator.base_url, ping_interval=0.03) as proxy, connect(proxy.port) as wire:
        wire.send(post())
        await wire.head()
        parts = []
        while parts.count(PING) < 3:
            parts.append(await wire.chunk() or b"")
        simulator.release()
        while chunk := await wire.chunk():
            parts.append(chunk)
        (exchange,) = await proxy.recorder.wait_for(1)
    assert b"".join(part for part in parts if part != PING) == (await direct(scenario.but(fault=None))).body
    assert exchange.pings == parts.count(PING) >= 3
    assert exchange.outcome is Outcome.COMPLETED
    assert exchange.longest_silence >= 0.09 - 1e-6  # the sum of three intervals, to a rounding


async def test_a_ping_comes_no_sooner_than_its_interval(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("events", 3))
    loop = asyncio.get_running_loop()
    async with running_proxy(simulator.base_url, ping_interval=0.1) as proxy, connect(proxy.port) as wire:
        since = loop.time()
        wire.send(post())
        await wire.head()
        for number in (1, 2, 3):
            while await wire.chunk() != PING:
                pass
            assert loop.time() - since >= 0.1 * number - 1e-6  # times are floats


async def test_an_upstreams_own_pings_and_comments_pass_and_spare_ours(simulator: Simulator) -> None:
    scenario = Scenario("text", text="x" * 60, deltas=60, pace=0.01)
    reply, exchange = await recorded(simulator, scenario, ping_interval=5)
    assert exchange.pings == 0
    assert reply.body.count(b"event: ping\n") == 1


@pytest.mark.parametrize(
    ("scenario", "method", "path"),
    [
        pytest.param(Scenario(fault=faults.stall("mid-event", 3)), "POST", MESSAGES, id="inside-an-event"),
        pytest.param(Scenario(encoding="gzip", fault=faults.stall("events", 3)), "POST", MESSAGES, id="compressed"),
        pytest.param(Scenario(framing="length", fault=faults.stall("events", 3)), "POST", MESSAGES, id="content-length"),
        pytest.param(
            Scenario("raw", content_type="text/event-stream", body=EVENTS, status=400, fault=faults.stall("events", 3)),
            "POST",
            MESSAGES,
            id="an-error-status",
        ),
        pytest.param(
            Scenario("raw", content_type="application/x-jsonl", body=EVENTS, fault=faults.stall("mid-event", 0)),
            "POST",
            MESSAGES,
            id="another-type",
        ),
    ],
)
async def test_nothing_is_put_into(simulator: Simulator, scenario: Scenario, method: str, path: str) -> None:
    reply, exchange = await recorded(simulator, scenario, method, path, first_event_wait=0.1, **QUICK)
    assert b'{"type": "ping"}' not in reply.body
    assert exchange.pings == 0
    assert (exchange.outcome, reply.whole) == (Outcome.STALLED, False)


async def test_an_event_stream_elsewhere_may_be_silent(simulator: Simulator) -> None:
    """Events of a session or a log may be of any length, so they are relayed raw."""
    fault = faults.stall("mid-event", 0, until="release")
    simulator.scenario = Scenario("raw", content_type="text/event-stream", body=EVENTS, fault=fault)
    loop = asyncio.get_running_loop()
    async with running_proxy(simulator.base_url, first_event_wait=0.05, **QUICK) as proxy, connect(proxy.port) as wire:
        wire.send(request("GET", PREFIX + "/v1/sessions/s/events/stream"))
        over = asyncio.Event()
        loop.call_later(3 * QUICK["stream_idle_timeout"], over.set)
        await over.wait()
        simulator.release()
        reply = await wire.reply()
        (exchange,) = await proxy.recorder.wait_for(1)
    assert (reply.whole, reply.body) == (True, EVENTS)
    assert (exchange.outcome, exchange.pings) == (Outcome.COMPLETED, 0)


async def test_the_idle_deadline_does_not_wait_for_a_ping(simulator: Simulator) -> None:
    scenario = Scenario(fault=faults.stall("events", 3))
    _, exchange = await recorded(simulator, scenario, ping_interval=0.3, stream_idle_timeout=0.4)
    assert exchange.outcome is Outcome.STALLED
    assert 0.39 <= exchange.longest_silence < 0.6  # to a rounding


async def test_the_wait_for_the_first_event_is_silence_too(simulator: Simulator) -> None:
    scenario = Scenario(fault=faults.stall("events", 0))
    _, exchange = await recorded(simulator, scenario, first_event_wait=0.3, ping_interval=0.1, stream_idle_timeout=0.35)
    assert (exchange.outcome, exchange.pings) == (Outcome.STALLED, 1)  # after 0.3 s, when the head goes out
    assert 0.35 - 1e-6 <= exchange.longest_silence < 0.6  # times are floats


async def test_the_silence_that_a_client_left_in_is_recorded(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("events", 3))
    async with running_proxy(simulator.base_url, ping_interval=0.1) as proxy, connect(proxy.port) as wire:
        wire.send(post())
        await wire.head()
        while await wire.chunk() != PING:
            pass
        wire.leave()
        (exchange,) = await proxy.recorder.wait_for(1)
    assert exchange.outcome is Outcome.CANCELLED
    assert exchange.longest_silence >= 0.1 - 1e-6  # times are floats


async def test_no_ping_is_sent_where_none_is_wanted(simulator: Simulator) -> None:
    scenario = Scenario(fault=faults.stall("events", 3))
    reply, exchange = await recorded(simulator, scenario, ping_interval=0, stream_idle_timeout=0.3)
    assert (exchange.pings, exchange.outcome, PING in reply.body) == (0, Outcome.STALLED, False)


# -- streams that do not end well


@pytest.mark.parametrize(
    ("scenario", "outcome", "kind"),
    [
        (Scenario(fault=faults.cut("events", 4)), Outcome.CUT, "stream_cut"),
        (Scenario(fault=faults.cut("events", 4, how="rst")), Outcome.CUT, "stream_cut"),
        (Scenario(fault=faults.cut("mid-event", 4)), Outcome.CUT, "stream_cut"),
        (Scenario(fault=faults.cut("events", 0)), Outcome.CUT, "stream_cut"),
        (Scenario(fault=faults.bad_chunk(4)), Outcome.CUT, "stream_cut"),
        (Scenario(fault=faults.stall("events", 4)), Outcome.STALLED, "stream_idle"),
        (Scenario(fault=faults.stall("mid-event", 4)), Outcome.STALLED, "stream_idle"),
        (Scenario(framing="length", fault=faults.cut("events", 4)), Outcome.CUT, "stream_cut"),
    ],
    ids=lambda value: getattr(getattr(value, "fault", None), "kind", None),
)
async def test_a_broken_stream_is_passed_on_as_a_cut_with_all_that_came(
    simulator: Simulator, scenario: Scenario, outcome: Outcome, kind: str
) -> None:
    reply, exchange = await recorded(simulator, scenario, ping_interval=0, stream_idle_timeout=0.2, first_event_wait=0.2)
    assert (reply.status, reply.whole) == (200, False)
    assert (exchange.outcome, exchange.status) == (outcome, 200)
    assert exchange.failure is not None
    assert (exchange.failure.side, exchange.failure.kind) == ("upstream", kind)
    assert exchange.bytes_out == len(reply.body)
    whole = (await direct(scenario.but(fault=None))).body
    events = whole.splitlines(keepends=True)[: 3 * (scenario.fault.n if scenario.fault else 0)]
    assert whole.startswith(reply.body)
    assert reply.body.startswith(b"".join(events))
    assert (exchange.usage is not None) == (b"message_start" in reply.body)


async def test_a_stall_closes_the_upstream_connection(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("events", 4))
    async with running_proxy(simulator.base_url, **QUICK) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, body=body())
        await simulator.wait_for(lambda sim: not sim.open_connections)
        assert proxy.upstream_connections == 0
    assert reply.body.count(PING) >= 2  # pings do not put the deadline off


async def test_only_silence_is_a_stall_however_long_the_stream(simulator: Simulator) -> None:
    scenario = Scenario("text", text="x" * 40, deltas=40, pace=0.02)
    reply, exchange = await recorded(simulator, scenario, stream_idle_timeout=0.5)
    assert (reply.whole, exchange.outcome) == (True, Outcome.COMPLETED)
    assert exchange.duration > 0.5


@pytest.mark.parametrize("fault", [faults.cut("events", 4), faults.stall("events", 4)], ids=lambda f: f.kind)
async def test_an_error_event_can_be_sent_before_the_end_instead(simulator: Simulator, fault: Any) -> None:
    scenario = Scenario(fault=fault)
    reply, exchange = await recorded(simulator, scenario, stream_cut="error-event", ping_interval=0, stream_idle_timeout=0.2)
    before, _, last = reply.body.rpartition(b"event: error\ndata: ")
    error = json.loads(last)
    assert reply.whole
    assert error["type"] == "error"
    assert error["error"]["type"] == "api_error"
    assert "upstream" in error["error"]["message"].lower()
    assert before.endswith(b"\n\n")
    assert exchange.failure is not None
    assert exchange.outcome in (Outcome.CUT, Outcome.STALLED)


@pytest.mark.parametrize("pace", [0.0, 0.002])
async def test_a_stream_that_breaks_off_before_its_end_is_counted_to_the_last_event(simulator: Simulator, pace: float) -> None:
    """Small events are looked at several at a time: what passed last must not be forgotten."""
    reply, exchange = await recorded(simulator, Scenario("text", deltas=50, pace=pace, fault=faults.no_stop()))
    reported = simulator.requests[0].usage
    assert (exchange.outcome, exchange.bytes_out) == (Outcome.COMPLETED, len(reply.body))
    assert exchange.usage is not None
    assert exchange.usage.output == reported.output_tokens > 0
    assert exchange.stop_reason == "end_turn"


async def test_no_error_event_is_put_into_an_event_that_was_cut(simulator: Simulator) -> None:
    reply = await through(simulator, Scenario(fault=faults.cut("mid-event", 4)), stream_cut="error-event")
    assert (reply.whole, b"event: error" in reply.body) == (False, False)


async def test_another_answer_that_breaks_off_is_a_cut_as_well(simulator: Simulator) -> None:
    simulator.scenario = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    async with running_proxy(simulator.base_url, stream_cut="error-event") as proxy:
        reply = await ask(proxy.port, "GET", MODELS)
        (exchange,) = await proxy.recorder.wait_for(1)
    assert (reply.status, reply.body, reply.whole) == (200, b"half", False)
    assert exchange.outcome is Outcome.CUT


# -- errors as a stream


BARE = b'data: {"code":1302,"msg":"High concurrency usage of this API"}\n\n'


@pytest.mark.parametrize(
    ("scenario", "code"),
    [
        (named("zai-error-stream"), "1302"),
        (named("zai-bare-error-stream"), "1302"),
        (Scenario("raw", content_type="text/event-stream", body=BARE), "1302"),
        (Scenario("raw", content_type="text/event-stream", body=BARE, framing="close"), "1302"),
        (Scenario(fault=faults.error_event(0)), None),
        (Scenario(fault=faults.error_event(6)), None),
    ],
    ids=["envelope", "no-envelope", "no-name", "until-close", "overloaded", "later"],
)
async def test_an_error_in_a_stream_is_recorded_as_one_and_passed_on_as_it_is(
    simulator: Simulator, scenario: Scenario, code: str | None
) -> None:
    reply, exchange = await recorded(simulator, scenario)
    there = await direct(scenario)
    assert (reply.status, reply.body, reply.whole) == (200, there.body, True)
    assert reply.get("x-should-retry") is None
    assert exchange.outcome is Outcome.COMPLETED
    assert exchange.failure is not None
    assert (exchange.failure.side, exchange.failure.provider_code) == ("upstream", code)


async def test_an_error_in_a_stream_that_is_then_cut_stays_a_cut(simulator: Simulator) -> None:
    simulator.scenario = raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 999\r\n\r\n" + BARE)
    async with running_proxy(simulator.base_url) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, body=body())
        (exchange,) = await proxy.recorder.wait_for(1)
    assert (reply.body, reply.whole, exchange.outcome) == (BARE, False, Outcome.CUT)


@pytest.mark.parametrize("wait", [0, 0.15])
async def test_the_head_waits_for_the_first_event_only_so_long(simulator: Simulator, wait: float) -> None:
    simulator.scenario = Scenario(fault=faults.stall("events", 0, until="release"))
    loop = asyncio.get_running_loop()
    async with running_proxy(simulator.base_url, first_event_wait=wait) as proxy, connect(proxy.port) as wire:
        since = loop.time()
        wire.send(post())
        status, _ = await wire.head()
        assert loop.time() - since >= wait - 1e-6  # times are floats
        simulator.release()
        parts = []
        while chunk := await wire.chunk():
            parts.append(chunk)
    assert status == 200
    assert b"".join(parts).endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')


async def test_an_answer_that_is_no_stream_does_not_wait(simulator: Simulator) -> None:
    simulator.scenario = Scenario("raw", body=b"x" * 1000, fault=faults.stall("events", 0, until="release"))
    async with running_proxy(simulator.base_url, first_event_wait=60) as proxy, connect(proxy.port) as wire:
        wire.send(request("GET", MODELS))
        status, _ = await wire.head()
        simulator.release()
        assert (status, len(await wire.reader.readexactly(1000))) == (200, 1000)


async def test_a_malformed_frame_passes_as_it_is(simulator: Simulator) -> None:
    scenario = Scenario(fault=faults.bad_frame(4))
    reply, exchange = await recorded(simulator, scenario)
    assert reply.body == (await direct(scenario)).body
    assert (reply.whole, exchange.outcome, exchange.failure) == (True, Outcome.COMPLETED, None)
