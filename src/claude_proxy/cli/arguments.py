"""Options that several commands share, and the command that passes on what is not its own."""

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
        help="TOML file to read, instead of your own configuration folder's (`config path`).",
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
        help="The proxy.py that is served: its BASE_URL counts, and a claude-proxy.toml beside it.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        exists=True,
        file_okay=False,
        help="The proxy's DATA_DIR, with its ledger.db; goes before DATABASE_URL.",
    ),
]
TimeZone = Annotated[
    str | None, typer.Option("--timezone", metavar="ZONE", help="Whose days and clock to use, such as Asia/Seoul.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


class PassOnCommand(TyperCommand):
    """Takes its own options only in front; from the first other word on, everything is passed on unread."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `--` between our options and the rest, so that an equal name behind it is not taken for ours."""
        takes_value = {name: not getattr(p, "is_flag", False) for p in self.get_params(ctx) for name in p.opts}
        own, rest = split_own(args, takes_value)
        return super().parse_args(ctx, [*own, "--", *rest])


def split_own(args: Iterable[str], takes_value: Mapping[str, bool]) -> tuple[list[str], list[str]]:
    """Split `args` before the first word that is not one of our options (or an option's value).

    Args:
        takes_value: our options and whether the next word belongs to them. A `--` between the two parts is dropped.
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
