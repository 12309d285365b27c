"""The gunicorn configuration in the root reads the same names as `serve`."""

import asyncio
import os
import runpy
import sys
from typing import Any

import pytest

from tests.server.process import ROOT

NAMES = ("bind", "workers", "worker_class", "loglevel", "accesslog", "errorlog", "timeout", "keepalive")


def conf(monkeypatch: pytest.MonkeyPatch, **environ: str) -> dict[str, Any]:
    for name in ("HOST", "PORT", "BIND", "WEB_CONCURRENCY", "WORKERS_PER_CORE", "WORKER_CLASS", "LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
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


async def test_gunicorn_accepts_it() -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gunicorn", "--check-config", "-c", "gunicorn_conf.py", "tests.server.program:app"),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await child.communicate()
    assert (child.returncode, errors) == (0, b"")
