"""``python -m benchmarks.soak``: many mixed exchanges with faults, then clients that disconnect; checks for leaks.

The proxy runs in its own process; the simulator and the clients share this one. One seed determines everything.
"""

import asyncio
import dataclasses
import json
import random
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import contenders, exchanges, payload, processes
from benchmarks.exchanges import Kind
from claude_proxy.simulator import Recorded, Scenario, Simulator, named

STORMS = 6
KEEPALIVE = 1  # seconds: short, so that the end of idle connections can be awaited
SHARES = (0.1, 0.5, 1.0)  # of the exchanges, after which memory is read: start, middle, end
EXPECTED_GROWTH = 6e6  # bytes from middle to end that count as flat: the allocator's arenas come and go
CLIENTS = 32
LARGE = 200 * 1024
CANCEL_BUDGET = 0.1  # seconds until the upstream notices that its client has disconnected


@dataclasses.dataclass
class Report:
    """What was seen, and what of it is wrong."""

    seed: int
    figures: dict[str, str] = dataclasses.field(default_factory=dict)
    outcomes: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    faults: list[str] = dataclasses.field(default_factory=list)

    def check(self, holds: bool, sentence: str) -> None:
        """Keep `sentence` as a fault unless it holds."""
        if not holds:
            self.faults.append(sentence)


@dataclasses.dataclass
class Soak:
    """The proxy under test, its upstream and the seeded dice."""

    server: contenders.Running
    simulator: Simulator
    dice: random.Random
    report: Report

    def memory(self) -> int:
        """Resident bytes of the proxy's process tree."""
        return processes.memory(self.server.process.pid)[0]

    def sockets(self) -> int:
        """Sockets that the proxy holds."""
        return processes.open_sockets(self.server.process.pid)


class Once:
    """Answers as the header `x-once` asks, but only the first attempt of each exchange: `x-number` tells them apart."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, one: Recorded) -> Scenario | None:
        """The scenario for a request; None for the default."""
        name, number = one.header("x-once"), one.header("x-number")
        if name is None or number is None or number in self._seen:
            return None
        self._seen.add(number)
        return named(name)


async def mixed(soak: Soak, count: int) -> None:
    """`count` exchanges of the mix over keep-alive clients; memory on the way."""
    port = soak.server.port
    sockets = await settled_sockets(soak)
    kinds = soak.dice.choices(exchanges.MIX, [kind.weight for kind in exchanges.MIX], k=count)
    large = {soak.dice.randrange(count) for _ in range(count // 20)}
    queue = list(enumerate(kinds))
    counts: Counter[tuple[Kind, str]] = Counter()
    memory = []
    started = time.monotonic()
    done = 0
    for share in SHARES:
        part = queue[done : int(count * share)]
        done += len(part)
        turns = iter(part)
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(_client(turns, port, large, counts))
        memory.append(soak.memory())
    _report_mixed(soak.report, counts, memory, time.monotonic() - started)
    await nothing_left(soak, sockets, "the mixed exchanges")


async def _client(turns, port: int, large: set[int], counts: Counter[tuple[Kind, str]]) -> None:
    stream = None
    for number, kind in turns:
        stream = stream or await exchanges.connect(port)
        request = kind.request(port, LARGE if number in large else 2048, number)
        outcome, usable = "no answer in 60 s", False
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                outcome, usable = await exchanges.ask(stream, request, leave=kind.leaves)
        counts[kind, outcome] += 1
        if not usable:
            stream[1].close()
            stream = None
    if stream is not None:
        stream[1].close()


def _report_mixed(report: Report, counts: Counter[tuple[Kind, str]], memory: list[int], seconds: float) -> None:
    report.figures["exchanges"] = f"{counts.total()} in {seconds:.0f} s"
    for (kind, outcome), number in sorted(counts.items(), key=lambda item: exchanges.MIX.index(item[0][0])):
        report.outcomes.setdefault(kind.name, {})[outcome] = number
        report.check(kind.allows(outcome), f"{kind.name}: {number} ended as {outcome!r}, expected {kind.right}")
    for name, size in zip(("start", "middle", "end"), memory, strict=True):
        report.figures[f"memory, {name}"] = f"{size / 1e6:.1f} MB"
    grown = memory[2] - memory[1]
    report.check(grown <= EXPECTED_GROWTH, f"memory grew by {grown / 1e6:.1f} MB in the second half")


async def settled_sockets(soak: Soak) -> int:
    """The proxy's sockets once its idle upstream connections have expired."""
    with suppress(TimeoutError):
        await soak.simulator.wait_for(lambda sim: not sim.open_connections, KEEPALIVE + 10)
    return soak.sockets()


async def nothing_left(soak: Soak, sockets: int, after: str) -> None:
    """Upstream connections all closed, and the proxy holds no more sockets than before."""
    report = soak.report
    try:
        await soak.simulator.wait_for(lambda sim: all(one.outcome for one in sim.requests), 10)
    except TimeoutError:
        running = sum(one.outcome is None for one in soak.simulator.requests)
        report.faults.append(f"after {after} {running} exchanges still run upstream")
    now = await settled_sockets(soak)
    upstream = soak.simulator.open_connections
    report.figures[f"after {after}"] = f"{upstream} upstream connections, {now} sockets (before: {sockets})"
    report.check(not upstream, f"after {after} {upstream} upstream connections stay open")
    report.check(now <= sockets, f"after {after} the proxy holds {now} sockets, before {sockets}")


STORM = ("slow;pace=0.05;deltas=100", "stall-head", "stall", "auto;delay=3")


async def storm(soak: Soak, clients: int, name: str) -> int:
    """`clients` that each leave at a random moment within two seconds; the resident memory afterwards, in bytes."""
    sockets = await settled_sockets(soak)
    first = len(soak.simulator.requests)
    left: dict[str, float] = {}
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            request = payload.request(
                soak.dice.choice(("fast", "json")), soak.server.port, x_simulate=soak.dice.choice(STORM), x_bench=str(number)
            )
            group.create_task(_leaver(soak, request, soak.dice.uniform(0.0, 2.0), left, str(number)))
    await nothing_left(soak, sockets, name)
    _report_storm(soak.report, name, soak.simulator.requests[first:], left)
    return soak.memory()


async def _leaver(soak: Soak, request: bytes, seconds: float, left: dict[str, float], number: str) -> None:
    """Ask, read what comes, and be gone after `seconds`."""
    stream = await exchanges.connect(soak.server.port)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await exchanges.ask(stream, request)
            return stream[1].close()
    left[number] = asyncio.get_running_loop().time()
    return stream[1].transport.abort()


async def storms(soak: Soak, clients: int) -> None:
    """Several storms: the first three may still fill the allocator's arenas, from then on memory has to stay."""
    memory = []
    for number in range(1, STORMS + 1):
        soak.simulator.requests.clear()
        memory.append(await storm(soak, clients, f"storm {number}"))
    soak.report.figures["memory after each storm"] = ", ".join(f"{size / 1e6:.1f}" for size in memory) + " MB"
    grown = memory[-1] - memory[2]
    soak.report.check(grown <= EXPECTED_GROWTH, f"memory grew by {grown / 1e6:.1f} MB from the third storm to the last")


def _report_storm(report: Report, name: str, seen: list[Recorded], left: dict[str, float]) -> None:
    cancelled = [(one, left[number]) for one in seen if one.left_at and (number := one.header("x-bench")) in left]
    delays = sorted(one.left_at - gone for one, gone in cancelled if one.received_at < gone)
    report.figures[name] = f"{len(left)} clients left, {len(seen)} requests came upstream, {len(cancelled)} were cancelled there"
    report.check(bool(delays), f"{name}: nothing was cancelled upstream")
    if delays:
        middle, high = delays[len(delays) // 2], delays[int(len(delays) * 0.99)]
        report.figures[f"{name}: upstream told after"] = (
            f"p50 {middle * 1e3:.0f} ms, p99 {high * 1e3:.0f} ms, max {delays[-1] * 1e3:.0f} ms"
        )
        report.check(middle <= CANCEL_BUDGET, f"{name}: the upstream notices it after {middle * 1e3:.0f} ms (p50)")


async def run(count: int, clients: int, seed: int, command: str | None) -> Report:
    """Run everything: mixed exchanges, then storms before a proxy that has learned no limit, so that all of them go upstream."""
    report, dice = Report(seed), random.Random(seed)
    ours = contenders.claude_proxy(command, KEEPALIVE_EXPIRY=str(KEEPALIVE))
    async with Simulator(Once(), history=max(512, 3 * clients)) as simulator:
        for part, number in ((mixed, count), (storms, clients)):
            if not number:
                continue
            with ExitStack() as stack:
                started = contenders.running(ours, simulator.port, core=processes.cores()[0])
                server = await asyncio.to_thread(stack.enter_context, started)
                await part(Soak(server, simulator, dice, report), number)
                report.check(server.process.poll() is None, "the proxy has ended")
            report.check(server.process.returncode == 0, f"the proxy exited with {server.process.returncode}")
    return report


def show(report: Report) -> None:
    """Both tables and the verdict."""
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    table = Table(title=f"outcomes, seed {report.seed}")
    for head in ("exchange", "outcomes"):
        table.add_column(head)
    for name, outcomes in report.outcomes.items():
        table.add_row(name, ", ".join(f"{number} x {outcome}" for outcome, number in outcomes.items()))
    figures = Table(title="soak")
    for head in ("what", "seen"):
        figures.add_column(head)
    for name, value in report.figures.items():
        figures.add_row(name, value)
    if report.outcomes:
        console.print(table)
    console.print(figures)
    for fault in report.faults:
        console.print(f"[bold red]wrong:[/] {escape(fault)}")
    if not report.faults:
        console.print("[green]every outcome right, nothing left behind")


def main(
    count: Annotated[int, typer.Option("--exchanges", min=0, max=1_000_000, help="Mixed exchanges; 0 skips them.")] = 20_000,
    clients: Annotated[
        int, typer.Option("--storm", min=0, max=2_000, help="Clients of each of six cancel storms; 0 skips them.")
    ] = 500,
    seed: Annotated[int, typer.Option(help="What the order and the moments of leaving are drawn from.")] = 1,
    proxy_command: Annotated[str | None, typer.Option(help="Soak this command instead of `claude-proxy serve`.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report to this file.")] = None,
) -> None:
    """Run thousands of exchanges with faults and six cancel storms through the proxy, and check for leaks."""
    processes.end_in_order()
    processes.raise_open_files()
    try:
        report = uvloop.run(run(count, clients, seed, proxy_command))
    except contenders.StartError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]{escape(str(error))}")
        raise typer.Exit(1) from error
    show(report)
    if json_file is not None:
        json_file.write_text(json.dumps(dataclasses.asdict(report), indent=2) + "\n")
    if report.faults:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
