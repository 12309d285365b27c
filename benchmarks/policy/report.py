"""From figures to tables, and to the section of docs/resilience.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.policy.simulate import Figures

BEGIN, END = "<!-- simulation: written by python -m benchmarks.policy -->", "<!-- end of simulation -->"

# Heading, name in the figures, digits.
COLUMNS = (
    ("utilisation %", "utilisation", 0),
    ("refusals per 1,000", "refusals", 0),
    ("429 seen %", "visible", 1),
    ("failed %", "failed", 1),
    ("checks over 60 s %", "slow checks", 1),
    ("checks denied %", "denied", 1),
    ("main wait p95 s", "main wait", 0),
    ("share max/min", "share", 2),
)


@dataclass(frozen=True)
class Target:
    """One target: what is looked at, and the bound."""

    name: str
    key: str
    bound: float
    most: bool = True  # the bound is a maximum

    def verdict(self, figures: Figures) -> tuple[str, bool]:
        """The value in words, and whether the target is met; a short run may have no value."""
        value = figures.get(self.key)
        if value is None:
            return "-", True
        return f"{value:.4g}", value <= self.bound if self.most else value >= self.bound


def at_most(name: str, key: str, bound: float) -> Target:
    return Target(name, key, bound)


def at_least(name: str, key: str, bound: float) -> Target:
    return Target(name, key, bound, most=False)


SERVICE = (
    at_most("checks over 60 s %", "slow checks", 1.5),
    at_most("checks denied %", "denied", 0.0),
    at_most("finally failed %", "failed", 0.1),
)
EQUAL = (at_most("share of equal sessions, max/min", "share", 1.1), at_most("the same in 30 min", "share 30 min", 1.3))
LEARNS = (at_most("learns upwards, p90 s", "up p90", 360.0), at_most("learns downwards, median s", "down p50", 30.0))
MOVING_TARGETS = (at_least("utilisation %", "utilisation", 80.0), at_most("refusals per 1,000", "refusals", 170.0), *SERVICE)

TARGETS: dict[str, tuple[Target, ...]] = {
    "1 session x 20 subagents": (*MOVING_TARGETS, at_most("429 seen %", "visible", 5.0), *LEARNS),
    "5 sessions mixed": (*MOVING_TARGETS, at_most("429 seen %", "visible", 10.0), *EQUAL, *LEARNS),
    "12 sessions, overload": (*MOVING_TARGETS, at_most("429 seen %", "visible", 40.0), *EQUAL, *LEARNS),
    "1 session, no subagents": (at_most("429 seen %", "visible", 0.2), *SERVICE),
    "fixed limit, no lag": (at_least("utilisation %", "utilisation", 95.0), at_most("refusals per 1,000", "refusals", 50.0)),
    "fixed limit, lag 0 to 2 s": (
        at_least("utilisation %", "utilisation", 90.0),
        at_most("refusals per 1,000", "refusals", 170.0),
    ),
    "cold start": (at_most("learns a limit of 2 from none, p90 s", "cold p90", 30.0),),
}


def cells(figures: Figures) -> list[str]:
    return [f"{figures[key]:.{digits}f}" for _, key, digits in COLUMNS]


def row(values: list[str]) -> str:
    return "| " + " | ".join(values) + " |"


def comparison(load: str, by_policy: dict[str, Figures]) -> str:
    """One table: the policies under one load."""
    head = [load, *(name for name, _, _ in COLUMNS)]
    lines = [row(head), row(["---"] * len(head))]
    for policy, figures in by_policy.items():
        lines.append(row([f"**{policy}**" if policy == "the rules" else policy, *cells(figures)]))
    return "\n".join(lines)


def verdicts(measured: dict[str, Figures]) -> list[tuple[str, str, str, str, bool]]:
    """For each target: where, what, its bound, the value, whether it is met."""
    found = []
    for name, figures in measured.items():
        for target in TARGETS.get(name, ()):
            value, met = target.verdict(figures)
            found.append((name, target.name, f"{'<=' if target.most else '>='} {target.bound:g}", value, met))
    return found


def markdown(command: str, tables: dict[str, dict[str, Figures]], measured: dict[str, Figures]) -> str:
    """The section of docs/resilience.md."""
    parts = [f"Written by `{command}`."]
    parts += [comparison(load, by_policy) for load, by_policy in tables.items()]
    lines = [row(["", "figure", "target", "measured", "met"]), row(["---"] * 5)]
    lines += [row([name, what, bound, value, "yes" if met else "**no**"]) for name, what, bound, value, met in verdicts(measured)]
    return "\n\n".join([*parts, "\n".join(lines)])


def write(page: Path, section: str) -> None:
    """Replace the section between the markers of `page`.

    Raises:
        ValueError: it has no markers.
    """
    text = page.read_text("utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no lines {BEGIN!r} and {END!r}")
    page.write_text(f"{head}{BEGIN}\n\n{section}\n\n{END}{tail}", "utf-8")
