"""What a scripted client sees of each fault of an upstream, and in which words it is told."""

from __future__ import annotations

import json

import pytest

from claude_proxy.cli.rehearse.journal import worded
from claude_proxy.cli.rehearse.patience import Seen
from claude_proxy.cli.rehearse.wire import Deadlines, call
from claude_proxy.simulator import Scenario, Simulator, error, faults, named, raw

STREAM = {"model": "glm-5.3", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
SHORT = Deadlines(0.3, 0.3)
LONG = Deadlines(10, 10)


async def seen(scenario: Scenario, deadlines: Deadlines = LONG, *, stream: bool = True) -> Seen:
    async with Simulator(scenario) as sim:
        body = json.dumps(STREAM | {"stream": stream}).encode()
        return await call(f"{sim.base_url}/v1/messages", {"content-type": "application/json"}, body, deadlines)


@pytest.mark.parametrize(
    ("scenario", "how"),
    [
        (Scenario("text"), "answered"),
        (Scenario("text", framing="close"), "answered"),
        (Scenario(fault=faults.no_stop()), "answered"),  # nothing is missing: it has its stop reason
        (Scenario(fault=faults.cut("events", 3)), "cut"),
        (Scenario(fault=faults.cut("mid-event", 3, "rst")), "cut"),
        (Scenario(fault=faults.cut("head")), "refused"),
        (Scenario(fault=faults.error_event(2)), "error-event"),
        (Scenario("raw", content_type="text/event-stream", body=b"event: ping\ndata: {}\n\n"), "unfinished"),
        (error(500), "error"),
    ],
)
async def test_how_an_answer_ended(scenario: Scenario, how: str) -> None:
    assert (await seen(scenario)).how == how


@pytest.mark.parametrize(("scenario", "how"), [(Scenario("text"), "answered"), (Scenario(fault=faults.cut("events", 0)), "cut")])
async def test_how_an_answer_in_one_piece_ended(scenario: Scenario, how: str) -> None:
    assert (await seen(scenario, stream=False)).how == how


@pytest.mark.parametrize(("where", "status"), [("head", 0), ("events", 200)])
async def test_silence_ends_a_clients_patience(where: str, status: int) -> None:
    fault = faults.stall("head") if where == "head" else faults.stall("events", 2)
    assert await seen(Scenario(fault=fault), SHORT) == Seen("silent", status)


async def test_an_errors_headers_are_read() -> None:
    scenario = error(429, message="slow down", headers=(("retry-after", "7"), ("x-should-retry", "false")))
    assert await seen(scenario) == Seen("error", 429, "rate_limit_error", "slow down", 7.0, False)
    assert (await seen(error(429, headers=(("x-claude-proxy-error", "queue_full"),)))).ours


async def test_a_closed_port_is_a_refused_connection() -> None:
    async with Simulator() as sim:
        await sim.refuse()
        assert await call(f"{sim.base_url}/v1/messages", {}, b"{}", LONG) == Seen("refused")


async def test_bytes_that_are_no_http_count_as_no_answer() -> None:
    assert (await seen(raw(b"HTTP/1.1 200 OK\r\n"))).how == "refused"


async def test_a_providers_code_stands_in_the_words() -> None:
    assert worded(await seen(named("zai-1302"))) == "429 rate_limit_error (1302): High concurrency usage"
