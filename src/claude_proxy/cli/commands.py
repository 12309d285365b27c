"""The list of commands, and the group that imports each command only when it is called.

`claude-proxy serve` must start fast, so it imports Typer and its own module, not rich, the simulator or other commands.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from claude_proxy import __version__
from claude_proxy.cli.arguments import PassOnCommand
from claude_proxy.cli.output import say
from claude_proxy.cli.serving import INTERRUPTED
from claude_proxy.errors import SettingsError

PROGRAM = "claude-proxy"


@dataclass(frozen=True, slots=True)
class Entry:
    """A command: where its function or group of commands is, and its text in `--help`."""

    target: str
    summary: str
    examples: tuple[str, ...]
    command: type[TyperCommand] = TyperCommand


COMMANDS = {
    "serve": Entry(
        "claude_proxy.cli.serve:serve",
        "Run the proxy.",
        (
            "claude-proxy serve",
            "claude-proxy serve --port 3001 --base-url https://api.anthropic.com",
            "HOST=0.0.0.0 claude-proxy serve --workers 2",
        ),
    ),
    "code": Entry(
        "claude_proxy.cli.code:code",
        "Run Claude Code through the proxy.",
        ("claude-proxy code", 'claude-proxy code -p "say hi"', "claude-proxy code --start -- --continue"),
        PassOnCommand,
    ),
    "env": Entry(
        "claude_proxy.cli.env:env",
        "Print the exports that point Claude Code at the proxy.",
        (
            'eval "$(claude-proxy env)"',
            "claude-proxy env --shell fish | source",
            "claude-proxy env --shell powershell | Out-String | Invoke-Expression",
            'eval "$(claude-proxy env --unset)"',
        ),
    ),
    "statusline": Entry(
        "claude_proxy.cli.statusline:statusline",
        "Print the line for Claude Code's status line.",
        ("claude-proxy statusline",),
    ),
    "doctor": Entry(
        "claude_proxy.cli.doctor:doctor",
        "Check settings, network and credential, with fixes.",
        ("claude-proxy doctor", "claude-proxy doctor --json | jq '.checks[] | select(.state != \"ok\")'"),
    ),
    "login": Entry(
        "claude_proxy.cli.login:login",
        "Print a link that logs a browser in to the page.",
        ("claude-proxy login", "claude-proxy login --url http://nas:3001"),
    ),
    "demo": Entry(
        "claude_proxy.cli.demo:demo",
        "See it stream; no key, no upstream needed.",
        ("claude-proxy demo", "claude-proxy demo --keep"),
    ),
    "stats": Entry(
        "claude_proxy.cli.stats:stats",
        "Sum tokens and cost by day, model, session, project ...",
        (
            "claude-proxy stats",
            "claude-proxy stats --since 7d --breakdown",
            "claude-proxy stats --by session --project my-app --since yesterday",
            "claude-proxy stats --by month --format json | jq .totals.cost_usd",
        ),
    ),
    "sessions": Entry(
        "claude_proxy.cli.sessions:sessions",
        "List sessions with their tokens and cost.",
        ("claude-proxy sessions", "claude-proxy sessions --project my-app --limit 100 --json"),
    ),
    "show": Entry(
        "claude_proxy.cli.show:show",
        "Show all that is recorded about one exchange.",
        (
            "claude-proxy show cp_6h28x52yemr00",
            "claude-proxy show cp_6h28x52yemr00 --conversation",
            "claude-proxy show 6H28X52YEMROO --json | jq .attempts",
        ),
    ),
    "tail": Entry(
        "claude_proxy.cli.tail:tail",
        "Watch exchanges as they end.",
        ("claude-proxy tail", "claude-proxy tail --status failed", "claude-proxy tail --json | jq -r .cost_usd"),
    ),
    "reprice": Entry(
        "claude_proxy.cli.reprice:reprice",
        "Compute recorded costs again with the current prices.",
        ("claude-proxy reprice --since 30d --dry-run", "claude-proxy reprice --since 2026-11-01 --yes"),
    ),
    "config": Entry(
        "claude_proxy.cli.config:app",
        "Show the settings and where each value comes from.",
        ("claude-proxy config show", "claude-proxy config show --json", "claude-proxy config path"),
    ),
    "service": Entry(
        "claude_proxy.cli.service:app",
        "Install the proxy as a service (systemd, launchd).",
        ("claude-proxy service install", "claude-proxy service status", "claude-proxy service remove"),
    ),
    "simulate": Entry(
        "claude_proxy.cli.simulate:simulate",
        "Run a scripted Anthropic API with faults on request.",
        ("claude-proxy simulate --port 4000", "claude-proxy simulate --list"),
    ),
    "rehearse": Entry(
        "claude_proxy.cli.rehearse:rehearse",
        "Play a scripted outage against your own settings.",
        (
            "claude-proxy rehearse burst",
            "claude-proxy rehearse night --speed 60",
            "claude-proxy rehearse noon --speed 1",
            "claude-proxy rehearse outage.yaml --json | jq .upstream",
            "claude-proxy rehearse --list",
        ),
    ),
    "test-ntfy": Entry(
        "claude_proxy.cli.test_ntfy:test_ntfy",
        "Send one test notice with the current settings.",
        ("claude-proxy test-ntfy", "NTFY_TOPIC=my-topic-4f1c claude-proxy test-ntfy"),
    ),
}


# How Pydantic says it, and how we do.
_WORDS = {
    "Input should be a valid integer, unable to parse string as an integer": "expected a whole number",
    "Input should be a valid number, unable to parse string as a number": "expected a number",
    "Input should be greater than or equal to": "expected at least",
    "Input should be less than or equal to": "expected at most",
    "Input should be": "expected",
}


class LazyGroup(TyperGroup):
    """A group that knows its commands' names and summaries, and imports a command when it is called."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        for name, entry in COMMANDS.items():  # placeholders, enough for `--help`, completion and suggestions
            self.add_command(TyperCommand(name, help=entry.summary, short_help=entry.summary))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import and return the real command."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, None if found is None or name is None else load(name), rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; report user errors in a sentence, never as a traceback."""
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            say(error.message, err=True)
            raise typer.Exit(2) from None
        except typer.BadParameter as error:
            error.message = in_words(error.message)
            raise
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


def in_words(problem: str) -> str:
    """What is wrong with an option's value, without the words of the library that checked it."""
    problem = problem.removeprefix("Value error, ")
    for theirs, ours in _WORDS.items():
        problem = problem.replace(theirs, ours)
    return problem


def load(name: str) -> Any:
    """Import the command `name` and make it a Typer command with its examples in the help."""
    entry = COMMANDS[name]
    module, attribute = entry.target.split(":")
    target: typer.Typer | Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    examples = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in entry.examples)
    if isinstance(target, typer.Typer):
        target.info.help = f"{entry.summary}\n\n{examples}"
        single = target
    else:
        text = inspect.cleandoc(target.__doc__ or entry.summary).split("\f")[0].strip()
        single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        single.command(name, cls=entry.command, help=f"{text}\n\n{examples}")(target)
    command = typer.main.get_command(single)
    command.name = name
    return command


def show_version(wanted: bool) -> None:
    """Print the version and exit, for `--version`."""
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


app = typer.Typer(
    name=PROGRAM,
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A self-hosted proxy for the Anthropic API: byte-exact streaming, notices, plain errors.

    \b
    First steps:
      claude-proxy demo       see it stream, no key needed
      claude-proxy serve      run it on http://127.0.0.1:3000
      claude-proxy code       Claude Code through it
      claude-proxy doctor     when something does not work
    """


def main() -> None:
    """Entry point of the `claude-proxy` command. Exit codes: docs/cli.md."""
    try:
        app(prog_name=PROGRAM)
    except KeyboardInterrupt:  # outside a command, while modules are being imported
        sys.exit(INTERRUPTED)
