"""`claude-proxy tail`: a line for each exchange when it ends, read from the ledger again and again."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from claude_proxy.cli.arguments import ConfigFile, DataDir, TimeZone
from claude_proxy.cli.figures import clock, cost, count, seconds
from claude_proxy.cli.ledger import opened, place
from claude_proxy.cli.output import console, say
from claude_proxy.ledger.options import NotReadable

if TYPE_CHECKING:
    from claude_proxy.ledger.queries import Books

EVERY = 0.5  # seconds between two looks
LATE = 5.0  # seconds before the start whose rows may still be on their way
SLACK = 120.0  # seconds that a row may be written after its exchange has ended
SEEN = 50_000  # ids that are remembered


def tail(
    last: Annotated[int, typer.Option("--last", "-n", min=0, max=1000, metavar="N", help="Show the last N first.")] = 10,
    session: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this session.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Only with this model.")] = None,
    status: Annotated[str | None, typer.Option(metavar="STATUS", help="429, 5xx or failed.")] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for more; Ctrl-C ends it.")] = True,
    timezone: TimeZone = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object per line, as the API gives it.")] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Print a line when an exchange has ended, whichever process served it: status, model, tokens in, out and cached, cost, time,
    and what went wrong. A row reaches the ledger about a second after the end."""
    at = place(config, data_dir, timezone)
    with opened(at) as books:
        earlier = books.exchanges(max(1, last), session=session, model=model, status=status)["items"][:last]
        shown = reversed(earlier)
        if follow:
            _follow(books, shown, {"session": session, "model": model, "status": status}, at.where, as_json)
        else:
            for item in shown:
                _write(item, at.where, as_json)


def _follow(
    books: Books, earlier: Iterator[dict[str, Any]], wanted: Mapping[str, str | None], where: tzinfo, as_json: bool
) -> None:
    watch = Watch(time.time())
    watch.new(books)
    for item in earlier:
        watch.saw(item["id"])
        _write(item, where, as_json)
    troubled = False
    while True:
        try:
            found = watch.new(books)
            troubled = False
        except NotReadable as error:
            if not troubled:
                say(f"{error} Trying on.", err=True)
            troubled, found = True, []
        for item in found:
            if fits(item, wanted):
                _write(item, where, as_json)
        time.sleep(EVERY)


class Watch:
    """Which exchanges have not been seen yet. They are found by when they ended: a long one has an old id.

    Args:
        now: Unix seconds; what ended long before is not looked for.
    """

    def __init__(self, now: float) -> None:
        self._from = self._start = now - LATE
        self._seen: OrderedDict[str, None] = OrderedDict()

    def saw(self, number: str) -> bool:
        """Note an exchange; whether it is new."""
        if number in self._seen:
            return False
        self._seen[number] = None
        if len(self._seen) > SEEN:
            self._seen.popitem(last=False)
        return True

    def new(self, books: Books) -> list[dict[str, Any]]:
        """Those that ended since the start and were not seen. Raises NotReadable."""
        found = [item for item in books.ended_since(self._from) if self.saw(item["id"])]
        if found:
            self._from = max(self._start, self._from, ended(found[-1]) - SLACK)
        return found


def ended(item: Mapping[str, Any]) -> float:
    """When an exchange ended, in Unix seconds."""
    return datetime.fromisoformat(item["started_at"]).timestamp() + float(item["duration_ms"]) / 1000


def fits(item: Mapping[str, Any], wanted: Mapping[str, str | None]) -> bool:
    """Whether an exchange is one of those that were asked for; as `Books.exchanges` chooses."""
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
    """One exchange in one line."""
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
