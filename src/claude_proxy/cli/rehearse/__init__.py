"""`claude-proxy rehearse`: a scripted outage against the user's own settings; nothing leaves this machine."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

import typer

from claude_proxy.cli.arguments import AppFile, AsJson, ConfigFile
from claude_proxy.cli.demo.proxy import NotStarted
from claude_proxy.cli.output import console, say, write_json
from claude_proxy.cli.project import user_settings
from claude_proxy.cli.rehearse.adapt import Adapted, adapt
from claude_proxy.cli.rehearse.clock import MINUTE, shown
from claude_proxy.cli.rehearse.journal import Line
from claude_proxy.cli.rehearse.play import play
from claude_proxy.cli.rehearse.report import text
from claude_proxy.cli.rehearse.script import SHIPPED, Script, find, load, names
from claude_proxy.protocol.providers import by_name
from claude_proxy.simulator import ScriptError

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {"script": "bold", "saw": "red", "hidden": "green", "push": "magenta", "note": "dim"}
MAX_SPEED = 600.0


def rehearse(
    script: Annotated[str | None, typer.Argument(metavar="SCRIPT", help="A YAML file, or the name of a shipped script.")] = None,
    speed: Annotated[
        float, typer.Option(min=1, max=MAX_SPEED, metavar="N", help="Play N minutes of the script in one. 1 is real time.")
    ] = 10,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Model to ask for. Default: one of the upstream.")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="List the shipped scripts and exit.")] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
    app: AppFile = None,
) -> None:
    """Play a scripted outage against your own settings, and show what clients see, what stays hidden and what is pushed.

    The proxy is the real one, with your upstreams, accounts, routes, queue and notices. Simulated upstreams take the place of the
    real ones, made-up keys the place of yours, and a stand-in takes the notices: nothing leaves this machine, and your books are
    not touched. The script's minutes shrink with --speed; the proxy's own pauses do not (docs/rehearse.md).
    """
    if list_only:
        list_scripts(as_json)
        return
    if script is None:
        say(f"Name a script: a YAML file, or one of {', '.join(names())}.", err=True)
        raise typer.Exit(2)
    screen = console()
    try:
        found = find(script)
        adapted = adapt(user_settings(config, app), os.environ, speed)
        wanted = model or model_for(adapted)
        if not as_json:
            introduce(screen, found, adapted, speed)
        quiet = as_json
        result = asyncio.run(play(found, adapted, speed, wanted, lambda line: None if quiet else tell(screen, line)))
    except ScriptError as problem:
        say(str(problem), err=True)
        raise typer.Exit(2) from None
    except NotStarted as error:
        say(f"The proxy did not start with these settings:\n{error}", err=True)
        raise typer.Exit(1) from None
    if as_json:
        write_json(result.as_json())
        return
    screen.print()
    for line in text(result):
        screen.print(line, soft_wrap=True)


def list_scripts(as_json: bool) -> None:
    """Print the shipped scripts."""
    titles = {name: load(SHIPPED / f"{name}.yaml").title for name in names()}
    if as_json:
        write_json(titles)
        return
    for name, title in titles.items():
        say(f"{name:<8}  {title}")


def model_for(adapted: Adapted) -> str:
    """A model that the first upstream serves."""
    upstream = adapted.upstreams[0]
    plain = next((name for name in upstream.models if not set("*?[") & set(name)), None)
    return plain or by_name(upstream.provider).sample_model


def introduce(screen: Console, script: Script, adapted: Adapted, speed: float) -> None:
    """Say what is going to be played, against what."""
    real = script.length * MINUTE / speed
    lasts = f"{real:.0f} s" if real < 2 * MINUTE else f"{real / MINUTE:.0f} minutes"
    screen.print(f"Rehearsal: {script.title} ({script.length:g} minutes at {speed:g}x, about {lasts})", soft_wrap=True)
    for upstream in adapted.upstreams:
        count = len(upstream.keys)
        keys = f"{count} account{'s' * (count != 1)} with a made-up key each" if count else "clients send their own keys"
        screen.print(f"  upstream {upstream.name} ({upstream.provider}), simulated; {keys}", style="dim", soft_wrap=True)
    screen.print()


def tell(screen: Console, line: Line) -> None:
    """Print a line of the timeline."""
    screen.print(f"{shown(line.minute):>6}  {line.kind:<6}  {line.text}", style=STYLES[line.kind], soft_wrap=True)
