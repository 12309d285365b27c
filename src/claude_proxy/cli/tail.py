"""`claude-proxy tail`: prints a line for each exchange when it ends, by polling the ledger."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from claude_proxy.cli.arguments import ConfigFile, DataDir, TimeZone
from claude_proxy.cli.figures import clock, cost, count, of_filters, seconds
from claude_proxy.cli.ledger import opened, place
from claude_proxy.cli.output import console, say
from claude_proxy.ledger.options import NotReadable

if TYPE_CHECKING:
    from claude_proxy.ledger.queries import Books

EVERY = 0.5  # seconds between polls
LATE = 5.0  # seconds; exchanges that ended this long before the start may not be in the ledger yet
SLACK = 120.0  # seconds that may pass between the end of an exchange and the writing of its row
SEEN = 50_000  # most ids to remember


def tail(
    last: Annotated[int, typer.Option("--last", "-n", min=0, max=1000, metavar="N", help="Begin with the last N.")] = 10,
    session: Annotated[str | None, typer.Option(metavar="NAME", help="Only this session.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Only this model.")] = None,
    status: Annotated[str | None, typer.Option(metavar="STATUS", help="429, 5xx or failed.")] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for more; Ctrl-C ends it.")] = True,
    timezone: TimeZone = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line, as the API does.")] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Print a line for each exchange of all processes, about a second after it ends.

    It has the status, the model, tokens in, out and cached, cost, duration, and what went wrong.
    """
    at = place(config, data_dir, timezone)
    wanted = {"session": session, "model": model, "status": status}
    with opened(at) as books:
        watch = Watch(time.time())
        earlier = watch.earlier(books, last, wanted)
        for item in earlier:
            _write(item, at.where, as_json)
        if follow:
            _follow(books, watch, wanted, at.where, as_json)
        elif not earlier and last and not as_json:
            given = {name: text for name, text in wanted.items() if text is not None}
            say(f"No exchange {of_filters(given)}is recorded.", err=True)


def _follow(books: Books, watch: Watch, wanted: Mapping[str, str | None], where: tzinfo, as_json: bool) -> None:
    troubled = False
    while True:
        try:
            found = watch.new(books)
            troubled = False
        except NotReadable as error:
            if not troubled:
                say(f"{error} Retrying.", err=True)
            troubled, found = True, []
        for item in found:
            if fits(item, wanted):
                _write(item, where, as_json)
        time.sleep(EVERY)  # other processes write the ledger, and SQLite has no notification that we could wait for


class Watch:
    """Finds exchanges that were not seen yet. Searches by the time of the end, because a long exchange has an old id.

    Args:
        now: Unix seconds; exchanges that ended long before are not searched for.
    """

    def __init__(self, now: float) -> None:
        self._from = self._start = now - LATE
        self._seen: OrderedDict[str, None] = OrderedDict()

    def earlier(self, books: Books, count: int, wanted: Mapping[str, str | None]) -> list[dict[str, Any]]:
        """Return the last `count` exchanges that match, oldest first. `new` returns all that are recorded from now on.

        What is recorded between the two queries is in the second one, or left for `new`; the other way round it would be in none.

        Raises:
            ValueError: a filter is invalid.
            NotReadable: the ledger cannot be read.
        """
        self.new(books)
        session, model, status = (wanted.get(name) for name in ("session", "model", "status"))
        page = books.exchanges(max(1, count), session=session, model=model, status=status)
        found: list[dict[str, Any]] = page["items"][:count]
        for item in found:
            self.saw(item["id"])
        return found[::-1]

    def saw(self, number: str) -> bool:
        """Remember an exchange; return whether it is new."""
        if number in self._seen:
            return False
        self._seen[number] = None
        if len(self._seen) > SEEN:
            self._seen.popitem(last=False)
        return True

    def new(self, books: Books) -> list[dict[str, Any]]:
        """Return exchanges that ended since the start and were not seen yet. Raises NotReadable."""
        found = [item for item in books.ended_since(self._from) if self.saw(item["id"])]
        if found:
            self._from = max(self._start, self._from, ended(found[-1]) - SLACK)
        return found


def ended(item: Mapping[str, Any]) -> float:
    """Return when an exchange ended, in Unix seconds."""
    return datetime.fromisoformat(item["started_at"]).timestamp() + float(item["duration_ms"]) / 1000


def fits(item: Mapping[str, Any], wanted: Mapping[str, str | None]) -> bool:
    """Whether an exchange matches the filters; must agree with `Books.exchanges`."""
    for name in ("session", "model"):
        if wanted[name] is not None and (item[name] or "") != wanted[name]:
            return False
    status = wanted["status"]
    if status == "failed":
        return bool(item["failed"])
    number = str(item["status"])
    return status is None or number == status or (status[1:] == "xx" and number[:1] == status[:1])


def _write(item: Mapping[str, Any], where: tzinfo, as_json: bool) -> None:
    if as_json:
        say(json.dumps(item))
        return
    console().print(line(item, where), soft_wrap=True)


def line(item: Mapping[str, Any], where: tzinfo) -> Text:
    """Format an exchange as one line."""
    usage = item["usage"]
    colour = "red" if item["failed"] else "yellow" if item["outcome"] == "cancelled" else "green"
    figures = f"{count(usage['input_tokens'])} in, {count(usage['output_tokens'])} out, "
    figures += f"{count(usage['cache_read_input_tokens'])} cached"
    reported = usage["input_tokens"] is not None or usage["output_tokens"] is not None
    text = Text.assemble(
        (clock(item["started_at"], where, "%H:%M:%S"), "dim"),
        "  ",
        (item["id"], "dim"),
        "  ",
        (str(item["status"]), colour),
        f"  {item['model'] or item['kind']}",
        (f"  {item['class']}" if item["class"] else "", "dim"),
        f"  {figures}  {cost(item)}" if reported else "",
        f"  {seconds(item['duration_ms'])}",
    )
    if item["outcome"] != "completed":
        text.append(f"  {item['outcome']}", colour)
    if item["failure"] is not None:
        text.append(f"  {item['failure']['kind']}: {item['failure']['message']}", colour)
    return text
