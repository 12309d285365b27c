"""`code`: Claude Code runs with the right environment, and as itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from claude_proxy.cli import companion
from tests.cli.conftest import Invoke, Program, process_environ
from tests.cli.servers import HEALTHY, Server, answering, listening

pytestmark = pytest.mark.system  # each starts processes of its own

CLAUDE = f"""#!{sys.executable}
import json, os, pathlib, signal, sys, urllib.request
seen = {{"args": sys.argv[1:], "pid": os.getpid(), "env": {{k: v for k, v in os.environ.items() if "_" in k}}}}
seen["sigint"] = signal.getsignal(signal.SIGINT) is signal.default_int_handler
if "--ask" in sys.argv:
    with urllib.request.urlopen(os.environ["ANTHROPIC_BASE_URL"].removesuffix("/api/anthropic") + "/health") as answer:
        seen["health"] = json.load(answer)
pathlib.Path("seen.json").write_text(json.dumps(seen))
if "--wait" in sys.argv:
    print("waiting", flush=True)
    signal.pause()
sys.exit(int(os.environ.get("CLAUDE_EXIT", "0")))
"""


@pytest.fixture
def claude(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program named claude on the PATH that writes down how it was called."""
    folder = home / "bin"
    folder.mkdir()
    file = folder / "claude"
    file.write_text(CLAUDE, encoding="utf-8")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "mine")
    return file


def seen() -> Any:
    return json.loads(Path("seen.json").read_text(encoding="utf-8"))


def was_called() -> bool:
    return Path("seen.json").exists()


async def run(program: Program, server: Server, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return await anyio.to_thread.run_sync(lambda: program("code", *words, environ={"PORT": str(server.port), **environ}))


async def test_claude_gets_the_environment_and_its_arguments(claude: Path, program: Program) -> None:
    async with listening(answering(HEALTHY)) as server:
        done = await run(program, server, "-p", "hi there", "--model", "opus", "--config", "x")
    assert (done.returncode, done.stderr) == (0, "")
    assert seen()["args"][2:] == ["-p", "hi there", "--model", "opus", "--config", "x"]
    assert seen()["env"]["ANTHROPIC_BASE_URL"] == f"{server.url}/api/anthropic"
    assert seen()["env"]["ANTHROPIC_AUTH_TOKEN"] == "mine"


async def test_a_double_dash_ends_our_options(claude: Path, program: Program) -> None:
    async with listening(answering(HEALTHY)) as server:
        await run(program, server, "--models", "none", "--no-statusline", "--", "--models", "x", "--help")
    assert seen()["args"] == ["--models", "x", "--help"]
    assert "ANTHROPIC_DEFAULT_OPUS_MODEL" not in seen()["env"]


async def test_claude_is_told_what_its_glm_models_resemble(claude: Path, program: Program) -> None:
    async with listening(answering(HEALTHY)) as server:
        await run(program, server)
    option, settings = seen()["args"]
    assert option == "--settings"
    assert [row["model"] for row in json.loads(settings)["modelPicker"]["options"]] == ["glm-5.3", "glm-5.3-flash"]


@pytest.mark.parametrize("own", [["--settings", "{}"], ["--settings={}"], ["-p", "hi", "--settings", "mine.json"]])
async def test_settings_that_the_user_gives_stay_the_only_ones(claude: Path, program: Program, own: list[str]) -> None:
    async with listening(answering(HEALTHY)) as server:
        await run(program, server, "--", *own)
    assert seen()["args"] == own


async def test_other_models_need_no_settings(claude: Path, program: Program) -> None:
    async with listening(answering(HEALTHY)) as server:
        await run(program, server, "--no-statusline", "-p", "hi", BASE_URL="https://api.anthropic.com")
    assert seen()["args"] == ["-p", "hi"]


async def test_claude_gets_a_status_line(claude: Path, program: Program) -> None:
    async with listening(answering(HEALTHY)) as server:
        await run(program, server, BASE_URL="https://api.anthropic.com")
    option, settings = seen()["args"]
    assert option == "--settings"
    assert json.loads(settings)["statusLine"]["command"].endswith("-m claude_proxy statusline")


@pytest.mark.parametrize("file", [".claude/settings.json", ".claude/settings.local.json"])
async def test_a_status_line_of_the_users_own_is_left_in_force(claude: Path, program: Program, home: Path, file: str) -> None:
    (home / ".claude").mkdir()
    (home / file).write_text('{"statusLine": {"type": "command", "command": "mine"}}', encoding="utf-8")
    async with listening(answering(HEALTHY)) as server:
        await run(program, server, "-p", "hi", BASE_URL="https://api.anthropic.com")
    assert seen()["args"] == ["-p", "hi"]


async def test_the_exit_code_is_claudes(claude: Path, program: Program) -> None:
    async with listening(answering(HEALTHY)) as server:
        done = await run(program, server, CLAUDE_EXIT="7")
    assert done.returncode == 7


async def test_claude_takes_the_place_of_our_process(claude: Path) -> None:
    async with listening(answering(HEALTHY)) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "claude_proxy", "code", "--wait"),
            env=process_environ({"PORT": str(server.port)}),
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"waiting\n"
        assert seen()["pid"] == process.pid
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == -signal.SIGTERM


def test_without_claude_it_says_how_to_install_it(invoke: Invoke, home: Path) -> None:
    result = invoke("code", PATH=str(home))
    assert result.exit_code == 127
    assert "npm install -g @anthropic-ai/claude-code" in result.stderr


def test_without_a_proxy_it_says_how_to_start_one(invoke: Invoke, claude: Path) -> None:
    with free_port() as port:
        result = invoke("code", "-p", "hi", PORT=str(port))
    assert result.exit_code == 1
    assert f"No proxy answers at http://127.0.0.1:{port}: connection refused." in result.stderr
    assert "claude-proxy serve" in result.stderr
    assert not was_called()


@contextlib.contextmanager
def free_port() -> Iterator[int]:
    """A port that nobody listens on; bound here meanwhile, so that only one who means it gets it."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        yield int(sock.getsockname()[1])


@pytest.mark.parametrize("options", [[], ["--start"]])
async def test_another_program_on_the_port_is_not_taken_for_the_proxy(claude: Path, program: Program, options: list[str]) -> None:
    async with listening(answering(b"hello", headers="server: other\r\n")) as server:
        done = await run(program, server, *options)
    assert done.returncode == 1
    assert "another program answers there (server: other)" in done.stderr
    assert not was_called()


async def test_a_settings_file_that_goes_before_us_is_noticed(claude: Path, program: Program, home: Path) -> None:
    (home / ".claude").mkdir()
    (home / ".claude" / "settings.json").write_text('{"env": {"ANTHROPIC_BASE_URL": "https://else.example"}}', encoding="utf-8")
    async with listening(answering(HEALTHY)) as server:
        done = await run(program, server)
    assert done.returncode == 0
    assert f"{home}/.claude/settings.json sets ANTHROPIC_BASE_URL to https://else.example" in done.stderr


async def test_a_missing_credential_is_noticed(claude: Path, program: Program) -> None:
    async with listening(answering(HEALTHY)) as server:
        done = await run(program, server, ANTHROPIC_AUTH_TOKEN="")
    assert done.returncode == 0
    assert "No credential for api.z.ai is set" in done.stderr


def test_start_runs_a_proxy_for_as_long_as_claude_runs(claude: Path, program: Program) -> None:
    with free_port() as port:
        done = program("code", "--start", "--ask", environ={"PORT": str(port), "CLAUDE_EXIT": "3"})
    assert done.returncode == 3, done.stderr
    assert seen()["health"]["status"] == "ok"
    assert seen()["sigint"], "Ctrl-C must be claude's own"
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", port)) != 0, "the proxy is still there"


def test_the_proxy_beside_claude_hears_no_ctrl_c_and_ends_gently(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with free_port() as port, (home / "log").open("w+", encoding="utf-8") as log:
        monkeypatch.setenv("PORT", str(port))
        monkeypatch.setenv("PYTHONPATH", process_environ()["PYTHONPATH"])
        with companion.proxy(None, log) as process:
            assert companion.answers(process, f"http://127.0.0.1:{port}")
            assert os.getsid(process.pid) == process.pid, "Ctrl-C goes to a whole session"
    assert process.returncode == 0


def test_start_says_why_the_proxy_did_not_start(claude: Path, program: Program, home: Path) -> None:
    (home / "proxy.py").write_text("import claude_proxy\nraise RuntimeError('broken on purpose')\n", encoding="utf-8")
    with free_port() as port:
        done = program("code", "--start", "--app", "proxy.py", environ={"PORT": str(port)})
    assert done.returncode == 1
    assert "The proxy did not start:" in done.stderr
    assert not was_called()


def test_start_does_not_go_with_a_proxy_elsewhere(invoke: Invoke) -> None:
    result = invoke("code", "--start", "--url", "http://proxy.lan:3000")
    assert result.exit_code == 2


def test_a_signal_that_ends_claude_is_told_as_shells_do(claude: Path) -> None:
    with (
        free_port() as port,
        subprocess.Popen(
            [sys.executable, "-m", "claude_proxy", "code", "--start", "--wait"],
            env=process_environ({"PORT": str(port)}),
            stdout=subprocess.PIPE,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == b"waiting\n"
        process.send_signal(signal.SIGTERM)  # passed on to claude
        assert process.wait(30) == 128 + signal.SIGTERM
