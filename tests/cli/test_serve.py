"""`serve`: what the command line says reaches the app and its server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from claude_proxy.cli import serve as serve_module
from claude_proxy.cli.serve import is_from_environ
from claude_proxy.simulator import Simulator
from tests.cli.conftest import Program, process_environ

PROXY_PY = """
from claude_proxy.app import create_app

BASE_URL = "https://constant.example/api"
app = create_app(default_base_url=BASE_URL)
"""
Lines = dict[str, dict[str, Any]]


@contextmanager
def serving(*options: str, environ: Mapping[str, str] | None = None) -> Iterator[Lines]:
    """Run `serve` on a free port; give its log lines up to `listening`, by event. It must end well."""
    with subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "claude_proxy",
            "serve",
            "--port",
            "0",
            *options,
        ],  # -P: as a console script has it
        env=process_environ(environ),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            yield dict(until_listening(process.stderr))
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
            assert process.wait(30) == 0, rest


def until_listening(lines: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for text in lines:
        assert text.startswith("{"), text + lines.read()
        line = json.loads(text)
        yield line["event"], line
        if line["event"] == "listening":
            return
    raise AssertionError("it never listened")


def get(lines: Lines, path: str) -> Any:
    with urllib.request.urlopen(lines["listening"]["on"][0] + path) as answer:
        return json.load(answer)


def test_it_listens_answers_and_ends_with_0_on_sigterm() -> None:
    with serving() as lines:
        assert lines["listening"]["on"][0].startswith("http://127.0.0.1:")
        assert lines["ready"]["upstream"] == "https://api.z.ai/api/anthropic"
        assert get(lines, "/health")["status"] == "ok"


def test_an_option_goes_before_environment_and_file(home: Path) -> None:
    (home / "claude-proxy.toml").write_text('base_url = "https://file.example"\nlog_format = "json"\n', encoding="utf-8")
    with serving("--base-url", "https://option.example", environ={"BASE_URL": "https://env.example"}) as lines:
        assert lines["ready"]["upstream"] == "https://option.example"


def test_the_proxy_py_here_is_what_runs(home: Path) -> None:
    (home / "proxy.py").write_text(PROXY_PY + "app.state.mine = True\nprint('proxy.py was run', flush=True)\n", encoding="utf-8")
    with serving() as lines:
        assert lines["ready"]["upstream"] == "https://constant.example/api"


def test_another_app_can_be_named(home: Path) -> None:
    (home / "mine.py").write_text(PROXY_PY.replace("constant", "mine").replace("app =", "other ="), encoding="utf-8")
    with serving(environ={"APP_MODULE": "mine:other"}) as lines:
        assert lines["ready"]["upstream"] == "https://mine.example/api"


def test_a_named_file_reaches_every_worker(home: Path) -> None:
    (home / "other.toml").write_text('base_url = "https://file.example"\nhost = "127.0.0.1"\n', encoding="utf-8")
    with serving("--config", "other.toml", "--workers", "2") as lines:
        assert lines["listening"]["workers"] == 2
        assert get(lines, "/")["upstreams"] == [{"name": "default", "base_url": "https://file.example"}]


def test_the_files_host_and_port_reach_the_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "claude-proxy.toml").write_text('host = "127.0.0.2"\ngraceful_timeout = 3\n', encoding="utf-8")
    told: list[Any] = []
    monkeypatch.setattr("claude_proxy.server.run", lambda options, app, factory: told.append((options, app, factory)) or 0)
    monkeypatch.setattr("claude_proxy.logs.configure", lambda *_: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PORT", "3055")  # hand_down writes into the environment: have it restored
    assert serve_module.start(None, 2, {"port": 3056}) == 0
    ((options, app, factory),) = told
    assert (options.hosts, options.port, options.workers, options.graceful_timeout) == (("127.0.0.2",), 3056, 2, 3.0)
    assert (app, factory) == ("claude_proxy.app:create_app", True)


def test_the_level_trace_counts_as_debug() -> None:
    with serving(environ={"LOG_LEVEL": "trace"}) as lines:
        assert get(lines, "/health")["status"] == "ok"


async def test_the_level_critical_stops_no_start(program: Program) -> None:
    """It hides `listening`, so the start is seen by what it stumbles over: a port that is taken."""
    async with Simulator() as other:
        environ = {"LOG_LEVEL": "critical"}
        done = await anyio.to_thread.run_sync(lambda: program("serve", "--port", str(other.port), environ=environ))
    assert (done.returncode, "LOG_LEVEL" in done.stderr) == (1, False)
    assert str(other.port) in done.stderr


@pytest.mark.parametrize(
    ("environ", "warned"),
    [
        ({"UPSTREAM_API_KEY": "k"}, True),
        ({"UPSTREAM_API_KEY": "k", "PROXY_API_KEY": "p"}, False),
        ({"UPSTREAM_API_KEY": "k", "FORWARDED_ALLOW_IPS": "10.0.0.1"}, False),
        ({}, False),
    ],
)
def test_trusting_every_peer_with_a_held_credential_alone_earns_a_warning(environ: dict[str, str], warned: bool) -> None:
    with serving(environ={"FORWARDED_ALLOW_IPS": "*", **environ}) as lines:
        assert ("FORWARDED_ALLOW_IPS=*" in lines.get("option", {}).get("note", "")) is warned


def test_a_socket_in_the_environment_goes_before_the_files_port(home: Path) -> None:
    (home / "claude-proxy.toml").write_text("port = 3055\n", encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "claude_proxy", "serve"],
        env=process_environ({"BIND": f"unix:{home}/s", "LOG_FORMAT": "json"}),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        lines = dict(until_listening(process.stderr))
        process.send_signal(signal.SIGTERM)
        assert (lines["listening"]["on"], process.wait(30)) == ([f"unix:{home}/s"], 0)


async def test_a_port_that_is_taken_is_a_sentence(program: Program) -> None:
    async with Simulator() as other:
        done = await anyio.to_thread.run_sync(lambda: program("serve", "--port", str(other.port)))
    assert done.returncode == 1
    assert str(other.port) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"WEB_CONCURRENCY": "many"}, "WEB_CONCURRENCY=many"),
        ({"BASE_URL": "z.ai"}, "BASE_URL=z.ai (env BASE_URL)"),
        ({"UPSTREAM_CA_FILE": __file__}, f"UPSTREAM_CA_FILE={__file__} (env UPSTREAM_CA_FILE)"),
        ({"HTTPS_PROXY": "socks5://x:1", "WEB_CONCURRENCY": "2"}, "HTTPS_PROXY=socks5://x:1"),
    ],
)
def test_a_bad_option_is_a_sentence_and_2(program: Program, environ: dict[str, str], said: str) -> None:
    done = program("serve", environ=environ)
    assert done.returncode == 2
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("source", "expected"), [("default", True), ("env PORT", True), ("command line", False), ("x.toml", False)]
)
def test_what_the_server_finds_itself_is_left_to_it(source: str, expected: bool) -> None:
    assert is_from_environ(source) is expected
