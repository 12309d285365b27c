"""Commands of the documents that are run as they stand there, on free ports of loopback, before the simulator."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest
import trustme

from claude_proxy.simulator import Simulator
from tests.deploy.process import Program, free_port, running
from tests.deploy.servers import all_ready
from tests.docs.blocks import ROOT, Command, commands
from tests.docs.kinds import of_kind

pytestmark = pytest.mark.system  # each starts servers with several workers

BIN = Path(sys.executable).parent
ASK = {"model": "x", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
WORKERS = 2  # instead of four: the machine that tests may be small
COUNTS = ("--workers", "-w")
KEY = "sk-from-the-client"


def text(command: Command) -> str:
    return command.text[:70]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the reader has in the working directory: proxy.py, and a certificate where one is named."""
    shutil.copy(ROOT / "proxy.py", tmp_path)
    certificate = trustme.CA().issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    return tmp_path


def environment(folder: Path, **changes: str) -> dict[str, str]:
    """Nothing of ours but the path."""
    return {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT / "src"),
        "DATA_DIR": str(folder / "data"),
        "NO_PROXY": "127.0.0.1,localhost",
        **changes,
    }


def on_port(words: list[str], port: int) -> list[str]:
    """The same words with this port of loopback, and not more workers than a small machine bears."""
    found = list(words)
    for at, (option, value) in enumerate(itertools.pairwise(words), 1):
        if option == "--port":
            found[at] = str(port)
        elif option in COUNTS:
            found[at] = str(min(int(value), WORKERS))
        elif option in ("-b", "--bind"):
            found[at] = f"127.0.0.1:{port}"
        elif option == "--host":
            found[at] = value.replace("0.0.0.0", "127.0.0.1")
    return found


@asynccontextmanager
async def serving(command: Command, folder: Path, simulator: Simulator, port: int) -> AsyncIterator[Program]:
    """Run a server's command. What it names outside the test's reach is put within: port, socket, upstream."""
    given = dict(command.environ)
    if "BIND" in given:
        given["BIND"] = f"unix:{folder}/socket"
    given["BASE_URL"] = simulator.base_url
    words = on_port(command.words, port)
    environ = environment(folder, PORT=str(port), **given)
    async with running([BIN / words[0], *words[1:]], folder, "server", environ=environ, cwd=folder) as program:
        yield program


async def streams(url: str, socket: Path | None = None) -> bool:
    """Whether a Messages stream comes through to its end; False while nobody listens."""
    transport = httpx.AsyncHTTPTransport(verify=False, uds=str(socket) if socket else None)
    try:
        async with httpx.AsyncClient(transport=transport, timeout=20, trust_env=False) as client:
            answer = await client.post(f"{url}/api/anthropic/v1/messages", json=ASK, headers={"x-api-key": KEY})
    except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError):
        return False
    assert answer.status_code == 200, answer.text
    assert "message_stop" in answer.text
    return True


@pytest.mark.parametrize("command", of_kind("server", commands()), ids=text)
async def test_the_server_starts_and_streams(command: Command, folder: Path, simulator: Simulator) -> None:
    port = free_port()
    socket = folder / "socket" if "BIND" in command.environ else None
    url = f"{'https' if '--certfile' in command.words else 'http'}://127.0.0.1:{port}"
    workers = [int(value) for option, value in itertools.pairwise(on_port(command.words, port)) if option in COUNTS]
    async with serving(command, folder, simulator, port) as program:
        await program.until(lambda: all_ready(program, *(workers or [1])))  # one that still starts may miss the end
        await program.until(lambda: streams(url, socket))
        if "::1" in command.environ.get("HOST", ""):
            assert await streams(f"http://[::1]:{port}")
    assert simulator.requests[-1].header("x-api-key") == KEY


async def test_fastapi_run_finds_the_app_without_a_path(folder: Path, simulator: Simulator) -> None:
    """FastAPI's documents write it so; pyproject.toml names the app."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    port = free_port()
    command = Command('fastapi run --host 127.0.0.1 --port 8000 --forwarded-allow-ips="*"')
    async with serving(command, folder, simulator, port) as program:
        await program.until(lambda: streams(f"http://127.0.0.1:{port}"))


@pytest.mark.parametrize("command", of_kind("simulator", commands()), ids=text)
async def test_the_simulator_starts_and_answers(command: Command, folder: Path) -> None:
    port = free_port()
    words = [str(BIN / command.words[0]), *command.words[1:], "--port", str(port)]
    async with running(words, folder, "simulator", environ=environment(folder)) as program:
        await program.until(lambda: streams(f"http://127.0.0.1:{port}"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
@pytest.mark.parametrize("command", of_kind("curl", commands()), ids=text)
async def test_curl_gets_the_answer_that_is_shown(command: Command, folder: Path, simulator: Simulator) -> None:
    """Port 3000 is the proxy, 4000 the simulator; `...` in what is shown stands for anything."""
    port = free_port()
    async with serving(Command("claude-proxy serve"), folder, simulator, port) as program:
        await program.until_listening(port)
        asked = command.text.replace("//localhost:3000", f"//127.0.0.1:{port}").replace("//127.0.0.1:4000", simulator.url[5:])
        assert asked != command.text
        out = await shell(asked, environment(folder, ANTHROPIC_AUTH_TOKEN=KEY))
    shown = "\n".join(command.output)
    assert re.fullmatch(re.escape(shown).replace(re.escape("..."), ".*") if shown else ".*", out, re.DOTALL), out
    if '"stream": true' in command.text:
        assert "event: message_stop" in out
        assert simulator.requests[-1].header("x-api-key") == KEY


@pytest.mark.parametrize("command", of_kind("shell", commands()), ids=text)
async def test_the_shell_takes_it(command: Command, folder: Path) -> None:
    """What fish or PowerShell reads is only printed; what bash reads is read, and nothing in it may fail."""
    before = environment(folder, ANTHROPIC_BASE_URL="http://before")
    inner = re.fullmatch(r'eval "\$\((.*)\)"', command.text)
    printed = await shell(inner[1] if inner else command.text.split(" | ")[0], before)
    if command.text.startswith(("eval ", "export ")):
        after = await shell(f"{command.text}\nenv", before)
    else:
        after = re.sub(r"(set -gx |\$env:)(\w+)(?: = | )'(.*)';", r"\2=\3", printed)
    if command.text.startswith("export "):
        ((name, value),) = re.findall(r"export (\w+)=(\S+)", command.text)
        assert f"\n{name}={value}\n" in after
    elif "--unset" in command.text:
        assert "ANTHROPIC_BASE_URL" not in after
    else:
        assert "ANTHROPIC_BASE_URL=http://127.0.0.1:3000/api/anthropic\n" in after


async def shell(line: str, environ: Mapping[str, str]) -> str:
    """Run a line with bash, which must be content with it; its output."""

    command = ["bash", "-euc", line]
    with anyio.fail_after(60):
        done = await anyio.run_process(command, env=dict(environ), cwd=environ["HOME"], check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout.decode()
