"""The command ``python -m benchmarks``."""

import dataclasses
import datetime
import json
import os
import shlex
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import contenders, processes, profiling, report, rows
from benchmarks.results import Results

PAGE = contenders.ROOT / "docs/benchmarks.md"
EXAMPLES = """\
Examples:

  python -m benchmarks                                   the whole run, about five minutes; writes docs/benchmarks.md

  python -m benchmarks --quick                           half a minute: does the command work?

  python -m benchmarks --rows json,paced --repeats 5     two rows, printed only

  python -m benchmarks --with caddy,haproxy              two more columns

  python -m benchmarks --profile json                    where our CPU time of that row goes

  python -m benchmarks --proxy-command 'python proxy.py' measure something else in our place (HOST, PORT and
  BASE_URL come by environment)
"""

console = Console(stderr=True, soft_wrap=True, highlight=False)
app = typer.Typer(add_completion=False, rich_markup_mode="rich")


def _names(text: str, known: tuple[str, ...], what: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{what} {name!r} is unknown; there are {', '.join(known)}")
    return names


def _shared_rows(bench: rows.Bench, servers: list[contenders.Running], chosen: list[str], results: Results) -> None:
    """One repeat of the rows that running servers share, server by server within each row."""
    for row in chosen:
        if row in rows.SHARED:
            for server in servers:
                samples = rows.SHARED[row](bench, server)
                results.add(server.name, samples)
                console.print(f"  {row:<8} {server.name:<13} {samples[row]:8.1f} us")
    if "latency" in chosen:
        for name, samples in rows.measure_latency(bench, servers).items():
            results.add(name, samples)
            console.print(
                f"  latency  {name:<13} " + ", ".join(f"{key[8:]} {value:.2f}" for key, value in samples.items()) + " ms"
            )


def _life_row(bench: rows.Bench, compared: list[contenders.Contender], results: Results) -> None:
    """One repeat of the rows that need a fresh start."""
    for contender in compared:
        samples = rows.measure_life(bench, contender)
        results.add(contender.name, samples)
        console.print(
            f"  memory   {contender.name:<13} start {samples['start']:.2f} s, idle {samples['idle-rss']:.1f} MB, "
            f"per stream {samples['stream']:.1f} KiB"
        )


def _compare(bench: rows.Bench, compared: list[contenders.Contender], chosen: list[str], results: Results) -> None:
    """All repeats. The servers stay up between them, but for the rows about starting."""
    with ExitStack() as stack:
        servers = [stack.enter_context(contenders.running(one, bench.upstream_port, core=bench.proxy_core)) for one in compared]
        for repeat in range(bench.scale.repeats):
            console.print(f"[bold]repeat {repeat + 1} of {bench.scale.repeats}")
            _shared_rows(bench, servers, chosen, results)
    if "memory" in chosen:
        for _ in range(bench.scale.repeats):
            _life_row(bench, compared, results)


def _contenders(rivals: list[str], command: str | None, results: Results) -> list[contenders.Contender]:
    compared = []
    for name in ["nginx", *rivals]:
        rival = contenders.find(name, console.print)
        if rival is None:
            results.notes.append(f"{name} is not installed, so it was not measured.")
            console.print(f"[bold red]{results.notes[-1]}")
        else:
            compared.append(rival)
    compared += [contenders.bare(), contenders.claude_proxy(command)]
    results.versions = {one.name: one.version for one in compared}
    return compared


def _show(results: Results) -> None:
    table = Table(title="benchmarks")
    for head in ["", *report.servers(results), f"ratio to {contenders.BARE}", "budget", "kept"]:
        table.add_column(head, justify="left" if not head else "right")
    for line in report.lines(results):
        colour = {"no": "red", "unknown": "yellow", "-": "dim"}.get(line.kept, "green")
        kept = f"[{colour}]{line.kept}[/{colour}]"
        table.add_row(line.title.replace("[", "\\["), *line.cells, line.ratio, line.budget, kept)
    _wide().print(table)


def _wide() -> Console:
    """Standard output; where it is not a terminal, wide enough that no line breaks."""
    return Console(width=None if sys.stdout.isatty() else 170)


def _profile(bench: rows.Bench, command: str | None, row: str) -> None:
    stats = Path(tempfile.gettempdir()) / f"claude-proxy-{row}-{os.getpid()}.prof"
    exchanges = profiling.take(bench, command, row, stats)
    table = Table(title=f"{row}: per exchange, by cProfile (which slows calls of Python functions the most)")
    for head in ("own us", "with callees us", "calls", "function"):
        table.add_column(head, justify="left" if head == "function" else "right", no_wrap=True)
    functions = profiling.spent(stats, exchanges)
    for one in functions[:50]:
        table.add_row(f"{one.own:.2f}", f"{one.total:.2f}", f"{one.calls:.2f}", one.name.replace("[", "\\["))
    _wide().print(table)
    console.print(f"sum of own: {sum(one.own for one in functions):.1f} us. The file, for snakeviz or pstats: {stats}")


def _results() -> Results:
    """Empty results that know their circumstances; where the run writes to is not one of them."""
    words = ["python", "-m", "benchmarks", *sys.argv[1:]]
    for option in ("--json", "--output"):
        if option in words:
            place = words.index(option)
            del words[place : place + 2]
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Results(shlex.join(words), now, processes.machine(), processes.idle_share())


def _run(scale: rows.Scale, wanted: list[str], rivals: list[str], command: str | None, profile: str | None) -> Results | None:
    """Measure, or with `profile` show where one row's time goes (then there are no results)."""
    results = _results()
    processes.end_in_order()
    processes.raise_open_files()
    proxy_core, load_core = processes.cores()
    with processes.on_core(load_core), contenders.mock_upstream(load_core) as (port, pid):
        bench = rows.Bench(scale, port, pid, proxy_core)
        if profile is not None:
            _profile(bench, command, profile)
            return None
        _compare(bench, _contenders(rivals, command, results), wanted, results)
    return results


@app.command(epilog=EXAMPLES)
def main(
    chosen: Annotated[str, typer.Option("--rows", help=f"Which rows: {', '.join(rows.ROWS)}.")] = ",".join(rows.ROWS),
    repeats: Annotated[int | None, typer.Option(min=1, max=50, help="Repeats of each row; 3, with --quick 1.")] = None,
    rivals: Annotated[str, typer.Option("--with", help="More servers to compare: caddy, haproxy.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="A small run that shows that everything works.")] = False,
    profile: Annotated[str | None, typer.Option(help=f"Profile the proxy in one row ({', '.join(rows.SHARED)}) instead.")] = None,
    proxy_command: Annotated[str | None, typer.Option(help="Measure this command instead of `claude-proxy serve`.")] = None,
    output: Annotated[Path | None, typer.Option(help="Where to write the page; a full run writes docs/benchmarks.md.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every sample to this file.")] = None,
) -> None:
    """Compare claude-proxy with nginx and a bare proxy on the same libraries, in front of one mock upstream, on this machine.

    The budgets are ratios to the bare proxy, because those hardly depend on the machine.
    """
    if sys.platform != "linux":
        raise typer.BadParameter("the figures come from /proc: run it on Linux (Docker is enough)")
    wanted = _names(chosen, rows.ROWS, "row")
    others = _names(rivals, tuple(contenders.RIVALS), "server")
    if profile is not None:
        _names(profile, tuple(rows.SHARED), "row to profile")
    scale = rows.QUICK if quick else rows.FULL
    try:
        results = _run(dataclasses.replace(scale, repeats=repeats or scale.repeats), wanted, others, proxy_command, profile)
    except (contenders.StartError, rows.BrokenAnswersError) as error:
        console.print(f"[bold red]{escape(str(error))}")
        raise typer.Exit(1) from error
    if results is None:
        return
    _show(results)
    if json_file is not None:
        json_file.write_text(json.dumps(dataclasses.asdict(results), indent=2) + "\n")
    complete = not quick and not proxy_command and set(wanted) == set(rows.ROWS)
    if page := output or (PAGE if complete else None):
        page.write_text(report.markdown(results))
        console.print(f"wrote {page}")


if __name__ == "__main__":
    app()
