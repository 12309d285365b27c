"""`claude-proxy simulate` as a process."""

import asyncio
import json
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from claude_proxy.simulator import PRESETS
from tests.simulator.talk import HELLO

pytestmark = pytest.mark.system  # each starts processes of its own

COMMAND = (sys.executable, "-c", "from claude_proxy.cli import main; main()", "simulate")


@asynccontextmanager
async def running(*options: str) -> AsyncIterator[Process]:
    """The command as a process, gone at the end."""
    process = await asyncio.create_subprocess_exec(*COMMAND, *options, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def output(*options: str) -> tuple[int | None, str, str]:
    """Exit code, output and errors of a command that ends by itself."""
    async with running(*options) as process:
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()


async def line(process: Process) -> str:
    """The next line of its output."""
    assert process.stdout is not None
    async with asyncio.timeout(20):
        return (await process.stdout.readline()).decode()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
async def test_it_tells_each_request_in_a_line_and_ends_on_a_signal(sign: signal.Signals) -> None:
    async with running("--port", "0", "--json", "--key", "right") as process, httpx.AsyncClient() as client:
        base = json.loads(await line(process))["base_url"]
        headers = {"x-api-key": "right", "x-simulate": "zai-1302"}
        answer = await client.post(f"{base}/v1/messages?key=right", json=HELLO, headers=headers)
        told = await line(process)
        fact = json.loads(told)
        refused = await client.post(f"{base}/v1/messages", json=HELLO, headers={"x-api-key": "wrong"})
        process.send_signal(sign)
        rest, errors = await process.communicate()
    assert (answer.status_code, refused.status_code) == (429, 401)
    assert (fact["path"], fact["status"], fact["outcome"], fact["model"]) == (
        "/api/anthropic/v1/messages",
        429,
        "answered",
        "glm-5.3",
    )
    assert "right" not in told
    assert (process.returncode, errors) == (0, b"")
    assert json.loads(rest)["status"] == 401


async def test_it_prints_for_people_too() -> None:
    async with running("--port", "0") as process, httpx.AsyncClient() as client:
        first = await line(process)
        base = next(word for word in first.split() if word.startswith("http"))
        assert f"BASE_URL={base}" in await line(process)
        await client.post(f"{base}/v1/messages", json=HELLO | {"stream": True})
        told = await line(process)
    assert "POST /api/anthropic/v1/messages  200 answered  glm-5.3 stream" in told
    assert " in, " in told


async def test_a_cut_and_a_client_that_left_are_told(tmp_path: Path) -> None:
    script = tmp_path / "cut.yaml"
    script.write_text("rules: [{match: {nth: 1}, answer: cut-head}]\ndefault: stall\n")
    async with running("--port", "0", "--script", str(script), "--json") as process, httpx.AsyncClient() as client:
        url = json.loads(await line(process))["url"]
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(f"{url}/v1/messages", json=HELLO)
        assert json.loads(await line(process))["outcome"] == "cut"
        parts = urlsplit(url)
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(b"POST /v1/messages HTTP/1.1\r\nHost: s\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.transport.abort()
        left = json.loads(await line(process))
    assert left["outcome"] == "client-left"


async def test_the_list_names_all_scenarios() -> None:
    code, plain, _ = await output("--list")
    assert code == 0
    assert [row.split()[0] for row in plain.splitlines()] == list(PRESETS)
    _, as_json, _ = await output("--list", "--json")
    assert json.loads(as_json)["cut"] == PRESETS["cut"].description


async def test_a_mistake_in_the_script_is_one_sentence(tmp_path: Path) -> None:
    script = tmp_path / "bad.yaml"
    script.write_text("rules: [{answer: nope}]")
    code, out, err = await output("--script", str(script), "--port", "0")
    assert (code, out) == (2, "")
    assert err.startswith(f"{script}: rule 1: there is no scenario 'nope'")
    assert len(err.splitlines()) == 1


async def test_a_taken_port_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, out, err = await output("--port", str(port))
    assert (code, out) == (1, "")
    assert err == f"Port {port} on 127.0.0.1 is taken: stop what listens there, or choose another with --port.\n"


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("203.0.113.1", "No interface of this machine has the address 203.0.113.1: choose another with --host.\n"),
        ("no such host", "no such host is neither an address nor a name that resolves here ("),
        ("a" * 64, f"{'a' * 64} is neither an address nor a name that resolves here (no valid name): choose another with --host"),
    ],
)
async def test_a_host_that_cannot_be_listened_on_is_one_sentence(host: str, said: str) -> None:
    code, out, err = await output("--host", host, "--port", "0")
    assert (code, out) == (1, "")
    assert err.startswith(said)
    assert "Errno" not in err
    assert len(err.splitlines()) == 1
