"""`claude-proxy config`: what the settings are and where each value comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from claude_proxy.cli.arguments import AsJson, ConfigFile
from claude_proxy.cli.output import console, say, visible, write_json
from claude_proxy.cli.project import read_settings
from claude_proxy.cli.values import shown, text
from claude_proxy.settings import CONFIG_FILE, SECRETS, Loaded, Settings

app = typer.Typer(
    name="config",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as `config show` prints it. A secret's `value` is the word `set`, never the secret."""

    name: str
    value: Any
    source: str
    description: str
    secret: bool


@app.command()
def show(
    config: ConfigFile = None,
    as_json: AsJson = False,
    docs: Annotated[bool, typer.Option("--docs", help="Print the table of all settings as docs/settings.md has it.")] = False,
) -> None:
    """Print every setting: its value, where that comes from, what it means. Secrets are shown as `set`.

    \b
    Examples:
      claude-proxy config show
      claude-proxy config show --json | jq 'map_values(select(.source != "default") | .value)'
    """
    if docs:
        from claude_proxy.cli.settings_docs import render

        typer.echo(render(), nl=False)
        return
    found = rows(read_settings(config))
    if as_json:
        write_json({row.name: asdict(row) for row in found})
    elif console().is_terminal:
        show_table(found)
    else:
        for row in found:
            say("\t".join(visible(cell) for cell in (row.name, text(row.value), row.source, row.description)))


@app.command()
def path(config: ConfigFile = None) -> None:
    """Print the path of the TOML file that is read; exit 1 if there is none.

    \b
    Example:
      $EDITOR "$(claude-proxy config path)"
    """
    found = config_path(os.environ, config)
    say(str(found))
    if not found.is_file():
        typer.echo("There is no such file: the settings come from the environment and the defaults.", err=True)
        raise typer.Exit(1)


def config_path(environ: Mapping[str, str], config: Path | None = None) -> Path:
    """Where the settings look for their TOML file, as an absolute path."""
    return (config or Path(environ.get("CLAUDE_PROXY_CONFIG") or CONFIG_FILE)).absolute()


def rows(loaded: Loaded) -> list[Row]:
    """All settings in the order of their definition."""
    return [
        Row(name.upper(), shown(getattr(loaded.settings, name)), loaded.sources[name], field.description or "", name in SECRETS)
        for name, field in Settings.model_fields.items()
    ]


def show_table(found: list[Row]) -> None:
    """Print the settings for a person: what was set stands out, the meaning is below the value."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in found:
        style = "" if row.source == "default" else "bold cyan"
        value = Text.assemble((text(row.value), style), (f"  ({row.source})\n", "dim"), (row.description, "dim"))
        table.add_row(Text(row.name, style), value)
    console().print(table)
