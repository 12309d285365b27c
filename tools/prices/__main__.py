"""`make prices`: compares our prices with the price packages and writes the packaged price table.

Ours stand in `ours.toml`. A model that is not there is added if every package knows it and all agree. Each difference between
ours and a package has to stand in `explained.toml` with its reason; otherwise nothing is written and the exit code is 1.

With `--check` nothing is written, and a table that would come out differently is an error as well.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from claude_proxy.ledger.prices.rates import Price
from claude_proxy.ledger.prices.read import parse
from claude_proxy.ledger.prices.table import Rows
from tools.prices.sources import SOURCES, Figures, of_ours

HERE = Path(__file__).parent
OURS = HERE / "ours.toml"
EXPLAINED = HERE / "explained.toml"
TABLE = HERE.parents[1] / "src" / "claude_proxy" / "ledger" / "prices.toml"
_COLUMNS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
_HEADER = """\
# Made by `make prices` from tools/prices/ours.toml and, at its end, the models on which the price packages agree.
# Change tools/prices/ours.toml, not this file.

"""


class Difference(NamedTuple):
    """One figure that a source states and we do not, or the other way round, or both differently; None for not stated."""

    provider: str
    model: str
    source: str
    figure: str
    ours: Decimal | None
    theirs: Decimal | None

    def __str__(self) -> str:
        return f"{self.provider}/{self.model} {self.figure}: ours {_text(self.ours)}, {self.source} {_text(self.theirs)}"


class Explanations:
    """What `explained.toml` says."""

    def __init__(self, text: str) -> None:
        given = tomllib.loads(text, parse_float=Decimal)
        self.at: datetime = given["at"]
        self.defaults: dict[str, Figures] = {
            provider: {name: Decimal(value) for name, value in figures.items()}
            for provider, figures in given.get("defaults", {}).items()
        }
        self._reasons = {
            (row["provider"], row["model"], row["source"], figure, _text(theirs)): row["reason"]
            for row in given.get("difference", ())
            for figure, theirs in row["theirs"].items()
        }
        self._left_out = {(row["provider"], name): row["reason"] for row in given.get("left_out", ()) for name in row["models"]}
        self._used: set[tuple[str, ...]] = set()

    def explains(self, found: Difference) -> bool:
        key = (found.provider, found.model, found.source, found.figure, _text(found.theirs))
        self._used.add(key)
        return key in self._reasons

    def leaves_out(self, provider: str, model: str) -> bool:
        self._used.add((provider, model))
        return (provider, model) in self._left_out

    def stale(self) -> list[str]:
        """Entries that explain nothing any more."""
        return [" ".join(key) for key in (*self._reasons, *self._left_out) if key not in self._used]


def _text(value: object) -> str:
    return "none" if value in (None, "none") else f"{Decimal(str(value)).normalize():f}"


def current(rows: Rows, at: datetime) -> Iterator[tuple[str, str, Price]]:
    """Each of our models with the price in force."""
    for (provider, model), prices in rows.prices.items():
        yield provider, model, next(price for price in prices if price.starts <= at.timestamp())


def differences(rows: Rows, at: datetime) -> Iterator[Difference]:
    """Where a source contradicts us. A figure that a source leaves out is none, but for whole tiers and modes."""
    for provider, model, price in current(rows, at):
        ours = of_ours(price)
        for source in SOURCES:
            theirs = source.figures(provider, model, at)
            if theirs is None:
                continue
            for figure in sorted({*ours, *theirs}):
                mine, other = ours.get(figure), theirs.get(figure)
                if mine == other or (other is None and (" " not in figure or not figure.startswith("input"))):
                    continue
                yield Difference(provider, model, source.name, figure, mine, other)


def unsupported(rows: Rows, at: datetime) -> Iterator[tuple[str, str]]:
    """Models of ours that no source knows."""
    for provider, model, _ in current(rows, at):
        if all(source.figures(provider, model, at) is None for source in SOURCES):
            yield provider, model


def additions(rows: Rows, at: datetime) -> Iterator[tuple[str, str, Figures | None]]:
    """Models that we do not list and every source does; the figures are None where the sources disagree."""
    for provider in sorted(rows.providers):
        shared = set.intersection(*({*source.models(provider)} for source in SOURCES))
        for name in sorted(shared - {model for other, model in rows.prices if other == provider}):
            spelled = SOURCES[-1].models(provider)[name]
            found = [source.figures(provider, spelled, at) or {} for source in SOURCES]
            agreed = all(one[figure] == other[figure] for one in found for other in found for figure in {*one} & {*other})
            yield provider, spelled, {**found[0], **found[1]} if agreed else None


def row(provider: str, model: str, figures: Figures) -> str:
    """A `[[price]]` entry.

    Raises:
        ValueError: a long prompt does not multiply all figures alike, which the format has no words for.
    """
    lines = ["[[price]]", f'provider = "{provider}"', f'model = "{model}"']
    lines += [f"{name} = {_text(figures[name])}" for name in _COLUMNS if name in figures]
    tiers = []
    for above in sorted({int(figure.partition(" above ")[2]) for figure in figures if " above " in figure}):
        factors = {figures[f"{name} above {above}"] / figures[name] for name in _COLUMNS if f"{name} above {above}" in figures}
        if len(factors) != 1:
            raise ValueError(f"{provider}/{model}: several factors above {above}")
        tiers.append(f"{{above = {above}, factor = {_text(factors.pop())}}}")
    return "\n".join([*lines, *([f"tiers = [{', '.join(tiers)}]"] if tiers else [])]) + "\n"


def run(ours: str, explained: str) -> tuple[str, list[str]]:
    """The table, and what stands in its way.

    Args:
        ours: text of `ours.toml`.
        explained: text of `explained.toml`.
    """
    rows, explanations = parse(ours), Explanations(explained)
    at = explanations.at
    problems = [f"not explained: {found}" for found in differences(rows, at) if not explanations.explains(found)]
    problems += [
        f"known to no package: {provider}/{model}"
        for provider, model in unsupported(rows, at)
        if not explanations.leaves_out(provider, model)
    ]
    added = []
    scheduled = {provider for provider, _, price in current(rows, at) if price.schedule is not None}
    for provider, model, figures in additions(rows, at):
        if explanations.leaves_out(provider, model):
            continue
        if figures is None:
            problems.append(f"the packages disagree: {provider}/{model}")
        elif provider in scheduled:
            problems.append(f"peak hours have to be stated by hand: {provider}/{model}")
        else:
            added.append(row(provider, model, explanations.defaults.get(provider, {}) | figures))
    problems += [f"explained, but no difference: {entry}" for entry in explanations.stale()]
    sources = " and ".join(f"{source.name} {source.version}" for source in SOURCES)
    table = "\n".join([_HEADER + ours, f"# From {sources}, which agree.\n", *added])
    parse(table)
    return table, problems


def main(arguments: list[str]) -> int:
    table, problems = run(OURS.read_text(encoding="utf-8"), EXPLAINED.read_text(encoding="utf-8"))
    if "--check" in arguments and TABLE.read_text(encoding="utf-8") != table:
        problems.append(f"{TABLE.name} is not what `make prices` would write")
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    if problems:
        sys.stdout.write("Correct tools/prices/ours.toml, or say in tools/prices/explained.toml why ours stands.\n")
        return 1
    if "--check" not in arguments:
        TABLE.write_text(table, encoding="utf-8")
        sys.stdout.write(f"wrote {TABLE.name}: {table.count('[[price]]')} prices\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
