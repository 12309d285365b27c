"""`claude-proxy stats`: tokens and cost of a period, in groups."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from claude_proxy.cli.arguments import AsJson, ConfigFile, DataDir, TimeZone
from claude_proxy.cli.ledger import LedgerPlace, opened, place
from claude_proxy.cli.output import say, write_json
from claude_proxy.cli.stats_table import print_table
from claude_proxy.ledger import csv, when
from claude_proxy.ledger.groups import TIMES, By
from claude_proxy.ledger.periods import PERIODS

if TYPE_CHECKING:
    from claude_proxy.ledger.queries import Books


def _filter(name: str) -> Any:
    return typer.Option(f"--{name}", metavar="NAME", help=f"Only this {name}; '' for exchanges without one.")


def stats(
    by: Annotated[By, typer.Option("--by", help="What each row stands for.")] = "day",
    since: Annotated[str | None, typer.Option(metavar="WHEN", help="7d, 24h, yesterday, 2026-11-28, 2026-11 ...")] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="The same; a day or month is included.")] = None,
    last: Annotated[int | None, typer.Option(min=1, metavar="N", help="The last N days ..., or the N most expensive.")] = None,
    session: Annotated[str | None, _filter("session")] = None,
    project: Annotated[str | None, _filter("project")] = None,
    model: Annotated[str | None, _filter("model")] = None,
    agent: Annotated[str | None, _filter("agent")] = None,
    class_: Annotated[str | None, _filter("class")] = None,
    client: Annotated[str | None, _filter("client")] = None,
    upstream: Annotated[str | None, _filter("upstream")] = None,
    account: Annotated[str | None, _filter("account")] = None,
    timezone: TimeZone = None,
    breakdown: Annotated[bool, typer.Option("--breakdown", help="A row for each model below each group.")] = False,
    no_cost: Annotated[bool, typer.Option("--no-cost", help="Leave costs out of the table.")] = False,
    form: Annotated[Literal["table", "json", "csv"], typer.Option("--format", help="How to print it.")] = "table",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Add up what was recorded: tokens as the upstream reported them, costs at API list price.

    Filters apply to the numbers, not only to the rows: `--model X --by session` counts only what each session used of X. Reads
    the ledger of the proxy that the settings describe; the proxy need not be running.
    """
    given = {"session": session, "project": project, "model": model, "agent": agent, "class": class_, "client": client}
    given |= {"upstream": upstream, "account": account}
    if as_json and form == "csv":
        raise typer.BadParameter("--json means --format json; it cannot be combined with --format csv.")
    filters = {name: text for name, text in given.items() if text is not None}
    at = place(config, data_dir, timezone)
    with opened(at) as books:
        report = reported(books, at, by, since, until, last, filters=filters, breakdown=breakdown)
    if as_json or form == "json":
        write_json(report)
    elif form == "csv":
        say(csv.usage(report, breakdown=breakdown).decode().replace("\r\n", "\n").rstrip())
    else:
        print_table(report, breakdown=breakdown, costs=not no_cost, top=last, filters=filters)


def reported(
    books: Books, at: LedgerPlace, by: By, since: str | None, until: str | None, last: int | None, **more: Any
) -> dict[str, Any]:
    """Return the sums in the form of `GET /api/v1/usage`, limited to the `last` groups.

    The totals cover only these groups if they are of a time, otherwise everything. The last periods include those without
    exchanges; the last windows are those that there were.

    Args:
        more: further arguments of `Books.usage`.

    Raises:
        ValueError: an option is invalid.
        NotReadable: the ledger cannot be read.
    """
    now = time.time()
    start = None if since is None else when.moment(since, at.where, now)
    end = None if until is None else when.moment(until, at.where, now, end=True)
    when.check_order(start, end)
    if last is not None and by in PERIODS:
        start = max(start or 0.0, when.last(by, last, at.where, now if end is None else min(end - 1, now)))
    latest = last if by in TIMES and by not in PERIODS else None
    report = books.usage(by, since=start, until=end, timezone=at.timezone, last=latest, **more)
    return report if last is None or by in TIMES else report | {"groups": report["groups"][:last]}
