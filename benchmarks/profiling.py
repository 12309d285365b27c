"""``--profile``: where the CPU time of one row goes, function by function."""

import pstats
import shlex
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import contenders, rows, upstream

DRIVER = Path(__file__).with_name("profiled.py")
PREFIXES = (str(contenders.ROOT / "src") + "/", str(contenders.ROOT) + "/")


@dataclass(frozen=True)
class Spent:
    """One function, per exchange: microseconds of its own, with what it calls, and calls."""

    name: str
    own: float
    total: float
    calls: float


def _shortened(path: str) -> str:
    for prefix in PREFIXES:
        path = path.removeprefix(prefix)
    return path.rpartition("site-packages/")[2]


def spent(stats: Path, exchanges: int) -> list[Spent]:
    """The functions of a cProfile file, the most expensive first."""
    found = []
    for (path, line, name), (_, calls, own, total, _) in pstats.Stats(str(stats)).stats.items():  # type: ignore[attr-defined]
        where = name if path == "~" else f"{_shortened(path)}:{line} {name}"
        found.append(Spent(where, own / exchanges * 1e6, total / exchanges * 1e6, calls / exchanges))
    return sorted(found, key=lambda function: -function.own)


def profiled(command: str | None, stats: Path) -> contenders.Contender:
    """Ours (or the Python script that `command` names) under the profiler."""
    words = shlex.split(command) if command else [contenders.our_script(), "serve"]
    if Path(words[0]).name.startswith("python"):
        words = words[1:]
    inner = shlex.join(words)
    return contenders.claude_proxy(inner, [sys.executable, str(DRIVER), str(stats)])


def take(bench: rows.Bench, command: str | None, row: str, stats: Path) -> int:
    """Profile one sample of `row` into `stats`; the number of exchanges in it.

    Raises:
        StartError: the proxy did not start, or wrote no profile.
    """
    scale = bench.scale
    total = {"json": scale.json // 2, "big": scale.big // 2, "sse": scale.sse // 2, "paced": scale.streams}[row]
    stats.unlink(missing_ok=True)
    with contenders.running(profiled(command, stats), bench.upstream_port, core=bench.proxy_core) as server:
        rows.SHARED[row](bench, server)
        server.process.send_signal(signal.SIGUSR1)
        contenders.answers(server.port)  # the handler runs when the loop wakes
        _repeat(bench, server, row, total)
        server.process.send_signal(signal.SIGUSR2)
        deadline = time.monotonic() + 20
        while not stats.exists():
            if time.monotonic() > deadline:
                raise contenders.StartError("the profiler wrote nothing: is the command a Python script?")
            contenders.answers(server.port)
            time.sleep(0.05)
    return total


def _repeat(bench: rows.Bench, server: contenders.Running, row: str, total: int) -> None:
    kind = {"json": "json", "big": "json", "sse": "fast", "paced": "pace"}[row]
    if row == "paced":
        bench.cpu(row, server, kind, total, total, spread=upstream.PACE)
    else:
        bench.cpu(row, server, kind, rows.CONNECTIONS, total, size=rows.BIG if row == "big" else rows.SMALL)
