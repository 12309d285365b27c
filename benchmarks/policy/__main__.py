"""The command ``python -m benchmarks.policy``."""

from __future__ import annotations

import json
import shlex
import statistics
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.contenders import ROOT
from benchmarks.policy import report
from benchmarks.policy.loads import LIGHT, LOADS, Load
from benchmarks.policy.policies import POLICIES
from benchmarks.policy.simulate import Figures, Run, simulate
from benchmarks.policy.world import COLD, FIXED, LAGGING, MOVING, Scenario

PAGE = ROOT / "docs/resilience.md"
RULES = "the rules"
EXAMPLES = """\
Examples:

  python -m benchmarks.policy                            two simulated hours, three seeds; printed only

  python -m benchmarks.policy --hours 4 --seeds 32       what docs/resilience.md shows; some minutes of CPU time

  python -m benchmarks.policy --policy "the rules,AIMD"  two policies

  python -m benchmarks.policy --accounts 10 --hours 0.5 --policy "the rules"   many accounts, and as many times the sessions

Ten times the accounts, and the sessions with them, take about forty times the time: any account may take any waiting request.

  python -m benchmarks.policy --output docs/resilience.md   writes the tables there
"""

console = Console(stderr=True, soft_wrap=True, highlight=False)
app = typer.Typer(add_completion=False, rich_markup_mode="rich")


def mean(found: list[Figures]) -> Figures:
    """The mean of each figure over the seeds that have it."""
    names = dict.fromkeys(name for figures in found for name in figures)
    return {name: statistics.fmean(figures[name] for figures in found if name in figures) for name in names}


def chosen(text: str, known: Iterable[str], what: str) -> list[str]:
    names = [name.strip() for name in text.split(";" if ";" in text else ",") if name.strip()]
    names = names or list(known)
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{what} {name!r} is unknown; there are: {'; '.join(known)}")
    return names


def comparisons(policies: list[str], loads: list[Load]) -> Iterator[tuple[str, str, Load, Scenario]]:
    """What is simulated: the table's cells, then what only the targets look at."""
    for load in loads:
        yield from ((load.name, policy, load, MOVING) for policy in policies)
    if RULES in policies:
        yield LIGHT.name, RULES, LIGHT, MOVING
        for scenario in (FIXED, LAGGING, COLD):
            yield scenario.name, RULES, LOADS[1], scenario


def show(tables: dict[str, dict[str, Figures]], measured: dict[str, Figures]) -> None:
    """Print the tables."""
    out = Console(width=None if sys.stdout.isatty() else 170)
    for load, by_policy in tables.items():
        table = Table(title=load)
        for head in ["", *(name for name, _, _ in report.COLUMNS)]:
            table.add_column(head, justify="right" if head else "left")
        for policy, figures in by_policy.items():
            table.add_row(policy, *report.cells(figures))
        out.print(table)
    table = Table(title="targets")
    for head in ("", "figure", "target", "measured", "met"):
        table.add_column(head)
    for name, what, bound, value, met in report.verdicts(measured):
        table.add_row(name, what, bound, value, "[green]yes" if met else "[red]no")
    if table.row_count:
        out.print(table)


@app.command(epilog=EXAMPLES)
def main(
    hours: Annotated[float, typer.Option(min=0.05, max=100, help="Simulated hours of each run.")] = 2.0,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Runs of each cell; its figure is their mean.")] = 3,
    first_seed: Annotated[int, typer.Option("--first-seed", help="The seeds are this number and the next ones.")] = 1,
    policy: Annotated[str, typer.Option(help="Policies, separated by semicolons or commas; without: all.")] = "",
    load: Annotated[str, typer.Option(help="Loads, separated by semicolons; without: all.")] = "",
    accounts: Annotated[int, typer.Option(min=1, max=1000, help="How many accounts; sessions are multiplied by it.")] = 1,
    output: Annotated[Path | None, typer.Option(help="Write the tables into this page, between its markers.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every run's figures to this file.")] = None,
) -> None:
    """Simulate the queue against accounts with hidden, moving limits, and compare it with other policies.

    The same seeds give the same figures. One core is used.
    """
    policies = [RULES, *POLICIES] if not policy else chosen(policy, POLICIES, "policy")
    policies = list(dict.fromkeys(policies))
    by_name = {one.name: one for one in LOADS}
    loads = [by_name[name] for name in ([*by_name] if not load else chosen(f"{load};", by_name, "load"))]
    wanted = range(first_seed, first_seed + seeds)
    runs: list[dict[str, object]] = []
    tables: dict[str, dict[str, Figures]] = {one.name: {} for one in loads}
    measured: dict[str, Figures] = {}
    console.print(f"seeds {', '.join(map(str, wanted))}; {hours:g} simulated hours each; {accounts} account(s)")
    cells = list(comparisons(policies, loads))
    for name, which, one, scenario in track(
        cells, "simulating", console=console, transient=True, disable=not sys.stderr.isatty()
    ):
        found = []
        for seed in wanted:
            figures = simulate(Run(which, one, scenario, hours, seed, accounts))
            found.append(figures)
            runs.append({"name": name, "policy": which, "seed": seed, "hours": hours, "accounts": accounts, **figures})
        if name in tables:
            tables[name][which] = mean(found)
        if which == RULES:
            measured[name] = mean(found)
    show(tables, measured)
    if json_file is not None:
        json_file.write_text(json.dumps(runs, indent=2) + "\n", "utf-8")
    if output is not None:
        words = [word for word in sys.argv[1:] if word not in ("--output", str(output))]
        report.write(output, report.markdown(shlex.join(["python", "-m", "benchmarks.policy", *words]), tables, measured))
        console.print(f"wrote {output}")


if __name__ == "__main__":
    app()
