"""From results to words: the metrics, their budgets, the table and the page."""

from dataclasses import dataclass
from pathlib import Path
from string import Template

from benchmarks.contenders import BARE, OURS
from benchmarks.results import Results

TEMPLATE = Path(__file__).with_name("template.md")


@dataclass(frozen=True)
class Metric:
    """One line of the table. A budget bounds our figure itself or, with `relative`, its ratio to the yardstick `bare`."""

    title: str
    unit: str
    digits: int
    budget: float | None = None
    relative: bool = False
    aim: float | None = None
    below: str | None = None  # a server that we have to beat where it was measured


METRICS = {
    "json": Metric("CPU per 2 KB JSON exchange", "us", 1, 2.1, relative=True, aim=1.8, below="caddy"),
    "big": Metric("CPU per exchange with a 200 KB request", "us", 0, 2000),
    "sse": Metric("CPU per SSE answer, 53 events at once", "us", 0, 1.5, relative=True, aim=1.3),
    "paced": Metric("CPU per paced SSE event", "us", 1, 1.1, relative=True, aim=0.95),
    "latency-2k-p50": Metric("added time to first byte, 2 KB request, p50", "ms", 2, 0.5),
    "latency-2k-p99": Metric("added time to first byte, 2 KB request, p99", "ms", 2, 2.0),
    "latency-400k-p50": Metric("added time to first byte, 400 KB request, p50", "ms", 2),
    "latency-400k-p99": Metric("added time to first byte, 400 KB request, p99", "ms", 2),
    "idle-rss": Metric("memory idle, resident", "MB", 1, 90, aim=60),
    "idle-pss": Metric("memory idle, proportional share", "MB", 1),
    "stream": Metric("memory per open stream", "KiB", 1, 24),
    "start": Metric("start to the first answered request", "s", 2, 2.0, aim=1.0),
}


@dataclass(frozen=True)
class Line:
    """One rendered line: the cells of the servers, then ratio, budget and verdict."""

    title: str
    cells: list[str]
    ratio: str
    budget: str
    kept: str


def servers(results: Results) -> list[str]:
    """The measured servers: nginx first, then the others, the yardstick and ours last."""
    names = {name for row in results.samples.values() for name in row} - {"direct"}
    return sorted(names, key=lambda name: (name == OURS, name == BARE, name != "nginx", name))


def figure(results: Results, key: str, server: str) -> str:
    """Median and spread of one cell, or a dash."""
    metric, values = METRICS[key], results.samples[key].get(server)
    if not values:
        return "-"
    middle = f"{results.median(key, server):.{metric.digits}f}"
    low, high = (f"{edge(values):.{metric.digits}f}" for edge in (min, max))
    return middle if low == high else f"{middle} ({low} to {high})"


def verdict(results: Results, key: str) -> str:
    """``yes``, ``yes, aim too``, ``no`` or ``unknown`` (no budget: a dash)."""
    metric = METRICS[key]
    value = results.ratio(key) if metric.relative else results.median(key, OURS)
    if metric.budget is None:
        return "-"
    if value is None:
        return "unknown"
    ours, rival = results.median(key, OURS), results.median(key, metric.below) if metric.below else None
    if value > metric.budget or (rival is not None and ours is not None and ours >= rival):
        return "no"
    return "yes, aim too" if metric.aim is not None and value <= metric.aim else "yes"


def budget(metric: Metric) -> str:
    """The budget in words."""
    if metric.budget is None:
        return "-"
    unit = f"x {BARE}" if metric.relative else f" {metric.unit}"
    words = f"<= {metric.budget:g}{unit}"
    if metric.below:
        words += f", below {metric.below}"
    return words if metric.aim is None else f"{words} (aim {metric.aim:g})"


def lines(results: Results) -> list[Line]:
    """The table, one line per measured metric."""
    found = []
    for key, metric in METRICS.items():
        if key not in results.samples:
            continue
        ratio = results.ratio(key)
        found.append(
            Line(
                title=f"{metric.title} [{metric.unit}]",
                cells=[figure(results, key, server) for server in servers(results)],
                ratio="-" if ratio is None or key.startswith("latency") else f"{ratio:.2f}",
                budget=budget(metric),
                kept=verdict(results, key),
            )
        )
    return found


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(results: Results) -> str:
    """The figures as a Markdown table."""
    head = ["", *servers(results), f"ratio to {BARE}", "budget", "kept"]
    rows = [_row(head), _row(["---"] * len(head))]
    rows += [_row([line.title, *line.cells, line.ratio, line.budget, line.kept]) for line in lines(results)]
    return "\n".join(rows)


def load_shares(results: Results) -> str:
    """How busy each core was, so that a reader sees what was the limit."""
    rows = [_row(["row", "server", "proxy's core", "load generator's core", "other work, of one core"]), _row(["---"] * 5)]
    for key in ("json", "big", "sse", "paced"):
        for server in servers(results):
            shares = [results.median(f"{key}-{name}", server) for name in ("proxy-core", "load-core", "others")]
            if None not in shares:
                rows.append(_row([key, server, *(f"{share:.0%}" for share in shares)]))
    return "\n".join(rows)


def markdown(results: Results) -> str:
    """The page ``docs/benchmarks.md``."""
    quiet = "quiet" if results.idle_share >= 0.9 else "BUSY with other work: ratios hold better than figures"
    return Template(TEMPLATE.read_text()).substitute(
        table=table(results),
        shares=load_shares(results),
        command=results.command,
        date=results.date,
        machine=results.machine,
        quiet=f"{results.idle_share:.0%} idle before the run ({quiet})",
        versions="\n".join(f"- {name}: {version}" for name, version in results.versions.items()),
        notes="\n".join(f"\n> {note}" for note in results.notes),
        repeats=max((len(values) for row in results.samples.values() for values in row.values()), default=0),
    )
