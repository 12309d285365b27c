"""`claude-proxy show ID`: everything that the ledger has about one exchange."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import tzinfo
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from claude_proxy.cleaning import visible
from claude_proxy.cli.arguments import AsJson, ConfigFile, DataDir, TimeZone
from claude_proxy.cli.conversation import print_conversation
from claude_proxy.cli.figures import UNPRICED, clock, count, dollars, seconds, size
from claude_proxy.cli.ledger import opened, place
from claude_proxy.cli.output import print_on, say, wide_console, write_json

_SIDES = {"client": "the client's side", "upstream": "the upstream's side", "proxy": "this proxy's side"}
_KINDS = (
    ("input_tokens", "in"),
    ("output_tokens", "out"),
    ("cache_read_input_tokens", "read from the cache"),
    ("cache_creation_input_tokens", "written to the cache"),
)
Row = tuple[str, str]


def show(
    id: Annotated[
        str, typer.Argument(metavar="ID", help="As in the log, an error or `tail`, in any case; O counts as 0, I as 1.")
    ],
    conversation: Annotated[bool, typer.Option("--conversation", help="Print the captured conversation (CAPTURE).")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Print the captured request as JSON.")] = False,
    curl: Annotated[bool, typer.Option("--curl", help="Print a curl command that sends the captured request again.")] = False,
    timezone: TimeZone = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show all that is recorded about one exchange: client, model, outcome, tokens, cost, and each attempt."""
    at = place(config, data_dir, timezone)
    forms = {"--conversation": conversation, "--raw": raw, "--curl": curl, "--json": as_json}
    wanted = [option for option, given in forms.items() if given]
    if len(wanted) > 1:
        raise typer.BadParameter(f"Choose one of {' and '.join(wanted)}: each prints something else.")
    if conversation or raw or curl:
        print_conversation(id, at.options.data_dir, raw=raw, curl=curl, where=at.where)
        return
    with opened(at) as books:
        item = books.exchange(id)
    if item is None:
        say(f"No exchange {visible(id)} is in the ledger: it may still be running, or was deleted because of its age.", err=True)
        raise typer.Exit(1)
    if as_json:
        write_json(item)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in rows(item, at.where, at.timezone):
        table.add_row(name, words)
    screen = wide_console()
    screen.print(Text.assemble((item["id"], "bold"), "  ", (ending(item), "red" if item["failed"] else "green")))
    print_on(screen, table)


def ending(item: Mapping[str, Any]) -> str:
    """The outcome and status."""
    return f"{item['outcome'] or 'unknown'}, status {item['status']}"


def rows(item: Mapping[str, Any], where: tzinfo, timezone: str) -> Iterator[Row]:
    """Yield name and text of everything that is known."""
    yield "started", f"{clock(item['started_at'], where)} ({timezone}), {item['kind']}{', streamed' if item['stream'] else ''}"
    yield from _who(item)
    yield from _failure(item)
    yield "time", ", ".join(_times(item))
    yield "bytes", f"{size(item['bytes_in'])} in, {size(item['bytes_out'])} out"
    yield from _used(item)
    yield from _cache(item)
    yield from _attempts(item)


def _who(item: Mapping[str, Any]) -> Iterator[Row]:
    client = ", ".join(text for text in (item["client"], item["user_agent"]) if text)
    yield "client", client or "-"
    model, sent, served = item["model"], item["model_sent"], item["model_served"]
    if model:
        parts = [model, *([f"sent as {sent}"] if sent else [])]
        parts += [f"answered by {served}"] if served and served != (sent or model) else []
        yield "model", ", ".join(parts)
    if item["upstream"]:
        parts = [item["upstream"]]
        parts += [f"account {item['account']}"] if item["account"] else []
        parts += [f"request {item['upstream_request_id']}"] if item["upstream_request_id"] else []
        yield "upstream", ", ".join(parts)
    for name, key in (("class", "class"), ("session", "session"), ("project", "project"), ("agent", "agent")):
        if item[key]:
            yield name, item[key]
    if item["parent_agent"]:
        yield "called by", item["parent_agent"]
    if item["stop_reason"]:
        yield "stopped", item["stop_reason"]


def _failure(item: Mapping[str, Any]) -> Iterator[Row]:
    if item["failure"] is not None:
        yield "failure", failed(item["failure"])


def failed(failure: Mapping[str, Any]) -> str:
    """A failure: its kind, the side that has to act, the provider's code and the message."""
    words = [str(failure["kind"])]
    words += [_SIDES.get(failure["side"], failure["side"])] if failure["side"] else []
    words += [f"code {failure['provider_code']}"] if failure["provider_code"] else []
    return f"{', '.join(words)}: {failure['message']}" if failure["message"] else ", ".join(words)


def _times(item: Mapping[str, Any]) -> Iterator[str]:
    if item["queue_ms"]:
        yield f"{seconds(item['queue_ms'])} in the queue"
    if item["first_byte_ms"] is not None:
        yield f"first byte after {seconds(item['first_byte_ms'])}"
    yield f"{seconds(item['duration_ms'])} in all"
    if item["stream"] and item["silence_ms"]:
        yield f"longest silence {seconds(item['silence_ms'])}"


def _used(item: Mapping[str, Any]) -> Iterator[Row]:
    usage = item["usage"]
    parts = [f"{count(usage[key])} {word}" for key, word in _KINDS if usage[key] is not None]
    if not parts:
        yield "tokens", "none reported"
        return
    searches = [f"{count(usage['web_searches'])} web searches"] if usage["web_searches"] else []
    yield "tokens", ", ".join([*parts, *searches])
    if item["cost_usd"] is None:
        yield "cost", f"{UNPRICED}: no price is known for this model at this upstream"
    else:
        yield "cost", f"{dollars(item['cost_usd'])} at API list price {item['price'] or ''}".rstrip()
    if item["credits"] is not None:
        yield "credits", f"{item['credits']:,.2f} of the plan"


def _cache(item: Mapping[str, Any]) -> Iterator[Row]:
    cache = item["cache"]
    if cache is None:
        return
    words = cache["verdict"]
    places = [cache["area"], *(f"{name} {cache[name]}" for name in ("message", "block") if cache[name] is not None)]
    if any(places):
        words += f" in {', '.join(place for place in places if place)}"
    if cache["lost_tokens"]:
        lost = f", about {dollars(cache['lost_usd'])}" if cache["lost_usd"] is not None else ""
        words += f": ~{count(cache['lost_tokens'])} tokens lost{lost}"
    yield "cache", words


def _attempts(item: Mapping[str, Any]) -> Iterator[Row]:
    for attempt in item["attempts"]:
        again = " on a pooled connection" if attempt["reused_connection"] else ""
        words = f"{seconds(attempt['sent_ms'])}: to {attempt['upstream'] or '-'}{again}"
        if attempt["status"] is not None:
            took = None if attempt["head_ms"] is None else attempt["head_ms"] - attempt["sent_ms"]
            words += f", status {attempt['status']} after {seconds(took)}"
        if attempt["failure"] is not None:
            words += f", {failed(attempt['failure'])}"
        yield f"attempt {attempt['number']}", words
