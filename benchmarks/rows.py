"""What is measured: each row takes one sample of each of its metrics from one server."""

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import load, payload, processes, upstream
from benchmarks.contenders import Contender, Running, running

CONNECTIONS = 32
SMALL, BIG = 2048, 200 * 1024  # bytes of a request's body
Samples = dict[str, float]


@dataclass(frozen=True)
class Scale:
    """How much work one sample is."""

    json: int
    big: int
    sse: int
    streams: int
    latency: int
    large: int
    held: int
    repeats: int


FULL = Scale(json=20_000, big=2_000, sse=4_000, streams=200, latency=3_000, large=600, held=500, repeats=3)
QUICK = Scale(json=2_000, big=100, sse=300, streams=50, latency=200, large=50, held=50, repeats=1)


class BrokenAnswersError(RuntimeError):
    """A server failed exchanges: its figures would mean nothing."""


@dataclass(frozen=True)
class Bench:
    """What every row needs: the mock, the proxy's core, the scale."""

    scale: Scale
    upstream_port: int
    upstream_pid: int
    proxy_core: int

    def cpu(
        self, row: str, server: Running, kind: str, connections: int, total: int, *, spread: float = 0.0, size: int = SMALL
    ) -> Samples:
        """CPU microseconds of the server's process tree per exchange, and how busy its core, the load's core and others were.

        Args:
            spread: seconds over which the connections begin.
            size: bytes of the request's body.

        Raises:
            BrokenAnswersError: not every exchange was answered in full.
        """
        request = payload.request(kind, server.port, size)
        before = self._clocks(server)
        tally = asyncio.run(load.drive(server.port, request, connections, total, spread=spread))
        ours, load_core, machine = (after - start for after, start in zip(self._clocks(server), before, strict=True))
        if tally.failed or not tally.done:
            example = tally.example.decode(errors="replace")
            raise BrokenAnswersError(f"{server.name}, row {row}: {tally.failed} failed, {tally.done} answered. {example}")
        shares = {"proxy-core": ours, "load-core": load_core, "others": max(0.0, machine - ours - load_core)}
        return {row: ours / tally.done * 1e6, **{f"{row}-{name}": used / tally.seconds for name, used in shares.items()}}

    def _clocks(self, server: Running) -> tuple[float, float, float]:
        load_core = time.process_time() + processes.cpu_seconds(self.upstream_pid)
        return server.cpu_seconds(), load_core, processes.machine_busy()


def measure_json(bench: Bench, server: Running) -> Samples:
    """2 KB in, 2 KB out, keep-alive; a twentieth of it first, to warm up."""
    bench.cpu("json", server, "json", CONNECTIONS, bench.scale.json // 20)
    return bench.cpu("json", server, "json", CONNECTIONS, bench.scale.json)


def measure_big(bench: Bench, server: Running) -> Samples:
    """The request of a long session in Claude Code: 200 KB in, 2 KB out."""
    bench.cpu("big", server, "json", CONNECTIONS, bench.scale.big // 20, size=BIG)
    return bench.cpu("big", server, "json", CONNECTIONS, bench.scale.big, size=BIG)


def measure_sse(bench: Bench, server: Running) -> Samples:
    """A streamed answer whose events come without a pause."""
    bench.cpu("sse", server, "fast", CONNECTIONS, bench.scale.sse // 20)
    return bench.cpu("sse", server, "fast", CONNECTIONS, bench.scale.sse)


def measure_paced(bench: Bench, server: Running) -> Samples:
    """Many streams at the pace of a model; their starts are spread so that events do not come in step. To warm up, as many
    without a pause: after them the connections to the upstream are there."""
    streams = bench.scale.streams
    bench.cpu("paced", server, "fast", streams, streams)
    samples = bench.cpu("paced", server, "pace", streams, streams, spread=upstream.PACE)
    return {**samples, "paced": samples["paced"] / payload.PACED_EVENTS}


class Probe:
    """One blocking client on one keep-alive connection: the time to the first byte of each answer."""

    def __init__(self, port: int, size: int) -> None:
        self.request = payload.request("json", port, size)
        self.connection = socket.create_connection(("127.0.0.1", port), 30)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.times: list[float] = []

    def ask(self) -> None:
        """One exchange.

        Raises:
            BrokenAnswersError: the answer was cut or is not a 200.
        """
        started = time.perf_counter()
        self.connection.sendall(self.request)
        data = self.connection.recv(262144)
        self.times.append(time.perf_counter() - started)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        size = load.announced(data[:end])
        while len(data) - end - 4 < size if size is not None else not data.endswith(load.LAST_CHUNK):
            data += self._more()
        if not data.startswith(b"HTTP/1.1 200"):
            raise BrokenAnswersError(f"one client: {data[:80]!r}")

    def _more(self) -> bytes:
        data = self.connection.recv(262144)
        if not data:
            raise BrokenAnswersError("one client: the answer was cut")
        return data

    def percentile(self, share: float) -> float:
        """The time in milliseconds below which `share` of the exchanges stay."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3


def measure_latency(bench: Bench, servers: list[Running]) -> dict[str, Samples]:
    """Direct and through each server, one exchange of each in turn, so that all see the same noise."""
    samples: dict[str, Samples] = {server.name: {} for server in servers}
    for label, size, count in (("2k", SMALL, bench.scale.latency), ("400k", 400 * 1024, bench.scale.large)):
        direct = Probe(bench.upstream_port, size)
        probes = {server.name: Probe(server.port, size) for server in servers}
        _ask_in_turn([direct, *probes.values()], count)
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            base = direct.percentile(share)
            samples.setdefault("direct", {})[f"latency-{label}-{name}"] = base
            for server, probe in probes.items():
                samples[server][f"latency-{label}-{name}"] = probe.percentile(share) - base
    return samples


def _ask_in_turn(probes: list[Probe], count: int) -> None:
    try:
        for _ in range(count // 10):
            for probe in probes:
                probe.ask()
        for probe in probes:
            probe.times.clear()
        for _ in range(count):
            for probe in probes:
                probe.ask()
    finally:
        for probe in probes:
            probe.connection.close()


def measure_life(bench: Bench, contender: Contender) -> Samples:
    """A fresh start: time to the first answered request, memory when all is loaded, and with many streams open."""
    with running(contender, bench.upstream_port, core=bench.proxy_core) as server:
        return {"start": server.started_in} | asyncio.run(_measure_memory(server, bench.scale.held))


async def _measure_memory(server: Running, count: int) -> Samples:
    """Idle memory, and kilobytes (1024) that each of `count` open streams adds to the tree's proportional set size.

    A few streams come first and the figures are taken once they stand still: what a server loads behind its first answer
    (our ledger opens its database in a thread) belongs to the idle memory, not to the streams.
    """
    request, pid = payload.request("hold", server.port), server.process.pid
    async with load.held_streams(server.port, request, 10):
        pass
    idle_rss, idle_pss = await processes.settled_memory(pid)
    async with load.held_streams(server.port, request, count):
        _, pss = await processes.settled_memory(pid)
    return {"idle-rss": idle_rss / 1e6, "idle-pss": idle_pss / 1e6, "stream": max(0, pss - idle_pss) / count / 1024}


SHARED: dict[str, Callable[[Bench, Running], Samples]] = {
    "json": measure_json,
    "big": measure_big,
    "sse": measure_sse,
    "paced": measure_paced,
}
ROWS = (*SHARED, "latency", "memory")
