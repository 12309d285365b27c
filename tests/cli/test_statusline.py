"""`statusline`: one line and exit code 0, whatever stands on standard input and whatever the proxy does."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import anyio.to_thread
import pytest

from claude_proxy.cli import statusline as command
from claude_proxy.cli.claude_settings import status_line
from claude_proxy.proxy.target import PREFIX
from claude_proxy.web.statusline import PATH
from tests.cli.conftest import Invoke
from tests.cli.servers import Server, answering, listening, saying
from tests.integration import listeners

SAID = {
    "session_id": "6f1c",
    "model": {"id": "claude-opus-5-5", "display_name": "Opus 5.5"},
    "cost": {"total_cost_usd": 1.5},
    "context_window": {"used_percentage": 42},
}
GIVEN = json.dumps(SAID).encode()
LOCAL = "Opus 5.5 · ~$1.50 · context 42% · "
AWAY = LOCAL + "claude-proxy does not answer\n"
COMMAND = (sys.executable, "-P", "-E", "-m", "claude_proxy", "statusline")


def environment(base_url: str = "", **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "NO_COLOR": "1", "ANTHROPIC_BASE_URL": base_url, **more}


def run(given: bytes = GIVEN, base_url: str = "", **more: str) -> str:
    """Run the command as Claude Code does; what it prints."""
    done = subprocess.run(COMMAND, input=given, env=environment(base_url, **more), capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"\n") == 1
    return done.stdout.decode()


async def run_before(server: Server, given: bytes = GIVEN, **more: str) -> str:
    return await anyio.to_thread.run_sync(lambda: run(given, f"{server.url}{PREFIX}", **more))


async def test_the_proxys_line_is_printed() -> None:
    async with listening(answering("Opus · $1.23\n".encode())) as server:
        assert await run_before(server) == "Opus · $1.23\n"
    (head,) = server.heads
    assert head.startswith(b"POST /api/v1/statusline?color=0 HTTP/1.0\r\n")
    assert f"host: 127.0.0.1:{server.port}\r\n".encode() in head
    assert b"authorization" not in head


async def test_what_stands_on_standard_input_is_sent_as_it_is() -> None:
    got = bytearray()

    async def handler(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        got.extend(await reader.readexactly(int(length[1])))
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nfine\nand more\n")

    async with listening(handler) as server:
        assert await run_before(server, b"\xffnonsense" * 1000) == "fine\n"
    assert got == b"\xffnonsense" * 1000


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"ANTHROPIC_AUTH_TOKEN": "mine"}, {"authorization: Bearer mine"}),
        ({"ANTHROPIC_API_KEY": "mine"}, {"x-api-key: mine"}),
        (
            {"ANTHROPIC_AUTH_TOKEN": "mine", "ANTHROPIC_CUSTOM_HEADERS": "x-other: 1\nX-Api-Key: theirs"},
            {"authorization: Bearer mine", "x-api-key: theirs"},
        ),
        ({"ANTHROPIC_AUTH_TOKEN": "a\nx-evil: 1"}, set()),
        ({}, set()),
    ],
)
async def test_it_shows_what_claude_code_shows(environ: dict[str, str], expected: set[str]) -> None:
    async with listening(answering(b"fine")) as server:
        assert await run_before(server, **environ) == "fine\n"
    lines = set(server.heads[0].decode().split("\r\n"))
    assert {one for one in lines if one.startswith(("authorization", "x-api-key", "x-"))} == expected


@pytest.mark.parametrize(
    ("environ", "query"),
    [
        ({"COLUMNS": "77"}, "?columns=77&color=0"),
        ({"NO_COLOR": ""}, ""),
        ({"COLUMNS": "7 HTTP/1.0\r\nx: y", "NO_COLOR": ""}, ""),
    ],
)
async def test_it_says_how_wide_and_how_colourful_the_line_may_be(environ: dict[str, str], query: str) -> None:
    async with listening(answering(b"fine")) as server:
        await run_before(server, **environ)
    assert server.heads[0].split(b" ")[1].decode() == f"/api/v1/statusline{query}"


def test_the_proxy_is_down() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert run(base_url=f"http://127.0.0.1:{sock.getsockname()[1]}{PREFIX}") == AWAY


BAD_ANSWERS = {
    "not HTTP": b"hello\r\n\r\nthere",
    "nothing": b"",
    "half a head": b"HTTP/1.0 200 OK\r\nx: y",
    "no status": b"HTTP/1.0\r\n\r\nline",
    "another status": b"HTTP/1.0 what OK\r\n\r\nline",
    "an empty line": b"HTTP/1.0 200 OK\r\n\r\n",
}


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
async def test_something_else_answers(answer: bytes) -> None:
    async with listening(saying(answer)) as server:
        assert await run_before(server) == AWAY


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("401 Unauthorized", "claude-proxy asks for a key"),
        ("404 Not Found", "claude-proxy has no status line"),
        ("503 Service Unavailable", "claude-proxy answers 503"),
        ("302 Found", "claude-proxy answers 302"),
    ],
)
async def test_the_proxy_refuses(status: str, words: str) -> None:
    async with listening(answering(b"no", status, "location: http://evil.example/\r\n")) as server:
        assert await run_before(server) == f"{LOCAL}{words}\n"


async def dripping(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"H")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("handler", [listeners.silent, dripping])
async def test_the_proxy_is_slow(handler: listeners.Handler) -> None:
    async with listeners.listening(handler) as server:
        start = time.monotonic()
        assert await run_before(Server(server.port)) == AWAY
        took = time.monotonic() - start
    assert took < 3, "0.18 s and the start of Python, on a machine that others use too"


OTHERS = ["", "https://api.anthropic.com", "http://127.0.0.1:9", f"ftp://x{PREFIX}", f"http://x{PREFIX}/v1", PREFIX]


@pytest.mark.parametrize("base_url", OTHERS)
def test_something_else_is_neither_asked_nor_shown_a_credential(base_url: str) -> None:
    line = run(base_url=base_url, ANTHROPIC_AUTH_TOKEN="mine")
    assert line == f"{LOCAL}ANTHROPIC_BASE_URL names no claude-proxy\n"


NO_ADDRESSES = ["http://[::1", "http://127.0.0.1:port", "http://127.0.0.1:99999", "http://", "http://:1", "http://127.0.0.1:-1"]


@pytest.mark.parametrize("base_url", NO_ADDRESSES)
def test_an_address_that_is_none(base_url: str) -> None:
    assert run(base_url=base_url + PREFIX) == AWAY


NONSENSE = [b"", b"words", b"[1]", b"\x00" * 1_000_000, b'{"model": {"display_name": "\\u001b[2J"}}', b"{" * 100_000]


@pytest.mark.parametrize("given", NONSENSE)
def test_nonsense_on_standard_input(given: bytes) -> None:
    assert run(given).endswith("ANTHROPIC_BASE_URL names no claude-proxy\n")


def test_a_narrow_terminal() -> None:
    assert run(COLUMNS="60") == "~$1.50 · ANTHROPIC_BASE_URL names no claude-proxy\n"
    assert run(COLUMNS="30") == "ANTHROPIC_BASE_URL names …\n"


def test_colours_unless_they_are_not_wanted() -> None:
    assert "\x1b[1mOpus 5.5\x1b[0m" in run(NO_COLOR="")
    assert "\x1b" not in run(NO_COLOR="1")


def test_standard_input_that_never_ends() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"{")
    start = time.monotonic()
    try:
        done = subprocess.run(COMMAND, env=environment(), stdin=reading, capture_output=True, timeout=30, check=False)
    finally:
        os.close(reading)
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == "claude-proxy · claude-proxy does not answer\n"
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full"])
def test_streams_that_are_closed(closed: str) -> None:
    words = ["/bin/sh", "-c", f"{shlex.join(COMMAND)} {closed}"]
    done = subprocess.run(words, env=environment(), input=b"", capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_it_knows_the_routes_place() -> None:
    assert (command.PREFIX, command.PATH) == (PREFIX, PATH)


@pytest.mark.parametrize(
    ("base_url", "found"),
    [
        ("http://127.0.0.1:3000/api/anthropic", ("http", "127.0.0.1", 3000, "/api/v1/statusline")),
        ("http://localhost/api/anthropic/", ("http", "localhost", 80, "/api/v1/statusline")),
        ("https://proxy.example/claude/api/anthropic", ("https", "proxy.example", 443, "/claude/api/v1/statusline")),
        ("http://[::1]:3000/api/anthropic", ("http", "::1", 3000, "/api/v1/statusline")),
        ("https://user:word@proxy.example:8443/api/anthropic", ("https", "proxy.example", 8443, "/api/v1/statusline")),
    ],
)
def test_the_address_follows_from_the_clients(base_url: str, found: tuple[str, str, int, str]) -> None:
    assert command.place(base_url) == found


def test_it_loads_neither_typer_nor_the_settings() -> None:
    """It runs every two seconds beside each Claude Code."""
    program = "import sys; sys.argv[1:] = ['statusline']; from claude_proxy.cli import main; main(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), input=b"", capture_output=True, text=False, timeout=30, check=True
    )
    loaded = set(done.stdout.decode().splitlines()[-1].split())
    assert "claude_proxy.protocol.status_line" in loaded
    assert not loaded & {"typer", "pydantic", "msgspec", "asyncio", "http.client", "ssl", "claude_proxy.settings", "sqlalchemy"}


def test_it_is_a_command_like_the_others(invoke: Invoke) -> None:
    assert "ANTHROPIC_BASE_URL" in invoke("statusline", "--help").stdout


def test_the_command_that_claude_code_gets_runs_nothing_of_the_folder_it_stands_in(home: Path) -> None:
    checkout, ran = home / "checkout", home / "ran"
    checkout.mkdir()
    for name in ("sitecustomize", "usercustomize", "claude_proxy", "json", "socket", "threading"):
        (checkout / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write({name!r})\n")
    line = status_line({"HOME": str(home)}, checkout)["statusLine"]["command"]
    done = subprocess.run(
        ["/bin/sh", "-c", line], cwd=checkout, env=environment(PYTHONPATH=":", PYTHONSTARTUP="sitecustomize.py"),
        input=GIVEN, capture_output=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stdout.decode().startswith("Opus 5.5")
    assert not ran.exists(), ran.read_text()
