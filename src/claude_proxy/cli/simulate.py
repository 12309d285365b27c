"""`claude-proxy simulate`: a scripted Anthropic API on a port, with one output line per request."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from claude_proxy.cleaning import visible
from claude_proxy.cli.output import console, say, write_json
from claude_proxy.simulator import PRESETS, Recorded, ScriptError, Simulator, serve

STYLES = {"answered": "green", "cut": "red", "client-left": "yellow"}

Host = Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="Port to listen on; 0 picks a free one.")]
ScriptFile = Annotated[
    Path | None,
    typer.Option("--script", metavar="FILE", help="YAML rules that choose the answers (docs/simulator.md)."),
]
Keys = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="KEY", help="Accept only this credential, 401 otherwise. Can be repeated. Default: any."),
]
ListOnly = Annotated[bool, typer.Option("--list", help="List the scenarios by name and exit.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]


def simulate(
    host: Host = "127.0.0.1",
    port: Port = 4000,
    script: ScriptFile = None,
    keys: Keys = None,
    list_only: ListOnly = False,
    as_json: AsJson = False,
) -> None:
    """Run a scripted Anthropic API until Ctrl-C, to rehearse faults without a key.

    A request chooses its answer by a header (`x-simulate: cut;n=3`) or by its model (`sim-zai-1302`); see --list.
    """
    if list_only:
        list_scenarios(as_json)
        return
    printer = JsonLines() if as_json else Lines()
    try:
        _run(lambda: serve(host, port, script, keys=keys or (), on_start=printer.started, on_end=printer.ended))
    except ScriptError as problem:
        say(str(problem), err=True)
        raise typer.Exit(2) from None
    except (OSError, UnicodeError) as problem:
        from claude_proxy.server.sockets import why  # imports the whole server

        say(why(host, port, problem, set_host="--host", set_port="--port"), err=True)
        raise typer.Exit(1) from None


def _run(main: Callable[[], Any]) -> None:
    """Run on uvloop if available."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None
    try:
        from uvloop import new_event_loop as factory
    except ImportError:  # Windows
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


def list_scenarios(as_json: bool) -> None:
    """Print the names that a header, a model name or a script can use."""
    if as_json:
        write_json({name: preset.description for name, preset in PRESETS.items()})
        return
    width = max(map(len, PRESETS))
    for name, preset in PRESETS.items():
        typer.echo(f"{name:<{width}}  {preset.description}")


def facts(recorded: Recorded) -> dict[str, Any]:
    """Return what a line says about a request: no headers, no query, no body."""
    ended = recorded.ended_at if recorded.ended_at is not None else recorded.received_at
    return {
        "method": recorded.method,
        "path": recorded.path,
        "status": recorded.status,
        "outcome": recorded.outcome,
        "model": recorded.model,
        "stream": recorded.stream,
        "bytes_in": recorded.body_size,
        "bytes_out": recorded.sent,
        "input_tokens": recorded.usage.input_tokens,
        "output_tokens": recorded.usage.output_tokens,
        "seconds": round(ended - recorded.received_at, 4),
        "connection": recorded.connection,
    }


class JsonLines:
    """Prints for scripts: first the address, then one object per request."""

    def started(self, simulator: Simulator) -> None:
        """Say where it listens."""
        self._print({"url": simulator.url, "base_url": simulator.base_url})

    def ended(self, recorded: Recorded) -> None:
        """Tell of one request."""
        self._print(facts(recorded))

    def _print(self, value: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()


class Lines:
    """Prints for a person."""

    def __init__(self) -> None:
        self._console = console()

    def started(self, simulator: Simulator) -> None:
        """Say where it listens and how to use it."""
        self._console.print(f"A simulated Anthropic API at {simulator.base_url} (Ctrl-C ends it)", soft_wrap=True)
        self._console.print(f"  BASE_URL={simulator.base_url} claude-proxy serve", style="dim", soft_wrap=True)

    def ended(self, recorded: Recorded) -> None:
        """Tell of one request."""
        self._console.print(line(facts(recorded)), soft_wrap=True)


def line(told: dict[str, Any]) -> Text:
    """Return one coloured line: the request, how it ended, its tokens and time."""
    text = Text(f"{time.strftime('%H:%M:%S')}  {visible(told['method'])} {visible(told['path'])}  ")
    text.append(f"{told['status'] or '---'} {told['outcome']}", style=STYLES.get(str(told["outcome"]), ""))
    if told["model"]:
        text.append(f"  {visible(told['model'])}{' stream' if told['stream'] else ''}", style="cyan")
    if told["input_tokens"] or told["output_tokens"]:
        text.append(f"  {told['input_tokens']} in, {told['output_tokens']} out")
    text.append(f"  {told['seconds'] * 1000:.1f} ms", style="dim")
    return text
