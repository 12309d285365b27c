"""`claude-proxy sessions`: Claude Code's sessions and their sums."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from claude_proxy.cli.arguments import AsJson, ConfigFile, DataDir, TimeZone
from claude_proxy.cli.figures import LIST_PRICES, clock, cost, count, named, of_filters, tokens
from claude_proxy.cli.ledger import opened, place
from claude_proxy.cli.output import print_on, say, wide_console, write_json

if TYPE_CHECKING:
    from rich.console import Console

_UNLIMITED = 10_000  # columns
_ID = 36  # characters of Claude Code's session ids


def sessions(
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Most sessions to list.")] = 20,
    before: Annotated[str | None, typer.Option(metavar="CURSOR", help="`next` of the previous page (--json).")] = None,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this project.")] = None,
    timezone: TimeZone = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """List sessions with their tokens and cost, most recently active first. The sums cover each whole session."""
    at = place(config, data_dir, timezone)
    with opened(at) as books:
        page = books.sessions(limit, before, project=project)
    if as_json:
        write_json(page)
    elif not page["items"]:
        of_project = of_filters({} if project is None else {"project": project})
        say(f"No {'more ' if before else ''}sessions {of_project}are recorded.")
    else:
        screen = wide_console()
        print_on(screen, fitting(screen, page["items"], at.where))
        more = f" More: --before {page['next']}" if page["next"] else ""
        screen.print(Text(f"{LIST_PRICES} Times are {at.timezone}.{more}", "dim"))


def fitting(screen: Console, items: Sequence[dict[str, Any]], where: tzinfo) -> Table:
    """The table with a column for everything, or a compact one if the terminal is too narrow for that."""
    wide = table(items, where)
    if not screen.is_terminal and "COLUMNS" not in os.environ:
        return wide
    unlimited = screen.options.update(max_width=_UNLIMITED)
    return wide if screen.measure(wide, options=unlimited).maximum <= screen.width else compact(items, where)


def compact(items: Sequence[dict[str, Any]], where: tzinfo) -> Table:
    """Build the table with project, models and agents below the session's id, which can still be copied."""
    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    made.add_column("Last seen", no_wrap=True)
    made.add_column("Session", overflow="fold", min_width=_ID)
    for title in ("Tokens", "Cost"):
        made.add_column(title, justify="right", no_wrap=True)
    for item in items:
        agents = sum(part["agent"] is not None for part in item["agents"])
        about = [item["project"], *item["models"], f"{agents} agent{'' if agents == 1 else 's'}" if agents else None]
        about.append(f"{count(item['failed'])} failed" if item["failed"] else None)
        session = Text(named(item["session"])).append("\n" + " · ".join(filter(None, about)), "dim")
        made.add_row(clock(item["last_seen"], where, "%m-%d %H:%M"), session, count(tokens(item)), cost(item))
    return made


def table(items: Sequence[dict[str, Any]], where: tzinfo) -> Table:
    """Build the table of sessions."""
    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("Last seen", "Session", "Project", "Models"):
        made.add_column(title, overflow="fold")
    for title in ("Agents", "Exchanges", "Failed", "Tokens", "Cost"):
        made.add_column(title, justify="right", no_wrap=True)
    for item in items:
        agents = sum(part["agent"] is not None for part in item["agents"])
        made.add_row(
            *(clock(item["last_seen"], where, "%Y-%m-%d %H:%M"), named(item["session"]), item["project"] or "-"),
            *("\n".join(item["models"]), count(agents), count(item["exchanges"]), count(item["failed"])),
            *(count(tokens(item)), cost(item)),
        )
    return made
