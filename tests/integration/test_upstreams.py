"""Real servers as upstream: uvicorn, hypercorn, and (system) nginx before the simulator."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import hypercorn.asyncio
import hypercorn.config
import pytest
import uvicorn

from claude_proxy.exchange import Outcome
from claude_proxy.simulator import Scenario, Simulator, faults
from tests.deploy.process import free_port, running
from tests.integration.messages import FILES, JSON, MESSAGES, MODELS, body, head, length
from tests.integration.proxy import _Server, running_proxy
from tests.integration.wire import ask, connect

EVENTS = [b'event: e\ndata: {"n":%d}\n\n' % n for n in range(20)] + [b'event: message_stop\ndata: {"type":"message_stop"}\n\n']


async def api(scope: Any, receive: Any, send: Any) -> None:
    """A small API: streams, takes uploads, refuses early, breaks off."""
    if scope["type"] != "http":
        return
    path = scope["path"]
    digest, size = hashlib.sha256(), 0
    if path != "/v1/early":
        while True:
            message = await receive()
            digest.update(message.get("body", b""))
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
    if path == "/v1/messages":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for event in EVENTS:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    elif path == "/v1/half":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ConnectionAbortedError
    elif path == "/v1/gone":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    else:
        said = json.dumps({"size": size, "sha256": digest.hexdigest()}).encode()
        status = 413 if path == "/v1/early" else 200
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(said))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": said})


@asynccontextmanager
async def uvicorn_serving() -> AsyncIterator[str]:
    """uvicorn as it comes."""
    sock = socket.create_server(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(api, lifespan="off", log_config=None, access_log=False, ws="none"))
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    server.should_exit = server.force_exit = True
    await serving


@asynccontextmanager
async def hypercorn_serving() -> AsyncIterator[str]:
    """hypercorn as it comes."""
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    config = hypercorn.config.Config()
    config.bind = [f"fd://{sock.detach()}"]
    config.errorlog = config.accesslog = None
    config.graceful_timeout = 0.1
    stop = asyncio.Event()
    serving = asyncio.create_task(hypercorn.asyncio.serve(api, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]  # its own ASGI types
    yield f"http://127.0.0.1:{port}"
    stop.set()
    with suppress(asyncio.CancelledError):
        await serving


@pytest.fixture(params=[uvicorn_serving, hypercorn_serving], ids=["uvicorn", "hypercorn"])
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Its base URL."""
    async with request.param() as url:
        yield url


async def test_a_stream_passes_whole_and_its_connection_serves_on(upstream: str) -> None:
    async with running_proxy(upstream) as proxy:
        for _ in range(3):
            reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body())
            assert (reply.status, reply.body, reply.whole) == (200, b"".join(EVENTS), True)
        exchanges = await proxy.recorder.wait_for(3)
    assert [exchange.attempts[0].reused for exchange in exchanges] == [False, True, True]


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_upload_arrives_whole(upstream: str, chunked: bool) -> None:
    data = bytes(range(256)) * 12_000
    async with running_proxy(upstream) as proxy:
        reply = await ask(proxy.port, "POST", FILES, body=data, chunked=chunked)
    assert json.loads(reply.body) == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


async def test_an_early_refusal_of_an_upload_arrives(upstream: str) -> None:
    size = 12 << 20
    async with running_proxy(upstream) as proxy, connect(proxy.port) as wire:
        wire.send(head("POST", "/api/anthropic/v1/early", length(size)) + b"x" * size)
        assert (await wire.reply()).status == 413


async def test_an_answer_that_breaks_off_and_one_without_a_body(upstream: str) -> None:
    async with running_proxy(upstream) as proxy:
        half = await ask(proxy.port, "GET", "/api/anthropic/v1/half")
        gone = await ask(proxy.port, "DELETE", "/api/anthropic/v1/gone")
        first, _ = await proxy.recorder.wait_for(2)
    assert (half.body, half.whole, first.outcome) == (b"half", False, Outcome.CUT)
    assert (gone.status, gone.body) == (204, b"")


NGINX = """
daemon off; error_log stderr error; pid {folder}/nginx.pid; worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  keepalive_requests {keepalive_requests}; keepalive_timeout {keepalive_timeout}; client_max_body_size 1m;
  gzip on; gzip_types application/json; gzip_min_length 1;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass {upstream}; proxy_http_version 1.1; proxy_buffering off; }}
  }}
}}
"""


@asynccontextmanager
async def nginx(
    folder: Path, upstream: str, *, keepalive_requests: int = 1000, keepalive_timeout: str = "75s"
) -> AsyncIterator[str]:
    """nginx before another upstream."""
    port = free_port()
    config = folder / "nginx.conf"
    values = {"keepalive_requests": keepalive_requests, "keepalive_timeout": keepalive_timeout}
    config.write_text(NGINX.format(folder=folder, port=port, upstream=upstream, **values))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    async with running([program, "-p", folder, "-e", "stderr", "-c", config], folder, "nginx") as process:
        await process.until_listening(port)
        yield f"http://127.0.0.1:{port}/api/anthropic"


@pytest.mark.system
class TestNginx:
    """nginx as the upstream's front, as most upstreams have one."""

    async def test_streams_and_compressed_answers_pass(self, simulator: Simulator, tmp_path: Path) -> None:
        async with nginx(tmp_path, simulator.url) as url, running_proxy(url) as proxy:
            for _ in range(3):
                reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body())
                assert (reply.status, reply.whole) == (200, True)
                assert b"message_stop" in reply.body
            reply = await ask(proxy.port, "GET", MODELS, [(b"Accept-Encoding", b"gzip")])
            assert (reply.get("content-encoding"), reply.body[:2]) == ("gzip", b"\x1f\x8b")
            assert proxy.upstream_connections == 1

    async def test_its_own_errors_pass_as_they_are(self, simulator: Simulator, tmp_path: Path) -> None:
        async with nginx(tmp_path, simulator.url) as url, running_proxy(url) as proxy:
            too_large = await ask(proxy.port, "POST", FILES, body=b"x" * (3 << 20))
            await simulator.refuse()
            down = await ask(proxy.port, "POST", MESSAGES, [JSON], body())
        assert (too_large.status, down.status) == (413, 502)
        for reply in (too_large, down):
            assert b"<center>nginx/" in reply.body
            assert reply.get("x-claude-proxy-error") is None

    @pytest.mark.parametrize("limits", [{"keepalive_requests": 2}, {"keepalive_timeout": "0"}])
    async def test_it_closes_connections_as_it_likes(self, simulator: Simulator, tmp_path: Path, limits: dict[str, Any]) -> None:
        async with nginx(tmp_path, simulator.url, **limits) as url, running_proxy(url) as proxy:
            for _ in range(8):
                assert (await ask(proxy.port, "POST", MESSAGES, [JSON], body())).whole
        assert len(simulator.requests) == 8

    async def test_a_cut_behind_it_is_a_cut_here(self, simulator: Simulator, tmp_path: Path) -> None:
        simulator.scenario = Scenario(fault=faults.cut("events", 4))
        async with nginx(tmp_path, simulator.url) as url, running_proxy(url) as proxy:
            reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body())
        assert (reply.status, reply.whole) == (200, False)

    async def test_a_client_that_leaves_is_seen_behind_it(self, simulator: Simulator, tmp_path: Path) -> None:
        simulator.scenario = Scenario(fault=faults.stall("events", 4))
        async with nginx(tmp_path, simulator.url) as url, running_proxy(url) as proxy, connect(proxy.port) as wire:
            wire.send(head("POST", MESSAGES, JSON, length(len(body()))) + body())
            await wire.head()
            wire.leave()
            await simulator.wait_for(lambda sim: sim.requests[0].left_at is not None)
