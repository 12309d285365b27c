"""Request bodies: limits, early answers, lengths that are wrong, chunks, Expect."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from claude_proxy.exchange import Outcome
from claude_proxy.simulator import Scenario, Simulator, error, faults
from tests.integration.leftovers import until
from tests.integration.messages import BATCHES, COUNT, FILES, JSON, MESSAGES, body, head, length
from tests.integration.proxy import RunningProxy, running_proxy
from tests.integration.wire import Header, Reply, ask, connect

CHUNKED: Header = (b"Transfer-Encoding", b"chunked")
LIMITS = {"max_body": 1000, "max_body_batches": 2000, "max_body_files": 3000}
PATHS = [(MESSAGES, 1000), (COUNT, 1000), ("/api/anthropic/v1/other", 1000), (BATCHES, 2000), (FILES, 3000)]
LARGE = 12 * 1024 * 1024


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def too_large(reply: Reply, limit: int) -> None:
    """A 413 of ours that says how large is too large."""
    envelope = json.loads(reply.body)
    assert (reply.status, reply.get("x-claude-proxy-error")) == (413, "body_too_large")
    assert (envelope["error"]["type"], reply.get("x-should-retry")) == ("request_too_large", "false")
    assert f"{limit:,} bytes" in envelope["error"]["message"]
    assert "MAX_BODY" in envelope["error"]["message"]


# -- limits


@pytest.mark.parametrize(("path", "limit"), PATHS)
async def test_a_body_over_its_limit_is_refused_before_it_is_read(simulator: Simulator, path: str, limit: int) -> None:
    async with running_proxy(simulator.base_url, **LIMITS) as proxy, connect(proxy.port) as wire:
        wire.send(head("POST", path, JSON, length(limit + 1)))  # and no byte of it
        too_large(await wire.reply(), limit)
        (exchange,) = await proxy.recorder.wait_for(1)
    assert exchange.failure is not None
    assert (exchange.outcome, exchange.failure.side, exchange.status) == (Outcome.REFUSED, "client", 413)
    assert simulator.connections == 0


@pytest.mark.parametrize(("path", "limit"), PATHS)
async def test_a_body_of_unknown_length_is_refused_when_it_has_grown_too_large(
    simulator: Simulator, path: str, limit: int
) -> None:
    async with running_proxy(simulator.base_url, **LIMITS) as proxy, connect(proxy.port) as wire:
        wire.send(head("POST", path, JSON, CHUNKED) + chunk(b"x" * (limit + 1)))
        too_large(await wire.reply(), limit)
    assert not any(one.complete for one in simulator.requests)


async def test_an_upload_that_grows_too_large_is_cut_off_upstream(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url, **LIMITS) as proxy, connect(proxy.port) as wire:
        wire.send(head("POST", FILES, CHUNKED) + chunk(b"x" * 2000))
        await simulator.wait_for(lambda sim: sim.requests and sim.requests[0].body_size == 2000)
        wire.send(chunk(b"x" * 1001))
        too_large(await wire.reply(), 3000)
        await simulator.wait_for(lambda sim: sim.requests[0].left_at is not None)
        await until(lambda: proxy.upstream_connections == 0)
    assert not simulator.requests[0].complete


@pytest.mark.parametrize(("path", "limit"), PATHS)
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_body_of_exactly_the_limit_passes(simulator: Simulator, path: str, limit: int, framing: str) -> None:
    simulator.scenario = Scenario("raw", body=b"{}")
    async with running_proxy(simulator.base_url, **LIMITS) as proxy:
        reply = await ask(proxy.port, "POST", path, [JSON], b"x" * limit, chunked=framing == "chunked")
    assert (reply.status, simulator.requests[0].body) == (200, b"x" * limit)


# -- early answers


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("then", ["drain", "close"])
async def test_an_answer_that_comes_before_the_body_is_sent_is_passed_on(simulator: Simulator, then: Any, chunked: bool) -> None:
    simulator.scenario = error(413, message="too much for me", fault=faults.early(65536, then=then))
    async with running_proxy(simulator.base_url) as proxy, connect(proxy.port) as wire:
        reply, sending = await upload(wire, chunked)
        sending.cancel()
        (exchange,) = await proxy.recorder.wait_for(1)
        await simulator.wait_for(lambda sim: not sim.open_connections)  # half a request is on it: nobody may use it again
        assert proxy.upstream_connections == 0
    assert (reply.status, reply.whole, reply.get("x-claude-proxy-error")) == (413, True, None)
    assert json.loads(reply.body)["error"]["message"] == "too much for me"
    assert (exchange.outcome, exchange.status) == (Outcome.COMPLETED, 413)


async def test_a_reset_may_overtake_an_early_answer_and_then_says_so(simulator: Simulator) -> None:
    simulator.scenario = error(413, fault=faults.early(65536, then="rst"))
    async with running_proxy(simulator.base_url) as proxy, connect(proxy.port) as wire:
        reply, sending = await upload(wire, False)
        sending.cancel()
    assert (reply.status, reply.get("x-claude-proxy-error")) in ((413, None), (502, "connection_lost"))


async def test_an_early_stream_goes_on_while_the_body_is_still_being_sent(simulator: Simulator) -> None:
    simulator.scenario = Scenario(
        "raw", body=b"data: 1\n\n" * 40, content_type="text/event-stream", pace=0.005, fault=faults.early(1000)
    )
    async with running_proxy(simulator.base_url) as proxy, connect(proxy.port) as wire:
        wire.send(head("POST", FILES, length(200_000)) + b"x" * 1000)
        await wire.head()
        assert await wire.chunk() == b"data: 1\n\n"
        wire.send(b"x" * 199_000)
        parts = []
        while part := await wire.chunk():
            parts.append(part)
        assert b"".join(parts) == b"data: 1\n\n" * 39
        await simulator.wait_for(lambda sim: sim.requests[0].complete)
    assert simulator.requests[0].body_size == 200_000


async def test_an_early_stream_goes_on_although_the_rest_of_the_body_does_not_come(simulator: Simulator) -> None:
    simulator.scenario = Scenario(
        "raw", body=b"data: 1\n\n" * 40, content_type="text/event-stream", pace=0.01, fault=faults.early(1000)
    )
    async with running_proxy(simulator.base_url, client_read_timeout=0.1) as proxy, connect(proxy.port) as wire:
        wire.send(head("POST", FILES, length(200_000)) + b"x" * 1000)
        reply = await wire.reply()
        (exchange,) = await proxy.recorder.wait_for(1)
    assert (reply.whole, reply.body) == (True, b"data: 1\n\n" * 40)
    assert exchange.outcome is Outcome.COMPLETED


async def upload(wire: Any, chunked: bool) -> tuple[Reply, asyncio.Task[None]]:
    """Send a large body in the background and read the answer."""
    wire.send(head("POST", FILES, CHUNKED if chunked else length(LARGE)))

    async def send() -> None:
        block = b"x" * 65536
        for _ in range(LARGE // len(block)):
            wire.send(chunk(block) if chunked else block)
            await wire.writer.drain()

    sending = asyncio.create_task(send())
    return await wire.reply(), sending


# -- what is kept of bodies, over all exchanges together


@pytest.mark.parametrize(
    ("method", "path", "data"), [("GET", FILES, b""), ("POST", MESSAGES, body()), ("POST", FILES, b"x" * 200_000)]
)
async def test_requests_pass_unchanged_when_no_more_may_be_kept(
    simulator: Simulator, method: str, path: str, data: bytes
) -> None:
    async with running_proxy(simulator.base_url, max_kept=1) as proxy:
        assert (await ask(proxy.port, method, path, [JSON], data)).status == 200
    seen = simulator.requests[0]
    assert (seen.body, seen.header("transfer-encoding")) == (data, None)
    assert seen.header("content-length") == (str(len(data)) if data else None)


async def test_what_is_kept_is_given_back_however_an_exchange_ends(simulator: Simulator) -> None:
    scenarios = [Scenario(), Scenario(fault=faults.cut("head")), Scenario(fault=faults.cut("events", 2)), error(500)]
    turns = iter([*scenarios, Scenario(fault=faults.stall("head"))])
    simulator.scenario = lambda _: next(turns)
    async with running_proxy(simulator.base_url, max_body=600_000) as proxy:
        for _ in scenarios:
            await ask(proxy.port, "POST", MESSAGES, [JSON], body(text="x" * 500_000))
        async with connect(proxy.port) as wire:
            wire.send(head("POST", MESSAGES, length(500_000)) + b"x" * 500_000)
            await simulator.hold.wait()
            assert proxy.app.forward._shelf.used == 500_000
        async with connect(proxy.port) as wire:
            wire.send(head("POST", MESSAGES, CHUNKED) + chunk(b"x" * 500_000) + chunk(b"x" * 200_000))
            await wire.reply()
        await proxy.recorder.wait_for(6)
        assert proxy.app.forward._shelf.used == 0


# -- lengths


class Asgi:
    """Calls the application as a server does that checks nothing."""

    def __init__(self, proxy: RunningProxy) -> None:
        self._proxy = proxy
        self.sent: list[dict[str, Any]] = []

    async def post(self, path: str, headers: list[Header], *parts: bytes) -> int:
        """The status of the answer to a body in these parts."""
        messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        messages[-1]["more_body"] = False
        incoming = iter(messages)

        async def receive() -> dict[str, Any]:
            message = next(incoming, None)
            if message is None:
                await asyncio.get_running_loop().create_future()
                raise AssertionError
            return message

        async def send(message: dict[str, Any]) -> None:
            self.sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers,
            "client": ("127.0.0.1", 40000), "server": ("127.0.0.1", 1),
        }  # fmt: skip
        await self._proxy.app(scope, receive, send)
        status: int = self.sent[0]["status"]
        return status


@pytest.mark.parametrize("path", [MESSAGES, FILES])
@pytest.mark.parametrize("parts", [[b"12345"], [b"123", b"45"], [b"12345678901"], [b"123", b"45678901"], [b""]])
async def test_a_body_that_is_not_as_long_as_announced_is_refused_and_its_connection_closed(
    simulator: Simulator, path: str, parts: list[bytes]
) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        app = Asgi(proxy)
        assert await app.post(path, [(b"content-length", b"10")], *parts) == 400
        (exchange,) = await proxy.recorder.wait_for(1)
        await simulator.wait_for(lambda sim: not sim.open_connections)
        assert proxy.upstream_connections == 0
    assert b"announced 10 bytes" in app.sent[1]["body"]
    assert exchange.outcome is Outcome.REFUSED
    assert not any(one.complete for one in simulator.requests)


@pytest.mark.parametrize("value", [b"ten", b"-1", b"1e3", b"", b" ", b"9" * 30, "１０".encode()])
async def test_a_length_that_is_no_number_is_refused(simulator: Simulator, value: bytes) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        assert await Asgi(proxy).post(FILES, [(b"content-length", value)], b"12345") == 400
    assert simulator.connections == 0


async def test_two_lengths_are_refused(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        headers = [(b"content-length", b"4"), (b"content-length", b"5")]
        assert await Asgi(proxy).post(FILES, headers, b"12345") == 400
    assert not any(one.complete for one in simulator.requests)


# -- chunks


@pytest.mark.parametrize("path", [MESSAGES, FILES])
@pytest.mark.parametrize("size", [0, 1, 70_000, 2_500_000])
async def test_a_chunked_body_arrives_whole(simulator: Simulator, path: str, size: int) -> None:
    simulator.scenario = Scenario("raw", body=b"{}")
    simulator.keep_body = 1 << 23
    data = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    async with running_proxy(simulator.base_url) as proxy, connect(proxy.port) as wire:
        for _ in range(2):  # the upstream connection is good for another
            wire.send(head("POST", path, CHUNKED))
            for at in range(0, size, 9973):
                wire.send(chunk(data[at : at + 9973]))
            wire.send(b"0\r\n\r\n")
            assert (await wire.reply()).status == 200
    assert [one.body == data for one in simulator.requests] == [True, True]
    assert {one.connection for one in simulator.requests} == {1}
    assert simulator.requests[0].header("content-length") is None


async def test_a_trailer_of_the_clients_goes_no_further(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url) as proxy, connect(proxy.port) as wire:
        trailer = b"0\r\nAuthorization: Bearer sneaked\r\n\r\n"
        wire.send(head("POST", MESSAGES, JSON, CHUNKED) + chunk(body()) + trailer)
        assert (await wire.reply()).status == 200
    seen = simulator.requests[0]
    assert (seen.header("authorization"), seen.trailers, seen.body) == (None, [], body())


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET"])
async def test_an_empty_body_stays_one(simulator: Simulator, method: str) -> None:
    simulator.scenario = Scenario("raw", body=b"{}")
    async with running_proxy(simulator.base_url) as proxy:
        assert (await ask(proxy.port, method, FILES)).status == 200
    seen = simulator.requests[0]
    assert (seen.body, seen.complete) == (b"", True)
    assert seen.header("content-length") == ("0" if method in ("POST", "PUT", "PATCH") else None)


# -- Expect


@pytest.mark.parametrize("path", [MESSAGES, FILES])
async def test_a_client_that_expects_100_continue_gets_it_from_us(simulator: Simulator, path: str) -> None:
    simulator.scenario = Scenario("raw", body=b"{}")
    async with running_proxy(simulator.base_url) as proxy, connect(proxy.port) as wire:
        wire.send(head("POST", path, JSON, length(5), (b"Expect", b"100-continue")))
        assert (await wire.head())[0] == 100
        wire.send(b"12345")
        assert (await wire.head())[0] == 200
    assert (simulator.requests[0].body, simulator.requests[0].header("expect")) == (b"12345", None)


async def test_a_body_that_will_be_refused_is_not_asked_for(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url, **LIMITS) as proxy, connect(proxy.port) as wire:
        wire.send(head("POST", MESSAGES, JSON, length(5000), (b"Expect", b"100-continue")))
        status, headers = await wire.head()
    assert status == 413
    assert (b"connection", b"close") in headers


async def test_an_upload_that_grows_too_large_behind_an_early_answer_leaves_no_connection_for_others(
    simulator: Simulator,
) -> None:
    """The upstream still waits for the rest of the body there: the next request would become part of it."""
    simulator.scenario = Scenario("raw", body=b"x" * 40, pace=0.01, drip=0.005, fault=faults.early(1000))
    async with running_proxy(simulator.base_url, max_body_files=100_000) as proxy, connect(proxy.port) as wire:
        wire.send(head("POST", FILES, CHUNKED) + b"%x\r\n%b\r\n" % (2000, b"x" * 2000))
        await wire.head()
        wire.send(b"%x\r\n%b\r\n0\r\n\r\n" % (99_000, b"x" * 99_000))
        assert await wire.reader.readexactly(40) == b"x" * 40
        await proxy.recorder.wait_for(1)
        assert proxy.app.forward.config.upstreams[0].pool.idle == 0


@pytest.mark.parametrize(
    "first", [b'"model":"glm-5.3","stream":true,', b'"metadata":{"model":"not-this"},"stream": true ,"model": "glm-5.3",']
)
async def test_of_a_body_too_large_to_be_kept_model_and_stream_are_read_from_its_beginning(
    simulator: Simulator, first: bytes
) -> None:
    data = b"{" + first + b'"max_tokens":100,"messages":[{"role":"user","content":"' + b"x" * LARGE + b'"}]}'
    simulator.scenario = Scenario("raw", body=b"{}")
    simulator.keep_body = 2 * LARGE
    async with running_proxy(simulator.base_url) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], data)
        (exchange,) = await proxy.recorder.wait_for(1)
    assert (reply.status, simulator.requests[0].body == data) == (200, True)
    assert (exchange.model, exchange.bytes_in) == ("glm-5.3", len(data))
