"""The table of `stats`: all columns, or four if the terminal has less than 100 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from claude_proxy.cli.figures import LIST_PRICES, cost, count, exchanges, named, of_filters, span, tokens
from claude_proxy.cli.output import print_on, say, wide_console
from claude_proxy.ledger.groups import TIMES

MANY = 100  # groups, such as sessions, that a table shows if it was not asked for more
ROOM = 100  # columns of a terminal below which the table is compact
_CLOCK_TIMES = ("hour", "window")
_OFFSET = len("+09:00")
_WHOLE = (*TIMES, "session", "agent")  # ids and times are copied or compared, so they are not broken into lines
_TITLES = {"day": "Date", "window": "Window", "hour": "Hour", "week": "Week from", "month": "Month"}
_ESTIMATED = "~ marks windows that are estimated from your own requests, because the provider gave no reset time."


def print_table(
    report: Mapping[str, Any], *, breakdown: bool, costs: bool, top: int | None, filters: Mapping[str, str] | None = None
) -> None:
    """Print a report of `Books.usage`.

    Args:
        breakdown: a row for each model below each group.
        costs: whether costs are shown.
        top: how many groups to show; None for the default.
        filters: those that the report was made with.
    """
    screen = wide_console()
    if not report["groups"]:
        nothing = f"Nothing was recorded {of_filters(filters or {})}from {span(report)}."
        say(nothing if report["from"] < report["to"] else "That time is yet to come.")
        return
    wide = screen.width >= ROOM
    shown = most_expensive(report) if top is None else report
    print_on(screen, made(shown, wide=wide, breakdown=breakdown, costs=costs))
    if shown is not report:
        groups = count(len(report["groups"]))
        screen.print(Text(f"These are the {MANY} most expensive of {groups}; --last N shows others.", "dim"))
    for line in notes(shown, costs=costs):
        screen.print(Text(line, "dim"))


def most_expensive(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """The report without the groups that nobody reads in a terminal; groups of a time are all shown."""
    if report["by"] in TIMES or len(report["groups"]) <= MANY:
        return report
    return {**report, "groups": report["groups"][:MANY]}


def made(report: Mapping[str, Any], *, wide: bool, breakdown: bool, costs: bool) -> Table:
    """Build the table; compact unless `wide`."""
    table = Table(box=SIMPLE_HEAD, show_footer=False, pad_edge=False)
    by = report["by"]
    table.add_column(_TITLES.get(by, by.capitalize()), overflow="fold", no_wrap=by in _WHOLE)
    owners = accounts(report)
    if owners:
        table.add_column("Account", overflow="fold")
    models_shown = breakdown or by != "model"
    if models_shown:
        table.add_column("Models", overflow="fold")
    for title in ("Input", "Output", *(("Cache Create", "Cache Read", "Total") if wide else ()), *(("Cost",) if costs else ())):
        table.add_column(title, justify="right", no_wrap=True)
    blank = [""] if owners else []
    for number, (name, group) in enumerate(zip(names(report), report["groups"], strict=True)):
        models = ["" if breakdown else "\n".join(group["models"])] if models_shown else []
        table.add_row(name, *owners[number : number + 1], *models, *_figures(group, wide=wide, costs=costs))
        for part in group.get("breakdown", ()):
            table.add_row("", *blank, f"└ {named(part['model'])}", *_figures(part, wide=wide, costs=costs), style="dim")
    table.add_section()
    table.add_row(
        "Total", *blank, *([""] if models_shown else []), *_figures(report["totals"], wide=wide, costs=costs), style="bold"
    )
    return table


def names(report: Mapping[str, Any]) -> list[str]:
    """The groups' names. A clock time has its offset only where two would look the same, when the clock is set back."""
    keys = [named(group["key"]) for group in report["groups"]]
    if report["by"] not in _CLOCK_TIMES:
        return keys
    short = Counter(key[:-_OFFSET] for key in set(keys))  # windows of several accounts may begin at once
    return [(key[:-_OFFSET] if short[key[:-_OFFSET]] == 1 else key).replace("T", " ") for key in keys]


def accounts(report: Mapping[str, Any]) -> list[str]:
    """Each window's account, as `upstream/account`; none where all are of the same."""
    if report["by"] != "window":
        return []
    owners = ["/".join(filter(None, (group["upstream"], group["account"]))) or named(None) for group in report["groups"]]
    return owners if len(set(owners)) > 1 else []


def _figures(sums: Mapping[str, Any], *, wide: bool, costs: bool) -> list[str]:
    found = [count(sums["input_tokens"]), count(sums["output_tokens"])]
    if wide:
        found += [count(sums["cache_creation_input_tokens"]), count(sums["cache_read_input_tokens"]), count(tokens(sums))]
    return [*found, cost(sums)] if costs else found


def notes(report: Mapping[str, Any], *, costs: bool) -> Sequence[str]:
    """Return the lines below the table."""
    totals = report["totals"]
    calls = f"{exchanges(totals['exchanges'])} ({count(totals['failed'])} failed, {count(totals['cancelled'])} cancelled)"
    found = [f"{calls} from {span(report)}."]
    if totals["credits"] is not None:
        found.append(f"Plan credits: {count(totals['credits'])}.")
    if costs:
        found.append(LIST_PRICES)
    if costs and totals["unpriced_exchanges"]:
        found.append(f"No price is known for {exchanges(totals['unpriced_exchanges'])}: not included in the costs.")
    if sum(group["exchanges"] for group in report["groups"]) != totals["exchanges"]:
        found.append("The total includes groups that are not shown.")
    if any(str(group["key"]).startswith("~") for group in report["groups"]):
        found.append(_ESTIMATED)
    return found
