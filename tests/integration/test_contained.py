"""Whoever looks at an exchange - our own reader, taps, listeners - may fail: it costs neither bytes nor the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import pytest

from claude_proxy.exchange import Attempt, Exchange, Header, Listener, Outcome, State, Tap
from claude_proxy.protocol import decoding, usage
from claude_proxy.proxy import answer, edits, forward, opening
from claude_proxy.proxy.answer import Answer
from claude_proxy.simulator import Scenario, Simulator, faults
from tests.integration.messages import MESSAGES, body, post
from tests.integration.proxy import RunningProxy, running_proxy
from tests.integration.wire import Reply, ask, connect

FAULTS: list[tuple[Any, str]] = [
    (usage.StreamReader, "feed"),
    (usage.StreamReader, "finish"),
    (usage.StreamReader, "_apply"),
    (usage.Splitter, "feed"),
    (usage.JsonReader, "feed"),
    (usage.JsonReader, "finish"),
    (decoding.Decompressor, "feed"),
    (Answer, "report"),
    (forward, "judge"),
    (edits, "judge"),
    (edits, "read_answer"),
    (forward, "describe"),
    (forward, "peek"),
    (answer, "decompressor"),
    (answer, "reader_of"),
    (opening, "is_json"),
]
SCENARIOS = {
    "stream": Scenario("text", text="x" * 40, deltas=40),
    "gzip": Scenario("text", text="x" * 40, deltas=40, encoding="gzip"),
    "json": Scenario("text", text="hello"),
    "error": Scenario(fault=faults.status(529)),
    "error-event": Scenario(fault=faults.error_event(3)),
}


class AllFails(Listener):
    """Fails in each hook, and offers a tap that does."""

    def on_exchange_start(self, exchange: Exchange) -> None:
        _fail()

    def on_attempt(self, exchange: Exchange, attempt: Attempt) -> None:
        _fail()

    def on_response_start(self, exchange: Exchange) -> None:
        _fail()

    def on_exchange_end(self, exchange: Exchange) -> None:
        _fail()

    def tap(self, exchange: Exchange) -> Tap:
        return AllFailsTap()


class AllFailsTap(Tap):
    def on_request(self, headers: Sequence[Header], body: bytes, *, whole: bool) -> None:
        _fail()

    def on_response(self, status: int, headers: Sequence[Header]) -> None:
        _fail()

    def on_data(self, data: bytes) -> None:
        _fail()

    def on_end(self, exchange: Exchange) -> None:
        _fail()


def _fail(*_: object, **__: object) -> NoReturn:
    raise ZeroDivisionError("a fault of ours")


async def asked(simulator: Simulator, kind: str) -> tuple[Reply, Exchange, RunningProxy]:
    async with running_proxy(simulator.base_url) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, body=body(stream=kind != "json"))
        (exchange,) = await proxy.recorder.wait_for(1)
    return reply, exchange, proxy


@pytest.mark.parametrize("kind", SCENARIOS)
@pytest.mark.parametrize(("owner", "name"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
async def test_a_fault_of_our_own_reading_costs_only_what_it_would_have_read(
    monkeypatch: pytest.MonkeyPatch, kind: str, owner: Any, name: str
) -> None:
    """Two simulators, because ids count up in each: the bytes must be the same with the fault as without."""
    async with Simulator(SCENARIOS[kind]) as simulator:
        expected, good, _ = await asked(simulator, kind)
    monkeypatch.setattr(owner, name, _fail)
    async with Simulator(SCENARIOS[kind]) as simulator:
        reply, exchange, _ = await asked(simulator, kind)
    assert (reply.status, reply.body, reply.whole) == (expected.status, expected.body, True)
    assert (exchange.outcome, exchange.state) == (good.outcome, State.ENDED)
    assert exchange.bytes_out == len(reply.body)


@pytest.mark.parametrize("kind", SCENARIOS)
async def test_a_listener_and_a_tap_that_fail_in_everything_are_counted_and_change_nothing(kind: str) -> None:
    async with Simulator(SCENARIOS[kind]) as simulator:
        expected, good, _ = await asked(simulator, kind)

    async with Simulator(SCENARIOS[kind]) as simulator, running_proxy(simulator.base_url, listeners=[AllFails()]) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, body=body(stream=kind != "json"))
        (exchange,) = await proxy.recorder.wait_for(1)
    assert (reply.status, reply.body, reply.whole) == (expected.status, expected.body, True)
    assert (exchange.outcome, exchange.usage) == (good.outcome, good.usage)
    assert proxy.app.state.listeners.errors >= 7  # four hooks, and at least three of the tap's


class Seen(Tap):
    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bool]] = []
        self.answered: list[tuple[int, dict[bytes, bytes]]] = []
        self.data = b""
        self.ended: list[Exchange] = []

    def on_request(self, headers: Sequence[Header], body: bytes, *, whole: bool) -> None:
        assert (b"content-type", b"application/json") in headers
        self.asked.append((body, whole))

    def on_response(self, status: int, headers: Sequence[Header]) -> None:
        self.answered.append((status, dict(headers)))

    def on_data(self, data: bytes) -> None:
        self.data += data

    def on_end(self, exchange: Exchange) -> None:
        self.ended.append(exchange)


class Watching(Listener):
    def __init__(self) -> None:
        self.taps: list[Seen] = []

    def tap(self, exchange: Exchange) -> Tap:
        self.taps.append(Seen())
        return self.taps[-1]


@pytest.mark.parametrize("kind", SCENARIOS)
async def test_a_tap_sees_the_request_the_head_every_byte_and_the_end(kind: str) -> None:
    watching = Watching()
    async with Simulator(SCENARIOS[kind]) as simulator, running_proxy(simulator.base_url, listeners=[watching]) as proxy:
        async with connect(proxy.port) as wire:
            wire.send(post(stream=kind != "json"))
            reply = await wire.reply()
        (exchange,) = await proxy.recorder.wait_for(1)
        sent = simulator.requests[0].body
    (tap,) = watching.taps
    assert tap.asked == [(sent, True)]
    assert [status for status, _ in tap.answered] == [reply.status]
    assert tap.data == reply.body
    assert tap.ended == [exchange]


async def test_a_running_exchange_can_be_looked_at_and_tells_state_bytes_and_usage_so_far(simulator: Simulator) -> None:
    simulator.scenario = Scenario("text", text="x" * 40, deltas=20, fault=faults.stall("events", 12, until="release"))
    async with running_proxy(simulator.base_url) as proxy, connect(proxy.port) as wire:
        wire.send(post())
        await wire.head()
        got = b""
        while got.count(b"content_block_delta") < 10:
            got += await wire.chunk() or b""
        (exchange,) = proxy.recorder.started
        exchange.refresh()
        assert exchange.state is State.ANSWERING
        assert exchange.bytes_out >= len(got)
        assert exchange.usage is not None
        assert exchange.heard_at is not None
        simulator.release()
        while chunk := await wire.chunk():
            got += chunk
        await proxy.recorder.wait_for(1)
        exchange.refresh()  # of one that is over: nothing to bring up to date
    assert (exchange.state, exchange.outcome, exchange.bytes_out) == (State.ENDED, Outcome.COMPLETED, len(got))
