"""The gunicorn configuration in the root reads the same names as `serve`."""

import asyncio
import os
import runpy
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.server.process import ROOT
from tests.server.wire import PATIENCE

NAMES = ("bind", "workers", "worker_class", "loglevel", "accesslog", "errorlog", "timeout", "keepalive")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HOST", "PORT", "BIND", "WEB_CONCURRENCY", "WORKERS_PER_CORE", "WORKER_CLASS", "LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def conf(monkeypatch: pytest.MonkeyPatch, **environ: str) -> dict[str, Any]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return runpy.run_path(str(ROOT / "gunicorn_conf.py"))


def test_its_defaults_are_those_of_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    found = conf(monkeypatch)
    values = [found[name] for name in NAMES]
    assert values == [["127.0.0.1:3000"], 1, "asgi", "info", None, "-", 120, 100]
    assert (found["graceful_timeout"], found["forwarded_allow_ips"]) == (8, "")


def test_it_reads_the_names_of_the_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    found = conf(
        monkeypatch,
        HOST="0.0.0.0,::1",
        PORT="80",
        WEB_CONCURRENCY="2",
        WORKER_CLASS="uvicorn.workers.UvicornWorker",
        LOG_LEVEL="debug",
        ACCESS_LOG="-",
        ERROR_LOG="/tmp/errors",
        TIMEOUT="60",
        KEEP_ALIVE="5",
    )
    assert [found[name] for name in NAMES] == [
        ["0.0.0.0:80", "[::1]:80"],
        2,
        "uvicorn.workers.UvicornWorker",
        "debug",
        "-",
        "/tmp/errors",
        60,
        5,
    ]


def test_it_binds_a_unix_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    assert conf(monkeypatch, BIND="unix:/run/p.sock")["bind"] == ["unix:/run/p.sock"]


def test_it_reads_the_file_of_settings_after_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "claude-proxy" / "claude-proxy.toml"
    file.parent.mkdir()
    file.write_text('host = "127.0.0.2"\nport = 3001\nlog_level = "debug"\ngraceful_timeout = 5\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    found = conf(monkeypatch, PORT="3002")
    assert [found[name] for name in ("bind", "loglevel", "graceful_timeout")] == [["127.0.0.2:3002"], "debug", 5]
    assert conf(monkeypatch, BIND="unix:/run/p.sock")["bind"] == ["unix:/run/p.sock"]


def test_copied_beside_a_proxy_py_it_reads_the_file_there_and_none_of_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copied = tmp_path / "app"
    copied.mkdir()
    monkeypatch.setattr(sys, "path", list(sys.path))
    shutil.copy(ROOT / "gunicorn_conf.py", copied)
    (copied / "claude-proxy.toml").write_text("port = 3001\nweb_concurrency = 3\nkeep_alive = 7\n")
    Path("claude-proxy.toml").write_text("port = 1\n")
    found = runpy.run_path(str(copied / "gunicorn_conf.py"))
    assert (found["bind"], found["workers"], found["keepalive"]) == (["127.0.0.1:3001"], 3, 7)


@asynccontextmanager
async def gunicorn(*options: str, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """gunicorn with the file, on a free port; what is left of it at the end is killed."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gunicorn", *options, "-c", "gunicorn_conf.py", "tests.server.program:app"),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PORT": "0", "LOG_FORMAT": "json", **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.communicate()


async def ended(**environ: str) -> tuple[int | None, str]:
    """Exit code and standard error of a start that fails."""
    async with gunicorn(**environ) as child, asyncio.timeout(PATIENCE):
        _, errors = await child.communicate()
        return child.returncode, errors.decode()


async def test_gunicorn_accepts_it() -> None:
    async with gunicorn("--check-config") as child:
        _, errors = await child.communicate()
        assert (child.returncode, errors) == (0, b"")


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "abc"), ("TIMEOUT", "1.5"), ("WEB_CONCURRENCY", "0"), ("BASE_URL", "z.ai"), ("KEEP_ALIVE", "x")]
)
async def test_a_bad_value_is_one_sentence(name: str, value: str) -> None:
    code, errors = await ended(**{name: value})
    assert code == 2
    assert errors.startswith(f"claude-proxy: {name}={value} ")
    assert errors.count("\n") == 1


async def test_the_prestart_script_runs_once_before_the_first_worker(tmp_path: Path) -> None:
    script = tmp_path / "prestart.sh"
    script.write_text("echo prepared >&2\n")
    lines: list[bytes] = []
    async with gunicorn(PRE_START_PATH=str(script), WEB_CONCURRENCY="2", APP_MODULE="a:b", GUNICORN_CONF="/x.py") as child:
        assert child.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while sum(b"Booting worker" in line for line in lines) < 2:
                lines.append(await child.stderr.readline())
                assert lines[-1], lines
        child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            await child.communicate()
    said = b"".join(lines)
    assert said.count(b"prepared") == 1
    assert said.index(b"prepared") < said.index(b"Booting worker")
    assert b"GUNICORN_CONF=/x.py has no effect under gunicorn: " in said
    assert b"APP_MODULE=a:b has no effect under gunicorn: " in said


async def test_a_failing_prestart_script_stops_the_start_with_its_code(tmp_path: Path) -> None:
    script = tmp_path / "prestart.sh"
    script.write_text("exit 7\n")
    code, errors = await ended(PRE_START_PATH=str(script))
    assert code == 7
    assert f"The prestart script {script} failed with exit code 7" in errors
    assert "Booting worker" not in errors
