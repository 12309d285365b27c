"""The relay alone, over a scripted response: what goes to the client, when it pings, how it ends, what it records."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.errors import BadResponse, ConnectionLost
from claude_proxy.exchange import Exchange, Kind, Outcome, Usage
from claude_proxy.protocol.sse import PING
from claude_proxy.proxy.answer import Answer
from claude_proxy.proxy.relay import GRACE, Relay, StreamBroken
from claude_proxy.proxy.target import Target
from tests.proxy.fakes import FakeCall, FakeResponse, Step

TARGET = Target("/v1/messages", b"/v1/messages", Kind.MESSAGES)
START = b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":1}}}\n\n'
DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta"}\n\n'
REASON = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}\n\n'
)
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
WHOLE = (START, DELTA, DELTA, REASON, STOP)


async def relay(*steps: Step, slow: bool = False, **more: Any) -> tuple[FakeCall, bool]:
    """Relay a script; the call, and whether the answer was brought to an honest end."""
    call = FakeCall(slow=slow, **more)
    response = FakeResponse(call.loop, call.deadline, steps)
    relay = Relay(call, response, Answer(TARGET, 200, response.fields))
    try:
        await relay.run(b"")
    except StreamBroken:
        return call, False
    return call, True


def seen(call: FakeCall) -> tuple[Outcome | None, str | None]:
    exchange: Exchange = call.exchange
    return exchange.outcome, exchange.failure and exchange.failure.kind


@pytest.mark.parametrize("slow", [False, True])
async def test_every_chunk_goes_on_as_it_came_and_the_end_is_the_upstreams(slow: bool) -> None:
    call, ended = await relay(*WHOLE, slow=slow)
    assert (call.reply.sent, call.reply.ended, ended) == (list(WHOLE), True, True)
    assert (call.exchange.bytes_out, call.given_back) == (sum(map(len, WHOLE)), 1)
    assert seen(call) == (None, None)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.lists(st.integers(1, 400), max_size=40), st.booleans())
async def test_however_the_bytes_are_cut_the_same_arrives_and_is_read(cuts: list[int], slow: bool) -> None:
    whole, chunks = b"".join((START, *[DELTA] * 30, REASON, STOP)), list[bytes]()
    for size in (*cuts, 10_000):
        chunks.append(whole[:size])
        whole = whole[size:]
    call, ended = await relay(*[part for part in chunks if part], slow=slow)
    assert (b"".join(call.reply.sent), ended) == (b"".join(chunks), True)
    assert call.exchange.bytes_out == len(b"".join(chunks))
    assert seen(call) == (None, None)


async def test_silence_is_filled_with_pings_between_events_until_the_upstream_speaks_again() -> None:
    call, ended = await relay(START, DELTA, 35.0, DELTA, 5.0, REASON, STOP, ping_interval=10)
    assert call.reply.sent == [START, DELTA, PING, PING, PING, DELTA, REASON, STOP]
    assert (call.exchange.pings, call.exchange.longest_silence, ended) == (3, 35.0, True)


async def test_inside_an_event_no_ping_is_put() -> None:
    call, _ = await relay(START, DELTA[:20], 35.0, DELTA[20:], REASON, STOP, ping_interval=10)
    assert (call.exchange.pings, PING in call.reply.sent) == (0, False)


async def test_a_silence_past_the_deadline_is_a_stall() -> None:
    call, ended = await relay(START, DELTA, 500.0, DELTA, ping_interval=0, stream_idle_timeout=300)
    assert (seen(call), ended, call.reply.ended) == ((Outcome.STALLED, "stream_idle"), False, False)
    assert call.loop.now == 400.0


@pytest.mark.parametrize("again", [b": still here\n\n", b"event: ping\ndata: {}\n\n"])
async def test_behind_the_last_event_the_answer_ends_after_the_grace(again: bytes) -> None:
    steps = [step for _ in range(20) for step in (0.3, again)]
    call, ended = await relay(*WHOLE, *steps, ping_interval=0.1)
    assert (ended, call.reply.ended, call.loop.now, call.exchange.pings) == (True, True, 100.0 + GRACE, 0)
    assert seen(call) == (None, None)


@pytest.mark.parametrize("again", [b": still here\n\n", b"event: ping\ndata: {}\n\n"])
async def test_behind_a_stop_reason_pings_do_not_put_the_deadline_off(again: bytes) -> None:
    steps = [step for _ in range(60) for step in (10.0, again)]
    call, ended = await relay(START, REASON, *steps, stream_idle_timeout=300)
    assert (ended, call.loop.now) == (True, 400.0)
    assert seen(call) == (None, None)


async def test_behind_an_error_event_neither_do_they() -> None:
    error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n'
    call, ended = await relay(START, error, *[step for _ in range(60) for step in (10.0, b": x\n\n")], stream_idle_timeout=300)
    assert (ended, call.loop.now) == (True, 400.0)


@pytest.mark.parametrize("error", [ConnectionLost("gone"), BadResponse("garbage")], ids=["lost", "garbage"])
async def test_a_cut_is_a_cut(error: ConnectionLost) -> None:
    call, ended = await relay(START, DELTA, error)
    assert (seen(call), ended, call.reply.ended) == ((Outcome.CUT, "stream_cut"), False, False)
    assert call.reply.sent == [START, DELTA]


async def test_a_cut_behind_the_stop_reason_is_no_failure() -> None:
    call, ended = await relay(START, REASON, ConnectionLost("gone"))
    assert (seen(call), ended) == ((Outcome.COMPLETED, None), False)


@pytest.mark.parametrize("steps", [(), (START,), (START, DELTA), (b": hello\n\n",)])
async def test_a_clean_end_before_the_answers_is_recorded_and_stays_clean(steps: tuple[bytes, ...]) -> None:
    call, ended = await relay(*steps)
    assert (seen(call), ended, call.reply.ended) == ((Outcome.UNFINISHED, "stream_unfinished"), True, True)


async def test_what_is_looked_at_later_is_up_to_date_for_whoever_asks() -> None:
    call = FakeCall()
    looks: list[tuple[int, Usage | None]] = []

    def look() -> None:
        call.exchange.refresh()
        looks.append((call.exchange.bytes_out, call.exchange.usage))

    class Looking(FakeResponse):
        async def read(self) -> bytes | None:
            data = await super().read()
            look()
            return data

    response = Looking(call.loop, call.deadline, [START, DELTA, DELTA, DELTA, 1.0, REASON, STOP])
    await Relay(call, response, Answer(TARGET, 200, response.fields)).run(b"")
    assert looks[-1][0] == len(START + DELTA * 3 + REASON)
    assert looks[-1][1] == Usage(3, 9)
