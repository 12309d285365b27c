"""What several commands share: options, how a group of subcommands behaves, a command class that passes unknown arguments on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        readable=True,
        help="TOML file to read, instead of the one in your configuration folder (`config path`).",
    ),
]
AppFile = Annotated[
    Path | None,
    typer.Option(
        "--app",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        readable=True,
        help="The proxy.py to serve; its BASE_URL and a claude-proxy.toml next to it are used.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        exists=True,
        file_okay=False,
        help="The proxy's DATA_DIR, with its ledger.db; overrides DATABASE_URL.",
    ),
]
TimeZone = Annotated[
    str | None, typer.Option("--timezone", metavar="ZONE", help="Whose days and clock to use, such as Asia/Seoul.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def subcommands(name: str) -> typer.Typer:
    """Return a command that consists of subcommands; without one it prints its help."""
    return typer.Typer(
        name=name, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )


class PassOnCommand(TyperCommand):
    """Parses its own options only at the front; passes on everything from the first other word unread."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert `--` after our options, so that later options of the same name are not parsed as ours."""
        takes_value = {
            name: not getattr(p, "is_flag", False) for p in self.get_params(ctx) for name in (*p.opts, *p.secondary_opts)
        }
        own, rest = split_own(args, takes_value)
        return super().parse_args(ctx, [*own, "--", *rest])


def split_own(args: Iterable[str], takes_value: Mapping[str, bool]) -> tuple[list[str], list[str]]:
    """Split `args` before the first word that is not one of our options (or an option's value).

    Args:
        takes_value: our options and whether each takes a value. A `--` between the two parts is dropped.
    """
    words = list(args)
    at = 0
    while at < len(words):
        name, equals, _ = words[at].partition("=")
        if not name.startswith("-") or name not in takes_value:
            break
        at += 2 if takes_value[name] and not equals else 1
    rest = words[at:]
    return words[:at], rest[1:] if rest[:1] == ["--"] else rest
