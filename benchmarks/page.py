"""``python -m benchmarks.page``: the page's cost: each view, an open tab while exchanges run, memory, five readers on the path.

The proxy is `claude-proxy serve` with the demo's two weeks in its ledger; the simulator and the clients share this process.
Chromium, if it is installed, says when a view is painted and what an open tab uses.
"""

import asyncio
import contextlib
import dataclasses
import gzip
import http.client
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import contenders, ledger_served, load, payload, processes, rows
from benchmarks.contenders import Running
from claude_proxy.cli.demo import past
from claude_proxy.simulator import Scenario, Simulator
from tests.web.browser import Chromium, Tab, chromium

READERS = 5
PACED = rows.Scale(json=0, big=0, sse=0, streams=200, latency=0, large=0, held=0, repeats=3)
HTML = {"Accept": "text/html", "Accept-Encoding": "gzip"}
PAINTED = """
new Promise((done) => {
  const first = () => performance.getEntriesByName('first-contentful-paint')[0];
  if (first()) { done(first().startTime); return; }
  new PerformanceObserver(() => { if (first()) done(first().startTime); }).observe({ type: 'paint', buffered: true });
})
"""
SLOW = Scenario("text", text="word " * 4000, deltas=4000, pace=1.0)


@dataclasses.dataclass
class Report:
    """The figures.

    Attributes:
        views: by view: milliseconds and bytes.
        tabs: by number of running exchanges: shares of a core.
        memory: resident bytes, in the order in which they were read.
        paced: CPU microseconds of the proxy per event, without and with readers.
    """

    machine: str
    load_average: tuple[float, float, float]
    views: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    tabs: dict[int, dict[str, float]] = dataclasses.field(default_factory=dict)
    memory: dict[str, int] = dataclasses.field(default_factory=dict)
    paced: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    @property
    def readers_cost(self) -> float | None:
        """How much the readers add to the paced row: the median of the ratios within each repeat, minus one."""
        pairs = list(zip(self.paced.get("without", ()), self.paced.get("with", ()), strict=False))
        return statistics.median(one / base for base, one in pairs) - 1 if pairs else None


def percentile(times: list[float], share: float) -> float:
    """The value below which `share` of `times` stay."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def paths(proxy: ledger_served.Proxy) -> dict[str, str]:
    """One address per view, of what is in the ledger."""
    session = json.loads(proxy.get("/api/v1/sessions?limit=1")[1])["items"][0]["session"]
    exchange = json.loads(proxy.get(f"/api/v1/exchanges?limit=1&session={session}")[1])["items"][0]["id"]
    return {
        "Now": "/",
        "Sessions": "/sessions",
        "Session": f"/sessions/{session}",
        "Exchange": f"/exchanges/{exchange}",
        "Conversation": f"/exchanges/{exchange}/conversation",
        "Usage": "/usage",
        "Upstreams": "/upstreams",
        "Settings": "/settings",
    }


def served(proxy: ledger_served.Proxy, path: str, turns: int) -> dict[str, float]:
    """Time, CPU and size of a view, as the server has it: over one kept connection, after two warm-up requests.

    Raises:
        RuntimeError: the view was not answered with a 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    times: list[float] = []
    size = whole = 0
    before = 0.0
    with contextlib.closing(connection):
        for turn in range(turns + 2):
            if turn == 2:
                before = processes.cpu_seconds(proxy.pid)
            started = time.perf_counter()
            connection.request("GET", path, headers=HTML)
            answer = connection.getresponse()
            body = answer.read()
            times.append((time.perf_counter() - started) * 1000)
            if answer.status != 200:
                raise RuntimeError(f"{path} was answered with {answer.status}: {body[:200]!r}")
            size, whole = len(body), len(gzip.decompress(body) if answer.headers["Content-Encoding"] == "gzip" else body)
    cpu = (processes.cpu_seconds(proxy.pid) - before) / turns * 1000
    return {"p50": percentile(times[2:], 0.5), "p95": percentile(times[2:], 0.95), "cpu": cpu, "gzip": size, "html": whole}


async def painted(browser: Chromium, url: str, turns: int) -> dict[str, float]:
    """Milliseconds to the first paint in a tab without a cache, and bytes that a first visit transfers; medians."""
    times, sizes = [], []
    for _ in range(turns):
        tab = await browser.tab(width=1280)
        await tab.call("Network.setCacheDisabled", cacheDisabled=True)
        await tab.open(url)
        times.append(float(await tab.run(PAINTED)))
        sizes.append(float(await tab.run("[...performance.getEntries()].reduce((sum, one) => sum + (one.transferSize || 0), 0)")))
        await browser.close_tabs()
    return {"paint": statistics.median(times), "visit": statistics.median(sizes)}


async def chromium_cpu(browser: Chromium) -> dict[str, float]:
    """CPU seconds so far: of the tabs' processes, and of all of Chromium's."""
    found = (await browser.call("SystemInfo.getProcessInfo", {}))["processInfo"]
    return {
        "tab": sum(one["cpuTime"] for one in found if one["type"] == "renderer"),
        "chromium": sum(one["cpuTime"] for one in found),
    }


async def watched(proxy: ledger_served.Proxy, browser: Chromium | None, seconds: float) -> dict[str, float]:
    """Shares of a core during `seconds`: the server without a reader and with one open tab, and the tab itself."""

    async def server() -> float:
        before, started = processes.cpu_seconds(proxy.pid), time.perf_counter()
        await asyncio.sleep(seconds)
        return (processes.cpu_seconds(proxy.pid) - before) / (time.perf_counter() - started)

    found = {"server alone": await server()}
    if browser is None:
        async with reading(proxy.port, 1):
            return found | {"server with a reader": await server()}
    await open_now(browser, proxy)
    before, started = await chromium_cpu(browser), time.perf_counter()
    found["server with a reader"] = await server()
    after, took = await chromium_cpu(browser), time.perf_counter() - started
    await browser.close_tabs()
    return found | {name: (after[name] - before[name]) / took for name in after}


async def open_now(browser: Chromium, proxy: ledger_served.Proxy) -> Tab:
    """Open *Now*, and let it settle."""
    tab = await browser.tab(width=1280)
    await tab.open(f"http://127.0.0.1:{proxy.port}/")
    await asyncio.sleep(2)
    return tab


@contextlib.asynccontextmanager
async def reading(port: int, count: int) -> AsyncIterator[None]:
    """So many readers of the page's event stream, which read and throw away."""

    async def read() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /live?lang=en HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept-encoding: gzip\r\n\r\n".encode())
        while await reader.read(65_536):
            pass

    tasks = [asyncio.create_task(read()) for _ in range(count)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def read_for_ever(port: int) -> None:
    """What the readers' own process does."""

    async def stay() -> None:
        async with reading(port, READERS):
            await asyncio.Event().wait()

    asyncio.run(stay())


@contextlib.contextmanager
def readers(port: int) -> Iterator[None]:
    """Five readers in a process of their own, so that their work is not taken for the proxy's."""
    process = multiprocessing.get_context("spawn").Process(target=read_for_ever, args=(port,))
    process.start()
    time.sleep(2)
    try:
        yield
    finally:
        process.kill()
        process.join()


def paced(report: Report, repeats: int) -> None:
    """The paced row of the benchmarks without and with readers of the page, in turn."""
    core, other = processes.cores()
    with (
        contenders.mock_upstream(other) as (upstream, pid),
        contenders.running(contenders.claude_proxy(), upstream, core=core) as ours,
    ):
        bench = rows.Bench(PACED, upstream, pid, core)
        for _ in range(repeats):
            report.paced.setdefault("without", []).append(one_row(bench, ours))
            with readers(ours.port):
                report.paced.setdefault("with", []).append(one_row(bench, ours))


def one_row(bench: rows.Bench, ours: Running) -> float:
    """CPU microseconds per event."""
    return rows.measure_paced(bench, ours)["paced"]


@contextlib.asynccontextmanager
async def browsing(folder: Path) -> AsyncIterator[Chromium | None]:
    """Chromium, or None where it is not installed."""
    if shutil.which("chromium") is None:
        yield None
        return
    async with chromium(folder) as browser:
        yield browser


async def watch(report: Report, folder: Path, counts: list[int], turns: int, seconds: float, console: Console) -> None:
    """Everything but the paced row."""
    past.write(folder, datetime.now().astimezone())
    async with Simulator(SLOW, history=1) as simulator, browsing(folder / "profile") as browser:
        with ledger_served.serving(folder, simulator.port, LOG_LEVEL="warning", LOG_FORMAT="json") as proxy:
            report.memory["before the page was opened"] = (await processes.settled_memory(proxy.pid))[0]
            await asyncio.to_thread(ledger_served.until_readable, proxy)
            for name, path in (await asyncio.to_thread(paths, proxy)).items():
                console.print(f"[dim]{name}")
                report.views[name] = await asyncio.to_thread(served, proxy, path, turns)
                if browser is not None:
                    report.views[name] |= await painted(browser, f"http://127.0.0.1:{proxy.port}{path}", 5)
            report.memory["after every view"] = (await processes.settled_memory(proxy.pid))[0]
            for count in counts:
                console.print(f"[dim]{count} running exchanges")
                async with load.held_streams(proxy.port, payload.request("fast", proxy.port), count):
                    report.tabs[count] = await watched(proxy, browser, seconds)
            report.memory["after the last tab was closed"] = (await processes.settled_memory(proxy.pid))[0]


def show(report: Report, console: Console) -> None:
    """The tables."""
    average = ", ".join(f"{one:.1f}" for one in report.load_average)
    console.print(f"{escape(report.machine)}; load average before the run: {average}")
    views = Table("view", "p50", "p95", "CPU [ms]", "HTML, gzip [KB]", "first visit [KB]", "first paint [ms]", title="views")
    for name, one in report.views.items():
        visit, paint = (f"{one['visit'] / 1000:.0f}", f"{one['paint']:.0f}") if "paint" in one else ("no Chromium",) * 2
        views.add_row(
            name, f"{one['p50']:.1f}", f"{one['p95']:.1f}", f"{one['cpu']:.1f}", f"{one['gzip'] / 1000:.1f}", visit, paint
        )
    tabs = Table(
        "running", "server alone", "server, one tab", "tab", "all of Chromium", title="shares of a core while Now is open"
    )
    for count, one in report.tabs.items():
        names = ("server alone", "server with a reader", "tab", "chromium")
        tabs.add_row(str(count), *(f"{one[name]:.1%}" if name in one else "no Chromium" for name in names))
    for table in (views, tabs):
        if table.row_count:
            console.print(table)
    for name, size in report.memory.items():
        console.print(f"memory {name}: {size / 1e6:.1f} MB")
    if report.readers_cost is not None:
        without, with_ = (statistics.median(report.paced[name]) for name in ("without", "with"))
        console.print(
            f"paced row, {PACED.streams} streams: {without:.1f} us per event, with {READERS} readers {with_:.1f} us"
            f" ({report.readers_cost:+.0%}, budget +10%)"
        )


def main(
    running: Annotated[
        str, typer.Option(help="Numbers of running exchanges behind an open tab, comma-separated.")
    ] = "0,200,1000",
    turns: Annotated[int, typer.Option(min=1, max=1000, help="Requests per view.")] = 40,
    seconds: Annotated[float, typer.Option(min=0.2, max=60, help="How long each open tab is watched.")] = 8,
    repeats: Annotated[int, typer.Option(min=0, max=10, help="Of the paced row without and with readers; 0 skips it.")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Measure the page: views, open tabs, memory, and what readers cost the request path. About two minutes."""
    processes.end_in_order()
    processes.raise_open_files()
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    report = Report(processes.machine(), os.getloadavg())
    counts = [int(word) for word in running.split(",") if word]
    with tempfile.TemporaryDirectory(prefix="claude-proxy-bench-") as name:
        uvloop.run(watch(report, Path(name), counts, turns, seconds, console))
    if repeats:
        console.print("[dim]the paced row, without and with readers")
        paced(report, repeats)
    show(report, console)
    if json_file is not None:
        figures: dict[str, Any] = dataclasses.asdict(report) | {"readers_cost": report.readers_cost}
        json_file.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
