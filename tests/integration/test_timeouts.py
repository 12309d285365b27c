"""Every named time-out: what the client is told, and whose side it is put to (docs/design.md)."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import AbstractAsyncContextManager, closing
from typing import Any

import pytest

from claude_proxy.exchange import Outcome
from claude_proxy.simulator import Scenario, Simulator, faults
from tests.integration.leftovers import until
from tests.integration.listeners import Listener, listening, not_accepting, silent, small_buffers
from tests.integration.messages import FILES, JSON, MESSAGES, MODELS, body, head, length, post
from tests.integration.proxy import RunningProxy, running_proxy
from tests.integration.wire import Reply, ask, connect, request

LARGE = 24 * 1024 * 1024  # more than the kernel buffers between two sockets


def says(reply: Reply, status: int, kind: str, code: str, *words: str) -> None:
    """The reply is our own error, in Anthropic's envelope, with these words."""
    error = json.loads(reply.body)
    assert (reply.status, reply.get("x-claude-proxy-error"), error["type"]) == (status, code, "error")
    assert error["error"]["type"] == kind
    for word in words:
        assert word in error["error"]["message"]


def to(upstream: Listener, **settings: float) -> AbstractAsyncContextManager[RunningProxy]:
    """A proxy before a hand-written upstream."""
    return running_proxy(f"http://127.0.0.1:{upstream.port}", **settings)


async def failed(proxy: RunningProxy, side: str, code: str, outcome: Outcome = Outcome.FAILED) -> None:
    """The one exchange was recorded so."""
    (exchange,) = await proxy.recorder.wait_for(1)
    assert exchange.failure is not None
    assert (exchange.outcome, exchange.failure.side, exchange.failure.kind) == (outcome, side, code)


async def test_connect() -> None:
    async with not_accepting() as port, running_proxy(f"http://127.0.0.1:{port}", connect_timeout=0.2) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body())
        says(reply, 504, "timeout_error", "connect_timeout", f"127.0.0.1:{port}", "0.2 s", "CONNECT_TIMEOUT")
        await failed(proxy, "upstream", "connect_timeout")
        assert proxy.upstream_connections == 0


async def test_connect_includes_the_tls_handshake() -> None:
    async with listening(silent) as upstream, running_proxy(f"https://127.0.0.1:{upstream.port}", connect_timeout=0.3) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body())
        says(reply, 504, "timeout_error", "connect_timeout", "CONNECT_TIMEOUT")
        assert proxy.upstream_connections == 0


async def test_connect_includes_an_outbound_proxy_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(silent) as tunnel:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{tunnel.port}")
        async with running_proxy("https://api.example/x", connect_timeout=0.3) as proxy:
            reply = await ask(proxy.port, "GET", MODELS)
            says(reply, 504, "timeout_error", "connect_timeout", "api.example:443")
            await tunnel.wait_for(lambda t: t.left)


async def test_write_of_an_upload(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stop_reading())
    async with running_proxy(simulator.base_url, write_timeout=0.3) as proxy, connect(proxy.port) as wire:
        wire.send(head("POST", FILES, length(LARGE)) + b"x" * LARGE)
        reply = await wire.reply()
        says(reply, 504, "timeout_error", "write_timeout", "0.3 s", "WRITE_TIMEOUT")
        assert reply.get("connection") == "close"
        await failed(proxy, "upstream", "write_timeout")
        simulator.release()
        await simulator.wait_for(lambda sim: not sim.open_connections)


async def test_write_of_a_body_that_was_read_ahead() -> None:
    with closing(small_buffers()) as sock:  # connections to it are made by the kernel; nobody reads
        async with running_proxy(f"http://127.0.0.1:{sock.getsockname()[1]}", write_timeout=0.3) as proxy:
            reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body(text="x" * 1_000_000))
            says(reply, 504, "timeout_error", "write_timeout", "WRITE_TIMEOUT")
            await failed(proxy, "upstream", "write_timeout")
            await until(lambda: proxy.upstream_connections == 0)


async def test_write_does_not_run_out_while_the_upstream_takes_some() -> None:
    size = 1_600_000

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = size
        while left:
            left -= len(await reader.read(16384))
            await asyncio.sleep(0.02)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await silent(reader, writer)

    async with listening(slowly, small_buffers()) as upstream, to(upstream, write_timeout=0.5) as proxy:
        reply = await ask(proxy.port, "POST", FILES, body=b"x" * size)
        (exchange,) = await proxy.recorder.wait_for(1)
    assert (reply.status, reply.body) == (200, b"ok")
    assert exchange.duration > 0.5


@pytest.mark.parametrize("stream", [True, False])
async def test_response_head(simulator: Simulator, stream: bool) -> None:
    simulator.scenario = Scenario(fault=faults.stall("head"))
    async with running_proxy(simulator.base_url, response_head_timeout=0.2) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body(stream=stream))
        says(reply, 504, "timeout_error", "response_head_timeout", "0.2 s", "RESPONSE_HEAD_TIMEOUT")
        await failed(proxy, "upstream", "response_head_timeout")
        await simulator.wait_for(lambda sim: not sim.open_connections)
    assert len(simulator.requests) == 1  # it may have been billed: never sent again


async def test_response_head_counts_from_the_end_of_an_upload(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("head"))
    async with running_proxy(simulator.base_url, response_head_timeout=0.2) as proxy:
        reply = await ask(proxy.port, "POST", FILES, body=b"x" * 200_000)
        says(reply, 504, "timeout_error", "response_head_timeout")
    assert simulator.requests[0].complete


async def test_response_head_is_not_put_off_by_an_interim_answer() -> None:
    async def hinting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        await silent(reader, writer)

    async with listening(hinting) as upstream, to(upstream, response_head_timeout=0.2) as proxy:
        says(await ask(proxy.port, "GET", MODELS), 504, "timeout_error", "response_head_timeout")


async def test_stream_idle_of_an_unstreamed_answer(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("mid-event", 0))
    async with running_proxy(simulator.base_url, stream_idle_timeout=0.2) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body(stream=False))
        assert (reply.status, reply.whole) == (200, False)
        await failed(proxy, "upstream", "stream_idle", Outcome.STALLED)
        await simulator.wait_for(lambda sim: not sim.open_connections)


async def test_stream_idle_of_an_error_that_does_not_come_to_its_end(simulator: Simulator) -> None:
    simulator.scenario = Scenario("error", status=500, fault=faults.stall("mid-event", 0))
    async with running_proxy(simulator.base_url, stream_idle_timeout=0.2, first_event_wait=0.1) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body(stream=False))
        assert (reply.status, reply.whole) == (500, False)
        await failed(proxy, "upstream", "stream_idle", Outcome.STALLED)


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_client_write(simulator: Simulator, kind: str) -> None:
    simulator.scenario = Scenario("raw", content_type=kind, body=b'data: {"x":"%b"}\n\n' % (b"y" * 65536), repeat=600)
    loop = asyncio.get_running_loop()
    async with running_proxy(simulator.base_url, client_write_timeout=0.3) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port)) as client:  # and nothing is read from it
            client.setblocking(False)
            await loop.sock_sendall(client, post())
            (exchange,) = await proxy.recorder.wait_for(1)
            await simulator.wait_for(lambda sim: not sim.open_connections)
    assert (exchange.outcome, exchange.failure) == (Outcome.CLIENT_STALLED, None)
    assert exchange.bytes_out < 600 * 65536
    assert exchange.duration >= 0.3 - 1e-6  # times are floats


@pytest.mark.parametrize("pieces", [40, 46, 47, 48, 49])
async def test_client_write_of_the_last_piece_and_of_the_next_head(simulator: Simulator, pieces: int) -> None:
    """About as much as all buffers on the way hold: what is blocked is the end of an answer, or the start of the next."""
    simulator.scenario = Scenario("raw", body=b"x" * 65536, repeat=pieces)
    loop = asyncio.get_running_loop()
    async with running_proxy(simulator.base_url, client_write_timeout=0.3) as proxy:
        with small_reader(proxy.port) as client:
            await loop.sock_sendall(client, post() + post())  # the second waits behind an answer that is not read
            await until(lambda: Outcome.CLIENT_STALLED in {exchange.outcome for exchange in proxy.recorder.ended})
            await until(lambda: not proxy.server.server_state.connections)
    assert {exchange.outcome for exchange in proxy.recorder.ended} <= {Outcome.COMPLETED, Outcome.CLIENT_STALLED}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_does_not_take_the_end_holds_no_upstream_connection(simulator: Simulator, stream: bool) -> None:
    reached, go = asyncio.Event(), asyncio.Event()
    messages = [{"type": "http.request", "body": body(stream=stream), "more_body": False}]

    async def receive() -> Any:
        return messages.pop() if messages else await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body" and not message["more_body"]:
            reached.set()
            await go.wait()

    scope = {"type": "http", "http_version": "1.1", "method": "POST", "query_string": b"", "headers": [JSON], "root_path": ""}
    scope |= {"path": MESSAGES, "raw_path": MESSAGES.encode(), "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}
    async with running_proxy(simulator.base_url, max_connections=1, connect_timeout=1) as proxy:
        slow = asyncio.create_task(proxy.app.forward.serve(scope, receive, send, b"/v1/messages"))
        await reached.wait()
        assert (await ask(proxy.port, "POST", MESSAGES, [JSON], body())).status == 200
        assert proxy.upstream_connections == 1
        go.set()
        await slow
        assert {exchange.outcome for exchange in await proxy.recorder.wait_for(2)} == {Outcome.COMPLETED}


def small_reader(port: int) -> socket.socket:
    """A client that can take little, and takes nothing of it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.setblocking(False)
    return client


async def test_client_write_does_not_run_out_while_the_client_reads(simulator: Simulator) -> None:
    simulator.scenario = Scenario("raw", content_type="application/x-jsonl", body=b"x" * 65536, repeat=200)
    async with running_proxy(simulator.base_url, client_write_timeout=2) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, limit=4096)
        writer.write(request("GET", MODELS))
        size = 0
        while size < 200 * 65536:
            size += len(await reader.read(65536))
        writer.transport.abort()
        (exchange,) = await proxy.recorder.wait_for(1)
    assert exchange.outcome is Outcome.COMPLETED


@pytest.mark.parametrize("path", [MESSAGES, FILES])
@pytest.mark.parametrize("sent", [0, 10])
async def test_client_read(simulator: Simulator, path: str, sent: int) -> None:
    async with running_proxy(simulator.base_url, client_read_timeout=0.2) as proxy, connect(proxy.port) as wire:
        wire.send(head("POST", path, JSON, length(100)) + b"x" * sent)
        reply = await wire.reply()
        says(reply, 408, "invalid_request_error", "body_timeout", "0.2 s", "CLIENT_READ_TIMEOUT")
        assert reply.get("connection") == "close"
        await failed(proxy, "client", "body_timeout", Outcome.REFUSED)
        await until(lambda: proxy.upstream_connections == 0)
    assert not any(one.complete for one in simulator.requests)


async def test_client_read_does_not_run_out_while_some_comes(simulator: Simulator) -> None:
    parts: list[Any] = [b"x" * 100] * 20
    async with running_proxy(simulator.base_url, client_read_timeout=1) as proxy, connect(proxy.port) as wire:
        wire.send(head("POST", FILES, length(2000)))
        for number, part in enumerate(parts, 1):
            wire.send(part)
            await simulator.wait_for(lambda sim, n=number: sim.requests and sim.requests[0].body_size >= 100 * n)
        assert (await wire.reply()).status == 200
