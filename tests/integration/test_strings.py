"""Every string of a client or an upstream is bounded and cleaned once, where it enters the exchange."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from claude_proxy.exchange import Exchange
from claude_proxy.simulator import Scenario, Simulator, raw
from tests.integration.messages import JSON, MESSAGES, PREFIX, body
from tests.integration.proxy import running_proxy
from tests.integration.wire import ask

HOSTILE = "a\x1b[2J\u202eb\u2028c\x9bd" + "x" * 900_000
HEADERS = (
    "x-claude-code-session-id",
    "x-claude-code-agent-id",
    "x-claude-code-parent-agent-id",
    "x-claude-code-request-class",
    "user-agent",
)


def strings(value: Any) -> Iterator[str]:
    """Every string in a record."""
    if isinstance(value, str):
        yield value
    elif dataclasses.is_dataclass(value):
        for item in dataclasses.fields(value):
            yield from strings(getattr(value, item.name))
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


def is_harmless(exchange: Exchange) -> None:
    for text in strings(exchange):
        assert len(text) <= 500
        assert text.isprintable()


@pytest.mark.parametrize("stream", [True, False])
async def test_what_an_upstream_says_of_itself(simulator: Simulator, stream: bool) -> None:
    usage = {"input_tokens": 1, "output_tokens": 2, "service_tier": HOSTILE, "inference_geo": HOSTILE, "speed": HOSTILE}
    message = {"type": "message", "model": HOSTILE, "stop_reason": HOSTILE, "usage": usage}
    if stream:
        events = [
            {"type": "message_start", "message": message},
            {"type": "message_delta", "delta": {"stop_reason": HOSTILE}, "usage": usage},
        ]
        data = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events if len(json.dumps(event)) < 4 << 20)
    else:
        data = json.dumps(message)[: 4 << 20].encode()
    kind = "text/event-stream" if stream else "application/json"
    simulator.scenario = Scenario("raw", content_type=kind, body=data, headers=(("request-id", "r" * 9000),))
    async with running_proxy(simulator.base_url) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body(stream=stream))
        (exchange,) = await proxy.recorder.wait_for(1)
    assert reply.body == data
    assert exchange.upstream_request_id == "r" * 100
    is_harmless(exchange)


@pytest.mark.parametrize("field", ["type", "message", "code"])
@pytest.mark.parametrize("status", [400, 429])
async def test_what_an_upstream_says_of_an_error(simulator: Simulator, field: str, status: int) -> None:
    error = {"type": "rate_limit_error", "message": "too much", "code": "1302", field: HOSTILE}
    data = json.dumps({"type": "error", "error": error}).encode()
    simulator.scenario = raw(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, len(data)) + data)
    async with running_proxy(simulator.base_url) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body())
        (exchange,) = await proxy.recorder.wait_for(1)
    assert reply.body == data
    assert exchange.failure is not None
    is_harmless(exchange)


async def test_what_a_client_says_of_itself(simulator: Simulator) -> None:
    sent = [(name.encode(), b"a" + "\u202e\ud55c".encode() + b"\xff\x9b" + b"y" * 5000) for name in HEADERS]
    async with running_proxy(simulator.base_url) as proxy:
        await ask(proxy.port, "POST", MESSAGES, [JSON, *sent], body(model="m\x1b[2J" + "z" * 900))
        (exchange,) = await proxy.recorder.wait_for(1)
    assert exchange.session is not None
    assert 90 < len(exchange.session) <= 100
    assert exchange.model is not None
    assert exchange.model.startswith("m [2Jzz")
    is_harmless(exchange)


@pytest.mark.parametrize("path", ["//v1/messages", "/v1/v1/messages", "/v1//messages", "/api/anthropic/v1/messages"])
async def test_a_doubled_path_is_answered_with_what_is_doubled_and_the_right_base_url(simulator: Simulator, path: str) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        reply = await ask(proxy.port, "POST", PREFIX + path, [JSON], body())
    error = json.loads(reply.body)["error"]
    assert (reply.status, error["type"], reply.get("x-claude-proxy-error")) == (404, "not_found_error", "path_doubled")
    assert "http://localhost/api/anthropic" in error["message"]
    assert simulator.requests == []


@pytest.mark.parametrize("path", ["/messages", "/v1/files//content", "/v2/messages", "/v1/unknown"])
async def test_what_some_api_could_serve_goes_to_the_upstream(simulator: Simulator, path: str) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        await ask(proxy.port, "POST", PREFIX + path, [JSON], body())
    assert [asked.target for asked in simulator.requests] == [f"/api/anthropic{path}".encode()]
