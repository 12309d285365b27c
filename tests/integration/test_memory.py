"""Large bodies both ways: whatever their size, and whoever is slow, the process stays as small as it was."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.simulator import Scenario, Simulator, faults
from tests.integration.messages import FILES, JSON, MESSAGES, MODELS, body, head, length
from tests.integration.proxy import running_proxy
from tests.integration.served import Served, served
from tests.integration.wire import ask, connect, request

MB = 1_000_000
BLOCK = b"0123456789abcdef" * 16384  # 256 KiB
GROWTH = 10 * MB  # what the issue allows
IN_SOCKETS = 32 * MB  # what four socket buffers of the kernel hold at most (tcp_rmem and tcp_wmem, twice)
SIZES = pytest.mark.parametrize("size", [200 * MB, pytest.param(500 * MB, marks=pytest.mark.system)])
pytestmark = pytest.mark.timeout(120)


async def warm(process: Served) -> int:
    """Let it allocate once what it keeps; then its size."""
    for _ in range(3):
        assert (await ask(process.port, "POST", FILES, body=BLOCK * 16)).status == 200
        assert (await ask(process.port, "GET", MODELS)).status == 200
    return process.resident()


async def upload(process: Served, size: int, *, chunked: bool) -> tuple[int, str]:
    """Send `size` bytes; the answer's status and the body's digest."""
    digest = hashlib.sha256()
    framing = (b"Transfer-Encoding", b"chunked") if chunked else length(size)
    async with connect(process.port) as wire:
        wire.send(head("POST", FILES, framing))
        left = size
        while left:
            block = BLOCK[:left]
            left -= len(block)
            digest.update(block)
            wire.send(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
            await wire.writer.drain()
        if chunked:
            wire.send(b"0\r\n\r\n")
        return (await wire.reply()).status, digest.hexdigest()


@SIZES
@pytest.mark.parametrize("chunked", [False, True])
async def test_an_upload_passes_without_being_held(tmp_path: Path, size: int, chunked: bool) -> None:
    async with Simulator() as simulator, served(simulator.base_url, tmp_path) as process:
        before = await warm(process)
        status, digest = await upload(process, size, chunked=chunked)
        assert process.peak() - before < GROWTH
    arrived = simulator.requests[-1]
    assert (status, arrived.body_size, arrived.body_sha256) == (200, size, digest)


async def test_an_upload_waits_for_an_upstream_that_does_not_read(tmp_path: Path) -> None:
    size = 100 * MB
    async with Simulator() as simulator, served(simulator.base_url, tmp_path) as process:
        before = await warm(process)
        simulator.scenario = Scenario(fault=faults.stop_reading(MB))
        sending = asyncio.create_task(upload(process, size, chunked=False))
        await simulator.hold.wait()
        await asyncio.wait([sending], timeout=0.5)
        assert not sending.done()
        simulator.release()
        status, _ = await sending
        assert process.peak() - before < GROWTH
    assert (status, simulator.requests[-1].body_size) == (200, size)


async def download(process: Served, simulator: Simulator, size: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for a file of `size` bytes and read the head of the answer; the connection reads little ahead."""
    simulator.scenario = Scenario("raw", content_type="application/binary", body=b"x" * 100_000, repeat=size // 100_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", process.port, limit=16384)
    writer.write(request("GET", FILES + "/f/content"))
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


@SIZES
async def test_an_answer_waits_for_a_slow_reader(tmp_path: Path, size: int) -> None:
    async with Simulator() as simulator, served(simulator.base_url, tmp_path) as process:
        before = await warm(process)
        reader, writer = await download(process, simulator, size)
        got, ahead = 0, 0
        while got < size:
            got += len(await reader.read(65536))
            ahead = max(ahead, simulator.requests[-1].sent - got)
        assert process.peak() - before < GROWTH
        writer.transport.abort()
    assert (got, ahead < IN_SOCKETS) == (size, True)


async def test_a_reader_that_pauses_holds_the_upstream_back(tmp_path: Path) -> None:
    size = 100 * MB
    async with Simulator() as simulator, served(simulator.base_url, tmp_path) as process:
        before = await warm(process)
        reader, writer = await download(process, simulator, size)
        with pytest.raises(TimeoutError):
            await simulator.wait_for(lambda sim: sim.requests[-1].sent > IN_SOCKETS, 1.0)
        got = 0
        while got < size:
            got += len(await reader.read(65536))
        assert process.peak() - before < GROWTH
        writer.transport.abort()


class Whole:
    """The extension of our server for a request whose body has come (docs/serve.md)."""

    def __init__(self, headers: list[tuple[bytes, bytes]], content: bytes) -> None:
        self.loop = asyncio.get_running_loop()
        self.headers = headers
        self.fields = dict(headers)
        self.content: bytes | None = content

    def body(self) -> bytes | None:
        content, self.content = self.content, None
        return content

    def watch(self, leaving: Any) -> None: ...

    def write(self, data: bytes) -> bool:
        return False


async def test_an_open_stream_holds_nothing_of_its_requests_body(simulator: Simulator) -> None:
    simulator.scenario = Scenario(fault=faults.stall("events", 3, until="release"))
    content = body(stream=True)
    held = sys.getrefcount(content)
    whole = Whole([JSON], content)
    began = asyncio.Event()

    async def send(message: Any) -> None:
        if message.get("body"):
            began.set()

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "query_string": b"",
        "headers": whole.headers,
        "root_path": "",
    }
    scope |= {"path": MESSAGES, "raw_path": MESSAGES.encode(), "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}
    scope["extensions"] = {"claude_proxy": {"exchange": lambda: whole}}
    async with running_proxy(simulator.base_url) as proxy:
        streaming = asyncio.create_task(proxy.app.forward.serve(scope, asyncio.Event().wait, send, b"/v1/messages"))  # type: ignore[arg-type]
        await began.wait()
        assert sys.getrefcount(content) == held
        simulator.release()
        await streaming
    assert simulator.requests[0].body == content
