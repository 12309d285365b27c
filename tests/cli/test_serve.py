"""`serve`: what the command line says reaches the app and its server."""

from __future__ import annotations

import json
import os
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

from claude_proxy.cli.serving import hand_down, read_settings, start
from claude_proxy.simulator import Simulator
from tests.cli.conftest import Program, process_environ

pytestmark = pytest.mark.system  # each starts processes of its own

PROXY_PY = """
from claude_proxy.app import create_app

BASE_URL = "https://constant.example/api"
app = create_app(default_base_url=BASE_URL, beside=__file__)
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


def test_an_option_goes_before_environment_and_file(own_file: Path) -> None:
    own_file.write_text('base_url = "https://file.example"\nlog_format = "json"\n', encoding="utf-8")
    with serving("--base-url", "https://option.example", environ={"BASE_URL": "https://env.example"}) as lines:
        assert lines["ready"]["upstream"] == "https://option.example"


@pytest.fixture
def named(home: Path) -> Path:
    """A proxy.py in a folder of its own."""
    file = home / "named" / "proxy.py"
    file.parent.mkdir()
    file.write_text(PROXY_PY, encoding="utf-8")
    return file


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_named_proxy_py_is_what_runs(named: Path, workers: str) -> None:
    with serving("--app", str(named), "--workers", workers) as lines:
        assert get(lines, "/")["upstreams"] == [{"name": "default", "base_url": "https://constant.example/api"}]


def test_the_file_beside_a_link_is_the_one_where_the_link_is(home: Path, named: Path) -> None:
    """As a Kubernetes volume has them."""
    (home / "mounted").mkdir()
    (home / "mounted/proxy.py").symlink_to(named)
    (home / "mounted/claude-proxy.toml").write_text('base_url = "https://beside.example"\n')
    with serving("--app", "mounted/proxy.py") as lines:
        assert lines["ready"]["upstream"] == "https://beside.example"


def test_a_proxy_py_may_be_named_by_a_relative_path(named: Path) -> None:
    with serving("--app", "named/proxy.py") as lines:
        assert lines["ready"]["upstream"] == "https://constant.example/api"


def test_the_file_beside_a_named_proxy_py_reaches_server_and_app(named: Path) -> None:
    (named.parent / "claude-proxy.toml").write_text('base_url = "https://beside.example"\nweb_concurrency = 2\n')
    with serving("--app", str(named)) as lines:
        assert get(lines, "/")["upstreams"] == [{"name": "default", "base_url": "https://beside.example"}]
        assert lines["listening"]["workers"] == 2


def test_one_that_does_not_say_where_it_is_reads_the_same_file_as_its_server(named: Path) -> None:
    named.write_text(PROXY_PY.replace(", beside=__file__", ""))
    (named.parent / "claude-proxy.toml").write_text('base_url = "https://beside.example"\n')
    with serving("--app", str(named)) as lines:
        assert lines["ready"]["upstream"] == "https://beside.example"


@pytest.mark.parametrize("name", ["proxy.py", "claude-proxy.toml"])
def test_what_lies_in_the_working_directory_is_not_run_and_not_read_but_pointed_out(home: Path, name: str) -> None:
    (home / "proxy.py").write_text("import claude_proxy\nraise SystemExit('it was run')\n")
    (home / "claude-proxy.toml").write_text("nonsense = 1\n")
    (home / ({"proxy.py", "claude-proxy.toml"} - {name}).pop()).unlink()
    with serving() as lines:
        assert lines["ready"]["upstream"] == "https://api.z.ai/api/anthropic"
        assert f"{name} " in lines["option"]["note"]
        assert "not re" in lines["option"]["note"] or "not run" in lines["option"]["note"]


def test_a_file_that_is_not_read_is_told_once_for_all_workers(home: Path) -> None:
    (home / "claude-proxy.toml").write_text("nonsense = 1\n")
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "claude_proxy", "serve", "--port", "0", "--workers", "2"],
        env=process_environ({"LOG_LEVEL": "debug"}),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        seen: list[str] = []
        while sum('"worker_ready"' in line for line in seen) < 2:
            seen.append(process.stderr.readline())
            assert seen[-1], seen
        process.send_signal(signal.SIGTERM)
        seen += process.stderr.readlines()
        assert process.wait(30) == 0
    assert sum("is not read" in line for line in seen) == 1


def test_another_app_can_be_named_that_lies_beside_the_named_file(named: Path) -> None:
    """The image names its proxy.py on the command line, and the documents' APP_MODULE goes on working."""
    (named.parent / "mine.py").write_text(PROXY_PY.replace("constant", "mine").replace("app =", "other ="), encoding="utf-8")
    with serving("--app", str(named), environ={"APP_MODULE": "mine:other"}) as lines:
        assert lines["ready"]["upstream"] == "https://mine.example/api"
        assert "mine:other, which runs instead of" in lines["option"]["note"]


def test_another_app_is_not_looked_for_in_the_working_directory(home: Path, program: Program) -> None:
    (home / "mine.py").write_text("raise SystemExit('it was run')\n", encoding="utf-8")
    done = program("serve", "--port", "0", environ={"APP_MODULE": "mine:app"})
    assert done.returncode == 1
    assert "it was run" not in done.stderr
    assert "The app mine:app cannot be loaded" in done.stderr


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("application = 1\n", 2, "expected a file that defines `app`"),
        ("app = \n", 1, "The app failed to load; the log above says where."),
        ("raise RuntimeError('on purpose')\n", 1, "The app failed to load; the log above says where."),
    ],
)
def test_a_named_file_that_cannot_be_loaded_is_a_sentence(named: Path, program: Program, text: str, code: int, said: str) -> None:
    named.write_text(text)
    done = program("serve", "--port", "0", "--app", str(named))
    assert done.returncode == code
    assert said in done.stderr.splitlines()[-1]


def test_a_named_file_that_is_missing_is_a_usage_error(program: Program) -> None:
    done = program("serve", "--app", "gone/proxy.py")
    assert done.returncode == 2
    assert "gone/proxy.py" in done.stderr


def test_an_upstream_in_the_file_is_what_is_served(home: Path) -> None:
    file = home / "other.toml"
    file.write_text(
        '[[upstream]]\nname = "work"\nbase_url = "https://work.example/api"\n'
        '[[upstream.account]]\nname = "mine"\nkey_env = "WORK_KEY"\n'
    )
    with serving("--config", "other.toml", "--workers", "2", environ={"WORK_KEY": "sk-1"}) as lines:
        assert get(lines, "/")["upstreams"] == [{"name": "work", "base_url": "https://work.example/api"}]


def test_a_named_file_reaches_every_worker(home: Path) -> None:
    (home / "other.toml").write_text('base_url = "https://file.example"\nhost = "127.0.0.1"\n', encoding="utf-8")
    with serving("--config", "other.toml", "--workers", "2") as lines:
        assert lines["listening"]["workers"] == 2
        assert get(lines, "/")["upstreams"] == [{"name": "default", "base_url": "https://file.example"}]


def test_the_files_host_and_port_reach_the_server(own_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_file.write_text('host = "127.0.0.2"\ngraceful_timeout = 3\n', encoding="utf-8")
    told: list[Any] = []
    monkeypatch.setattr("claude_proxy.server.run", lambda options, app, factory: told.append((options, app, factory)) or 0)
    monkeypatch.setattr("claude_proxy.logs.configure", lambda *_: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(os, "environ", {**os.environ, "PORT": "3055"})  # hand_down writes into it
    assert start(None, None, {"port": 3056, "web_concurrency": 2}) == 0
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


def test_an_address_on_the_command_line_goes_before_bind_for_the_app_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"BIND": "127.0.0.2:8080"})
    given = {"port": 9}
    hand_down(read_settings(**given), given)
    assert os.environ == {"HOST": "127.0.0.2", "PORT": "9"}


def test_a_socket_in_the_environment_goes_before_the_files_port(home: Path, own_file: Path) -> None:
    own_file.write_text("port = 3055\n", encoding="utf-8")
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
