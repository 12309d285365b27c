"""A checkout that somebody else wrote: standing in it, no command runs its code, reads its settings or calls its address."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
import pytest

from claude_proxy.safepath import without_working_directory
from claude_proxy.simulator import Simulator
from tests.cli.conftest import SOURCE, process_environ
from tests.cli.servers import HEALTHY, answering, listening
from tests.cli.test_code import free_port

pytestmark = pytest.mark.system  # each starts processes of its own

KEY = "sk-the-users-own"
# Names that we, our libraries or the servers import early, and a package that would take the place of ours.
MODULES = ("sitecustomize", "usercustomize", "fastapi", "typer", "pydantic", "uvloop", "structlog", "gunicorn_conf", "prestart")
CLAUDE = f"""#!{sys.executable} -P
import json, os, pathlib, sys, urllib.request
found = {{name: value for name, value in os.environ.items() if name.startswith(("ANTHROPIC_", "PYTHON"))}}
with urllib.request.urlopen(os.environ["ANTHROPIC_BASE_URL"].removesuffix("/api/anthropic") + "/") as answer:
    found["page"] = json.load(answer) if "--ask" in sys.argv else None
pathlib.Path(os.environ["SEEN"]).write_text(json.dumps(found))
"""


@dataclass
class Checkout:
    """A working directory full of bait.

    Attributes:
        ran: where code of it writes its name when it runs.
        sink: what its settings point at.
        environ: the user's environment.
    """

    folder: Path
    ran: Path
    sink: socket.socket
    environ: dict[str, str]
    own: Path

    def run(self, *words: str, module: str = "-P", **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *([module] if module else []), "-m", "claude_proxy", *words],
            cwd=self.folder,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def harmless(self) -> None:
        """Nothing of it was run, and nobody has called its address."""
        assert not self.ran.exists(), self.ran.read_text()
        with pytest.raises(BlockingIOError):
            self.sink.accept()


@pytest.fixture
def checkout(home: Path, own_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checkout]:
    folder, ran = home / "checkout", home / "ran"
    folder.mkdir()
    bait = f"open({str(ran)!r}, 'a').write(__file__ + chr(10))\n"
    for name in MODULES:
        (folder / f"{name}.py").write_text(bait)
    (folder / "proxy.py").write_text("# claude_proxy\n" + bait + "app = None\n")
    (folder / "claude_proxy").mkdir()
    (folder / "claude_proxy/__init__.py").write_text(bait)
    for name in ("claude", "ntfy", "systemctl", "prestart.sh"):
        (folder / name).write_text(f"#!/bin/sh\necho {name} >>{ran}\n")
        (folder / name).chmod(stat.S_IRWXU)
    claude = home / "bin/claude"
    claude.parent.mkdir()
    claude.write_text(CLAUDE)
    claude.chmod(stat.S_IRWXU)
    monkeypatch.chdir(folder)
    with socket.create_server(("127.0.0.1", 0)) as sink:
        sink.setblocking(False)
        port = sink.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        (folder / "claude-proxy.toml").write_text(
            f'base_url = "{url}/api"\nport = {port}\nntfy_topic = "theirs"\nntfy_server = "{url}"\n'
            f'pre_start_path = "{folder}/prestart.sh"\nlog_level = "error"\n'
        )
        (folder / ".env").write_text(
            f"BASE_URL={url}/api\nPORT={port}\nAPP_MODULE=proxy:app\nPRE_START_PATH={folder}/prestart.sh\n"
        )
        environ = process_environ(
            {"UPSTREAM_API_KEY": KEY, "SEEN": str(home / "seen.json"), "PATH": f"{claude.parent}:/usr/bin:/bin"}
        )
        yield Checkout(folder, ran, sink, environ, own_file)


QUIET = [
    ("config", "show"),
    ("config", "path"),
    ("env",),
    ("doctor",),
    ("test-ntfy",),
    ("service", "install", "--print"),
    ("service", "install", "--no-start"),
    ("service", "status"),
    ("simulate", "--list"),
    ("--version",),
]


@pytest.mark.parametrize("by", ["file", "environment"])
@pytest.mark.parametrize("words", QUIET, ids=" ".join)
async def test_a_command_takes_nothing_from_it(checkout: Checkout, words: tuple[str, ...], by: str, simulator: Simulator) -> None:
    """Whether the user has a file of settings, which goes first, or none."""
    with free_port() as port:
        checkout.own.write_text(f'base_url = "{simulator.base_url}"\nport = {port}\n')
        environ = {}
        if by == "environment":
            checkout.own.unlink()
            environ = {"BASE_URL": simulator.base_url, "PORT": str(port)}
        done = await anyio.to_thread.run_sync(lambda: checkout.run(*words, **environ))
    checkout.harmless()
    assert "Traceback" not in done.stderr
    assert f":{checkout.sink.getsockname()[1]}" not in done.stdout
    reads_settings = words[0] in ("config", "env", "doctor", "test-ntfy") and words != ("config", "path")
    assert done.stderr.count("claude-proxy.toml is not read") == int(reads_settings)


async def test_under_python_m_only_python_itself_looks_there(checkout: Checkout) -> None:
    """Which package `-m` finds is decided before any of our code runs; what that imports is not."""
    (checkout.folder / "claude_proxy/__init__.py").unlink()
    (checkout.folder / "claude_proxy").rmdir()
    for words in (("config", "show"), ("env",)):
        assert checkout.run(*words, module="").returncode == 0
    checkout.harmless()


async def test_code_sends_claude_code_to_the_users_own_proxy(checkout: Checkout, home: Path) -> None:
    async with listening(answering(HEALTHY)) as server:
        checkout.own.write_text(f"port = {server.port}\n")
        done = await anyio.to_thread.run_sync(lambda: checkout.run("code", "-p", "hi"))
    assert done.returncode == 0, done.stderr
    checkout.harmless()
    seen = json.loads((home / "seen.json").read_text())
    assert seen["ANTHROPIC_BASE_URL"] == f"{server.url}/api/anthropic"
    assert "PYTHONSAFEPATH" not in seen, "Claude Code's environment is the user's"


async def test_code_start_runs_our_own_proxy_for_the_users_own_upstream(
    checkout: Checkout, home: Path, simulator: Simulator
) -> None:
    with free_port() as port:
        checkout.own.write_text(f'base_url = "{simulator.base_url}"\nport = {port}\n')
        done = await anyio.to_thread.run_sync(lambda: checkout.run("code", "--start", "--ask"))
    assert done.returncode == 0, done.stderr
    checkout.harmless()
    assert json.loads((home / "seen.json").read_text())["page"]["upstreams"][0]["base_url"] == simulator.base_url


def test_code_start_without_a_file_of_ones_own_asks_the_default_upstream(checkout: Checkout, home: Path) -> None:
    with free_port() as port:
        done = checkout.run("code", "--start", "--ask", PORT=str(port))
    assert done.returncode == 0, done.stderr
    checkout.harmless()
    assert json.loads((home / "seen.json").read_text())["page"]["upstreams"][0]["base_url"] == "https://api.z.ai/api/anthropic"


def upstream_of(checkout: Checkout, *words: str, **environ: str) -> str:
    """Start a server, and ask its page where it forwards to."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "claude_proxy", *words],
        cwd=checkout.folder,
        env={**checkout.environ, "PORT": "0", "LOG_FORMAT": "json", **environ},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            for text in process.stderr:
                line = json.loads(text)
                if line["event"] == "listening":
                    with urllib.request.urlopen(line["on"][0]) as answer:
                        return str(json.load(answer)["upstreams"][0]["base_url"])
            raise AssertionError("it never listened")
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
            assert process.wait(30) == 0, rest


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one", "two"])
def test_serve_runs_our_own_app_for_the_users_own_upstream(checkout: Checkout, options: tuple[str, ...]) -> None:
    checkout.own.write_text('base_url = "https://mine.example"\n')
    assert upstream_of(checkout, "serve", *options) == "https://mine.example"
    checkout.harmless()


def test_without_a_file_of_ones_own_the_default_stands(checkout: Checkout) -> None:
    assert upstream_of(checkout, "serve") == "https://api.z.ai/api/anthropic"
    checkout.harmless()


def test_a_service_that_reads_a_file_of_variables_takes_nothing_from_it(checkout: Checkout, home: Path) -> None:
    (home / "env").write_text("BASE_URL=https://mine.example\n")
    assert upstream_of(checkout, "service", "run", "--env-file", str(home / "env")) == "https://mine.example"
    checkout.harmless()


def test_the_demo_takes_nothing_from_it(checkout: Checkout) -> None:
    done = checkout.run("demo")
    assert (done.returncode, done.stderr) == (0, "")
    checkout.harmless()


PRESTART = (
    "#!/bin/sh\ncd {folder}\n{python} -m sitecustomize_of_mine || exit 9\n{python} -c 'import fastapi, beside_the_script'\n"
)


def test_python_in_the_prestart_script_finds_what_lies_beside_the_script_and_nothing_of_it(
    checkout: Checkout, home: Path
) -> None:
    """The script goes there itself; that its first Python looked into the folder would end the start."""
    own = home / "own"
    own.mkdir()
    (own / "beside_the_script.py").touch()
    (own / "sitecustomize_of_mine.py").touch()
    (own / "pre.sh").write_text(PRESTART.format(folder=checkout.folder, python=sys.executable))
    checkout.own.write_text('base_url = "https://mine.example"\n')
    assert upstream_of(checkout, "serve", PRE_START_PATH=str(own / "pre.sh")) == "https://mine.example"
    checkout.harmless()


@pytest.mark.parametrize("name", ["CLAUDE_PROXY_CONFIG", "PRE_START_PATH"])
def test_a_variable_with_a_relative_path_would_lead_into_it_and_is_refused(checkout: Checkout, name: str) -> None:
    done = checkout.run("serve", **{name: "claude-proxy.toml" if name.startswith("C") else "prestart.sh"})
    assert (done.returncode, done.stderr.count(": expected ")) == (2, 1)
    assert done.stderr.startswith(f"{name}=")
    checkout.harmless()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, None),
        ("", None),
        (":/x", "/x"),
        ("/x:", "/x"),
        ("/x::/y", "/x:/y"),
        (".:/x:lib", "/x"),
        (":", None),
    ],
)
def test_a_childs_path_has_no_part_that_means_the_working_directory(before: str | None, after: str | None) -> None:
    environ = {"A": "1"} if before is None else {"A": "1", "PYTHONPATH": before.replace(":", os.pathsep)}
    found = without_working_directory(environ)
    assert found == {"A": "1", "PYTHONSAFEPATH": "1", **({} if after is None else {"PYTHONPATH": after.replace(":", os.pathsep)})}


def test_a_folder_can_be_added_once() -> None:
    assert without_working_directory({"PYTHONPATH": "/x"}, "/x", "/y")["PYTHONPATH"] == os.pathsep.join(["/x", "/y"])


def test_the_bait_works(checkout: Checkout, home: Path) -> None:
    """Otherwise the tests above could not fail: named, it is read and run."""
    named: dict[str, Callable[[], object]] = {
        "fastapi": lambda: subprocess.run([sys.executable, "-c", "import fastapi"], cwd=checkout.folder, check=True),
        "sitecustomize": lambda: subprocess.run(
            [sys.executable, "-c", ""], cwd=checkout.folder, env={"PYTHONPATH": f":{SOURCE}"}, check=True
        ),
        "prestart": lambda: checkout.run("serve", "--config", "claude-proxy.toml"),
        "proxy.py": lambda: checkout.run("serve", "--app", "proxy.py", PORT="0"),
    }
    for name, call in named.items():
        checkout.ran.unlink(missing_ok=True)
        call()
        assert name in checkout.ran.read_text()
