"""A running proxy with a large ledger: start, memory, the time of each API call and of `stats`, retention under traffic."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import payload, processes
from benchmarks.contenders import mock_upstream

MB = 1_000_000
TURNS = 7
CLIENTS, PAUSE = 4, 0.02  # requests at once, and seconds between two of one client
PATIENCE = 180  # seconds that retention may take
SLOW = 200  # milliseconds that an answer may take
TIMES = ["hour", "day", "week", "month", "window"]
ORDERS = [*TIMES, "session", "project", "model", "agent", "class", "client", "upstream", "account"]


@dataclass(frozen=True)
class Proxy:
    """A process of `claude-proxy serve`."""

    pid: int
    port: int
    started_in: float

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers={"Accept": "text/html"})  # at the page; the API does not look at it
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextlib.contextmanager
def serving(folder: Path, upstream: int, **environ: str) -> Iterator[Proxy]:
    """Run it, with its ledger in `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    base_url = f"http://127.0.0.1:{upstream}{payload.PREFIX}"
    settings = {"PORT": str(port), "DATA_DIR": str(folder), "BASE_URL": base_url, "LOG_FORMAT": "json"}
    command = [sys.executable, "-m", "claude_proxy", "serve"]
    started = time.perf_counter()
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | settings | environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        while not answers(port):
            if process.poll() is not None:
                raise RuntimeError((folder / "proxy.log").read_text())
            time.sleep(0.01)
        yield Proxy(process.pid, port, time.perf_counter() - started)
    finally:
        process.terminate()
        process.wait(30)


def answers(port: int) -> bool:
    """Whether the proxy is there."""
    try:
        return Proxy(0, port, 0).get("/health")[0] == 200
    except OSError:
        return False


def until_readable(proxy: Proxy) -> float:
    """Seconds until the API can read the ledger."""
    started = time.perf_counter()
    while proxy.get("/api/v1/exchanges?limit=1")[0] != 200:
        time.sleep(0.01)
    return time.perf_counter() - started


def paths(proxy: Proxy) -> dict[str, str]:
    """Every call of the API that reads, and the page's views of the same, by what they show."""
    items = json.loads(proxy.get("/api/v1/exchanges?limit=1")[1])["items"]
    session = json.loads(proxy.get("/api/v1/sessions?limit=1")[1])["items"][0]["session"]
    old = json.loads(proxy.get("/api/v1/exchanges?limit=1&until=2026-09-30")[1])["items"]
    found = {
        "exchanges": "exchanges",
        "exchanges, 1000 of them": "exchanges?limit=1000",
        "exchanges of a time 60 days ago": "exchanges?until=2026-09-30",
        "exchanges of a session": f"exchanges?session={session}",
        "exchanges, failed": "exchanges?status=failed",
        "exchanges of a rare kind": "exchanges?model=claude-haiku-5-5&status=529",
        "exchanges of a status that never was": "exchanges?status=418",
        "exchanges of a model that never was": "exchanges?model=nobody-knows-it",
        "one exchange": f"exchanges/{items[0]['id']}",
        "one old exchange": f"exchanges/{(old or items)[0]['id']}",
        "sessions": "sessions",
        "one session": f"sessions/{session}",
        **{f"usage by {by}": f"usage?by={by}&timezone=Asia/Kathmandu" for by in ORDERS},
        "usage by day, each model": "usage?by=day&breakdown=true",
        "usage by session, 7 days": "usage?by=session&since=7d",
        "usage by day, of one model": "usage?by=day&model=glm-5.3",
        "usage by day, of one session": f"usage?by=day&session={session}",
        **{name: name for name in ("quota", "live", "upstreams", "incidents", "settings")},
    }
    views = {
        "page: Now": "/",
        "page: Sessions": "/sessions",
        "page: one session": f"/sessions/{session}",
        "page: requests without a session": "/session?id=",
        **{f"page: Usage of a year by {by}": f"/usage?since=366d&by={by}" for by in ("session", "model", "agent")},
        "page: Usage of 90 days by session": "/usage?since=90d&by=session",
        "page: Upstreams": "/upstreams",
        "page: Settings": "/settings",
    }
    return {name: f"/api/v1/{path}" for name, path in found.items()} | {"metrics": "/metrics"} | views


def timed(proxy: Proxy, path: str) -> list[float]:
    """Milliseconds of some calls, sorted.

    Raises:
        RuntimeError: the answer is neither 200 nor "this took longer than 1 s".
    """
    found = []
    for _ in range(TURNS):
        started = time.perf_counter()
        status, body = proxy.get(path)
        found.append((time.perf_counter() - started) * 1000)
        if status != 200 and b"took longer" not in body:
            raise RuntimeError(f"{path}: {status} {body[:200]!r}")
    return sorted(found)


def calls(proxy: Proxy) -> None:
    """Print the time of each call."""
    print(f"{'over HTTP':44}{'median':>10}{'worst':>10}{'CPU':>10} ms")
    for name, path in paths(proxy).items():
        before = processes.cpu_seconds(proxy.pid)
        took = timed(proxy, path)
        cpu = (processes.cpu_seconds(proxy.pid) - before) / TURNS * 1000
        over = f"   OVER {SLOW}" if took[TURNS // 2] > SLOW else ""
        print(f"{name:44}{took[TURNS // 2]:10.1f}{took[-1]:10.1f}{cpu:10.1f}{over}")


def stats(folder: Path) -> None:
    """Print the time of the command, with the start of Python."""
    for by in ("day", "session", "model"):
        command = [sys.executable, "-m", "claude_proxy", "stats", "--by", by]
        started = time.perf_counter()
        subprocess.run(command, env=os.environ | {"DATA_DIR": str(folder)}, stdout=subprocess.DEVNULL, check=True)
        print(f"claude-proxy stats --by {by:20}{(time.perf_counter() - started) * 1000:10.0f} ms, the process included")


async def traffic(port: int, until: asyncio.Event) -> list[float]:
    """Milliseconds of each exchange of a few clients, until the event is set."""
    request = payload.request("json", port)
    found: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while not until.is_set():
            started = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
            found.append((time.perf_counter() - started) * 1000)
            await asyncio.sleep(PAUSE)
        writer.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return sorted(found)


def line(name: str, found: list[float]) -> str:
    """How long the exchanges took."""
    return f"{name:44}{found[len(found) // 2]:10.1f}{found[int(len(found) * 0.99)]:10.1f}{len(found):10}"


def with_traffic(proxy: Proxy, work: Callable[[], float]) -> tuple[list[float], float]:
    """Exchanges while `work` runs in a thread, and what it returns."""

    async def both() -> tuple[list[float], float]:
        done = asyncio.Event()
        sending = asyncio.create_task(traffic(proxy.port, done))
        found = await asyncio.to_thread(work)
        done.set()
        return await sending, found

    return asyncio.run(both())


def shrunk(file: Path, budget: int) -> float:
    """Wait until the file keeps to its budget; the seconds that it took."""
    started = time.perf_counter()
    while file.stat().st_size > budget + 8 * MB and time.perf_counter() - started < PATIENCE:
        time.sleep(0.1)
    return time.perf_counter() - started


def quiet() -> float:
    """Wait, while nothing but the traffic happens."""
    time.sleep(10)
    return 10


def measure(folder: Path, budget: int) -> None:
    """Everything, on a copy of the ledger where it is changed."""
    with mock_upstream(processes.cores()[1]) as (upstream, _):
        with serving(folder, upstream) as proxy:
            opened = until_readable(proxy)
            idle = processes.memory(proxy.pid)[0]
            print(
                f"\nserve: first answer {proxy.started_in * 1000:.0f} ms, ledger {opened * 1000:.0f} ms later, {idle / MB:.1f} MB"
            )
            calls(proxy)
            print(f"memory after that  {processes.memory(proxy.pid)[0] / MB:6.1f} MB")
            before, _ = with_traffic(proxy, quiet)
        stats(folder)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            copy = Path(name)
            shutil.copy(folder / "ledger.db", copy / "ledger.db")
            look_again(copy / "ledger.db")
            retention(copy, upstream, budget, before)


def look_again(file: Path) -> None:
    """Forget when retention looked last: each look is one process's, every five minutes."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("DELETE FROM meta WHERE key = 'retention'")


def retention(folder: Path, upstream: int, budget: int, before: list[float]) -> None:
    """Start with a budget that the file exceeds, and watch the traffic."""
    file = folder / "ledger.db"
    size = file.stat().st_size
    with serving(folder, upstream, LEDGER_MAX_BYTES=str(budget)) as proxy:
        until_readable(proxy)
        during, took = with_traffic(proxy, lambda: shrunk(file, budget))
        totals: dict[str, Any] = json.loads(proxy.get("/api/v1/usage?by=day")[1])["totals"]
    print(f"\nretention: {size / MB:.0f} MB to {file.stat().st_size / MB:.0f} MB in {took:.0f} s, budget {budget / MB:.0f} MB")
    print(f"{'an exchange takes':44}{'p50':>10}{'p99':>10}{'count':>10}")
    print(line("without retention", before))
    print(line("while it works", during))
    print(f"the sums outlive the rows: {totals['exchanges']} exchanges")
