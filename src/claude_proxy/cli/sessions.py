"""`claude-proxy sessions`: Claude Code's sessions and their sums."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from claude_proxy.cli.arguments import AsJson, ConfigFile, DataDir, TimeZone
from claude_proxy.cli.figures import LIST_PRICES, clock, cost, count, named, tokens
from claude_proxy.cli.ledger import opened, place
from claude_proxy.cli.output import say, wide_console, write_json


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
        say("No sessions are recorded.")
    else:
        screen = wide_console()
        screen.print(table(page["items"], at.where))
        more = f" More: --before {page['next']}" if page["next"] else ""
        screen.print(Text(f"{LIST_PRICES} Times are {at.timezone}.{more}", "dim"))


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
