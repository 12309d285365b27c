"""The status line under load: `python -m benchmarks.statusline --help`. Prints how long the command and the API's answer take."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import load, payload, processes
from benchmarks.contenders import mock_upstream
from benchmarks.ledger_served import Proxy, serving, until_readable

SESSION = "a-session"
GIVEN = json.dumps({"session_id": SESSION, "model": {"display_name": "GLM-5.3"}, "context_window": {"used_percentage": 42}})
COMMAND = [sys.executable, "-P", "-E", "-m", "claude_proxy", "statusline"]


@contextmanager
def streams(proxy: Proxy, count: int) -> Iterator[None]:
    """So many paced streams, renewed as they end, from a process of their own."""
    if not count:
        yield
        return
    with subprocess.Popen([sys.executable, "-m", "benchmarks.statusline", "--drive", f"{proxy.port},{count}"]) as driver:
        time.sleep(2)
        try:
            yield
        finally:
            driver.kill()


def drive(port: int, count: int) -> None:
    """What that process does."""
    request = payload.request("pace", port, **{"x-claude-code-session-id": SESSION})
    while True:
        asyncio.run(load.drive(port, request, count, count, seconds=5, spread=1))


def milliseconds(work: Callable[[], object], turns: int) -> str:
    """Median, 95th percentile and worst of some turns."""
    found = []
    for _ in range(turns):
        started = time.perf_counter()
        work()
        found.append((time.perf_counter() - started) * 1000)
    found.sort()
    return f"p50 {found[turns // 2]:6.1f}   p95 {found[int(turns * 0.95)]:6.1f}   worst {found[-1]:6.1f} ms"


def post(proxy: Proxy) -> None:
    """Ask the API, as `curl` would."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    connection.request("POST", "/api/v1/statusline", GIVEN)
    connection.getresponse().read()
    connection.close()


def main(
    open_streams: Annotated[int, typer.Option("--streams", help="Streams that run meanwhile, 50 ms between two events.")] = 200,
    turns: Annotated[int, typer.Option(help="Status lines.")] = 100,
    drive_: Annotated[str | None, typer.Option("--drive", hidden=True)] = None,
) -> None:
    """Measure the status line of a session while a proxy serves streams."""
    if drive_ is not None:
        drive(*map(int, drive_.split(",")))
    with (
        tempfile.TemporaryDirectory() as folder,
        mock_upstream(processes.cores()[1]) as (upstream, _),
        serving(Path(folder), upstream, LOG_LEVEL="warning") as proxy,
        streams(proxy, open_streams),
    ):
        until_readable(proxy)
        environ = os.environ | {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{proxy.port}/api/anthropic"}
        bare = milliseconds(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True), turns)
        print(f"python -c pass          {bare}")
        command = milliseconds(lambda: subprocess.run(COMMAND, input=GIVEN.encode(), capture_output=True, env=environ), turns)
        print(f"claude-proxy statusline {command}")
        print(f"POST /api/v1/statusline {milliseconds(lambda: post(proxy), turns)}")


if __name__ == "__main__":
    typer.run(main)
