"""`claude-proxy reprice`: computes recorded costs again after the price table has changed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, TypeVar
from urllib.parse import urlsplit

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from claude_proxy.cli.arguments import AsJson, ConfigFile, DataDir, TimeZone
from claude_proxy.cli.figures import UNPRICED, count, dollars, exchanges, named
from claude_proxy.cli.ledger import LedgerPlace, need_file, place, reporting_errors
from claude_proxy.cli.output import print_on, say, wide_console, write_json
from claude_proxy.ledger import prices, when
from claude_proxy.ledger.options import FILE, NotReadable

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from claude_proxy.ledger.repricing import Change, Repricing, Sums

NANO = 10**9
T = TypeVar("T")


def reprice(
    since: Annotated[str, typer.Option(metavar="WHEN", help="The first exchanges to change: 30d, 2026-11-01, 2026-11 ...")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    timezone: TimeZone = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Compute the costs and plan credits of recorded exchanges again with the current price table, including your own prices.

    Each exchange gets the price that was valid when it was sent. The command first prints what changes, and asks on a terminal;
    without one it needs --yes. Sums and exchanges change together, and the proxy may be running.
    """
    at = place(config, data_dir, timezone)
    with reporting_errors(at):
        need_file(at.options)
        work = _prepared(at, since)
        changes = _guarded(lambda: work.changes(_engine(at, reading=True)))
        _say_changes(changes, work.looked_at, as_json)
        if not as_json and any(change.old_price is None for change in changes):
            _say_hosts(at)
        if not changes or dry_run or not _agreed(yes, as_json):
            return
        changed = _guarded(lambda: work.apply(_engine(at, reading=False)))
    if not as_json:
        say(f"Done: {exchanges(changed)} changed.")


def _prepared(at: LedgerPlace, since: str) -> Repricing:
    from claude_proxy.ledger.repricing import Repricing

    now = time.time()
    loaded = prices.load(prices.user_file())
    if loaded.problem is not None:
        say(loaded.problem, err=True)
    hosts = {one.name: urlsplit(one.base_url).hostname or "" for one in at.loaded.upstreams}
    return Repricing(loaded.prices, hosts, since=when.moment(since, at.where, now), until=now)


def _engine(at: LedgerPlace, *, reading: bool) -> Engine:
    from claude_proxy.ledger.database import file_connect, postgres_engine, sqlite_engine

    if at.options.database_url is not None:
        return postgres_engine(at.options.database_url, reading=reading)
    return sqlite_engine(file_connect(at.options.data_dir / FILE, make=False), reading=reading)


def _guarded(work: Callable[[], T]) -> T:
    """Call `work`; raise NotReadable after a database error."""
    from sqlalchemy.exc import DBAPIError

    from claude_proxy.ledger.database import trouble

    try:
        return work()
    except DBAPIError as error:
        raise NotReadable(f"The ledger cannot be used: {trouble(error).reason}.") from None


def _agreed(yes: bool, as_json: bool) -> bool:
    if yes:
        return True
    if sys.stdin.isatty() and sys.stdout.isatty() and not as_json:
        return typer.confirm("Apply the changes?")
    say("Nothing was changed. Use --yes to apply the changes.", err=True)
    return False


def _say_hosts(at: LedgerPlace) -> None:
    """An exchange without a price takes its provider from the settings; those of this shell may not be the proxy's."""
    hosts = ", ".join(f"{one.name} is {urlsplit(one.base_url).hostname}" for one in at.loaded.upstreams)
    say(f"Unpriced exchanges get the prices of their upstream in these settings: {hosts}.")


def _say_changes(changes: Mapping[Change, Sums], looked_at: int, as_json: bool) -> None:
    if as_json:
        write_json({"looked_at": looked_at, "changes": [_item(change, sums) for change, sums in changes.items()]})
        return
    if not changes:
        found = f"all {exchanges(looked_at)} have current prices" if looked_at else "no exchange was recorded since then"
        say(f"Nothing to change: {found}.")
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("Model", "Price before", "Price after"):
        table.add_column(title, overflow="fold")
    for title in ("Exchanges", "Cost before", "Cost after"):
        table.add_column(title, justify="right", no_wrap=True)
    for change, sums in sorted(changes.items(), key=lambda pair: -pair[1].exchanges):
        old, new = _cost(change.old_price, sums.old_nano), _cost(change.new_price, sums.new_nano)
        prices_ = (change.old_price or UNPRICED, change.new_price or UNPRICED)
        table.add_row(named(change.model), *prices_, count(sums.exchanges), old, new)
    print_on(wide_console(), table)
    total = sum(sums.exchanges for sums in changes.values())
    say(f"{count(total)} of {exchanges(looked_at)} would change.")


def _cost(price: str | None, nano: int) -> str:
    return UNPRICED if price is None else dollars(nano / NANO)


def _item(change: Change, sums: Sums) -> dict[str, object]:
    return {
        "model": change.model,
        "old_price": change.old_price,
        "new_price": change.new_price,
        "exchanges": sums.exchanges,
        "old_cost_usd": None if change.old_price is None else sums.old_nano / NANO,
        "new_cost_usd": None if change.new_price is None else sums.new_nano / NANO,
    }
