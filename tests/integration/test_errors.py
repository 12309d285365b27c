"""Our own errors: sentences in Anthropic's envelope, with the right status, marked as ours (docs/design.md)."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from claude_proxy.app import App
from claude_proxy.exchange import Outcome
from claude_proxy.simulator import Scenario, Simulator, error, faults
from tests.integration.listeners import listening, saying
from tests.integration.messages import JSON, MESSAGES, MODELS, PREFIX, body
from tests.integration.proxy import running_proxy
from tests.integration.wire import Reply, ask, connect, request


def sentence(reply: Reply, status: int, kind: str, code: str) -> str:
    """The message of an error of ours."""
    envelope = json.loads(reply.body)
    assert (reply.status, reply.get("content-type"), reply.get("x-claude-proxy-error")) == (status, "application/json", code)
    assert (envelope["type"], envelope["error"]["type"]) == ("error", kind)
    message: str = envelope["error"]["message"]
    assert message.endswith((".", ")"))
    return message


async def test_an_upstream_that_refuses_connections(simulator: Simulator) -> None:
    await simulator.refuse()
    async with running_proxy(simulator.base_url) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body())
        (exchange,) = await proxy.recorder.wait_for(1)
    assert f"127.0.0.1:{simulator.port}" in sentence(reply, 503, "api_error", "connect_failed")
    assert json.loads(reply.body)["request_id"] == reply.get("request-id") == exchange.id
    assert (exchange.outcome, exchange.status) == (Outcome.FAILED, 503)
    assert [attempt.status for attempt in exchange.attempts] == [None]


async def test_an_upstream_whose_name_is_none() -> None:
    async with running_proxy(f"http://{'a' * 64}.example") as proxy:
        reply = await ask(proxy.port, "GET", MODELS)
    assert "BASE_URL" in sentence(reply, 503, "api_error", "name_not_found")


@pytest.mark.parametrize("fault", [faults.cut("head"), faults.cut("head", how="rst"), faults.refuse(), faults.cut("request")])
async def test_an_upstream_that_closes_before_it_answers_is_asked_only_once(simulator: Simulator, fault: faults.Fault) -> None:
    simulator.scenario = Scenario(fault=fault)
    async with running_proxy(simulator.base_url) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body())
    assert "before it answered" in sentence(reply, 502, "api_error", "connection_lost")
    assert len(simulator.requests) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not valid HTTP/1.1"),
        (b"<html>hello</html>\r\n\r\n", "not valid HTTP/1.1"),
        (b"HTTP/1.1 OK\r\n\r\n", "not valid HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "not valid HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nBad Name: x\r\nContent-Length: 0\r\n\r\n", "not valid HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000 + b"\r\nContent-Length: 0\r\n\r\n", "headers of more than 256 KiB"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "switched protocols"),
    ],
    ids=["ssh", "html", "no-status", "two-lengths", "bad-name", "huge-headers", "101"],
)
async def test_an_upstream_that_speaks_no_http(answer: bytes, words: str) -> None:
    async with listening(saying(answer)) as upstream, running_proxy(f"http://127.0.0.1:{upstream.port}") as proxy:
        reply = await ask(proxy.port, "GET", MODELS)
        assert words in sentence(reply, 502, "api_error", "bad_response")
        assert proxy.upstream_connections == 0


async def test_a_head_request_gets_the_status_without_a_body(simulator: Simulator) -> None:
    await simulator.refuse()
    async with running_proxy(simulator.base_url) as proxy, connect(proxy.port) as wire:
        wire.send(request("HEAD", MODELS) + request("GET", PREFIX))  # what follows shows that there was no body
        failed, probe = await wire.reply("HEAD"), await wire.reply()
    assert (failed.status, failed.get("x-claude-proxy-error"), probe.status) == (503, "connect_failed", 200)


@pytest.mark.parametrize(
    "path", ["/v1/../v2", "/v1/%2e%2e/x", "/..", "/v1/.%2E/", "/a/..;x/b", "/v1/%00", "/v1/x\\..\\y", "/v1/..%2fx"]
)
async def test_a_path_that_would_leave_the_base_is_refused(simulator: Simulator, path: str) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        reply = await ask(proxy.port, "GET", PREFIX + path)
    assert reply.status == 400
    assert reply.get("x-claude-proxy-error") is not None
    assert json.loads(reply.body)["type"] == "error"
    assert simulator.connections == 0


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/models", "/messages", "/api/v1/messages", "/api/anthropicv1/messages"])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_client_with_the_wrong_base_url_is_told_the_right_one(simulator: Simulator, method: str, path: str) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        reply = await ask(proxy.port, method, path, [JSON], body() if method == "POST" else b"")
    message = sentence(reply, 404, "not_found_error", "not_found")
    assert "/api/anthropic" in message
    assert simulator.connections == 0


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("path", ["", "/", "/api/hello"])
async def test_the_probes_of_claude_code_are_answered_here(simulator: Simulator, method: str, path: str) -> None:
    async with running_proxy(simulator.base_url, proxy_api_key="k", upstream_api_key="u") as proxy:
        reply = await ask(proxy.port, method, PREFIX + path)
    assert (reply.status, bool(reply.body)) == (200, method == "GET")
    assert (simulator.connections, proxy.recorder.started) == (0, [])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 502, 503, 504, 529])
async def test_an_upstreams_errors_are_its_own(simulator: Simulator, status: int) -> None:
    simulator.scenario = error(status, message="prompt is too long: capability_rejected: x")
    async with running_proxy(simulator.base_url) as proxy:
        proxied = await ask(proxy.port, "POST", MESSAGES, [JSON], body())
        (exchange,) = await proxy.recorder.wait_for(1)
    direct = await ask(simulator.port, "POST", MESSAGES, [JSON], body())
    assert (proxied.status, proxied.get("x-claude-proxy-error")) == (status, None)
    assert len(proxied.body) == len(direct.body)  # but for the request's number in it
    assert json.loads(proxied.body)["error"] == json.loads(direct.body)["error"]
    assert exchange.outcome is Outcome.COMPLETED
    assert exchange.failure is not None
    assert exchange.failure.side == ("client" if status < 429 else "upstream")


async def test_an_html_page_of_a_gateway_passes_as_it_is(simulator: Simulator) -> None:
    page = b"<html><h1>502 Bad Gateway</h1></html>"
    simulator.scenario = Scenario("raw", status=502, content_type="text/html", body=page)
    async with running_proxy(simulator.base_url) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body())
    assert (reply.status, reply.get("content-type"), reply.body) == (502, "text/html", page)


async def test_a_proxy_that_is_stopping_says_so(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        proxy.app.state.draining = True
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body())
    sentence(reply, 503, "overloaded_error", "draining")
    assert reply.get("retry-after") == "1"
    assert simulator.connections == 0


async def test_a_mistake_of_ours_is_an_answer_too_and_says_nothing_of_the_inside(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("secret inside")

    monkeypatch.setattr("claude_proxy.proxy.forward.h.response_headers", broken)
    async with running_proxy(simulator.base_url) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body())
        (exchange,) = await proxy.recorder.wait_for(1)
    assert "secret" not in sentence(reply, 500, "api_error", "internal")
    assert exchange.failure is not None
    assert (exchange.outcome, exchange.failure.side) == (Outcome.FAILED, "proxy")
    assert exchange.id in capfd.readouterr().err


@pytest.mark.parametrize(("added", "status"), [((b"x-user", b"me"), 200), ((b"x-user", b"me\r\nx-evil: 1"), 400)])
async def test_headers_that_an_app_around_ours_put_in_are_those_that_count(
    simulator: Simulator, added: tuple[bytes, bytes], status: int
) -> None:
    """Also under our own server, whose extension knows the headers as they came."""

    def prepare(app: App) -> None:
        forward = app.forward

        async def wrapped(scope: Any, receive: Any, send: Any, path: bytes) -> None:
            await forward.serve({**scope, "headers": [*scope["headers"], added]}, receive, send, path)

        app.forward = SimpleNamespace(  # type: ignore[assignment]
            serve=wrapped, close=forward.close, running=0, config=forward.config, tell_ended=forward.tell_ended
        )

    async with running_proxy(simulator.base_url, prepare=prepare) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body())
    assert reply.status == status
    assert [(b"x-user", b"me") in it.headers for it in simulator.requests] == [True] * (status == 200)
