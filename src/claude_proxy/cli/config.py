"""`claude-proxy config`: what the settings are and where each value comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from claude_proxy.cleaning import visible
from claude_proxy.cli.arguments import AppFile, AsJson, ConfigFile, subcommands
from claude_proxy.cli.output import console, say, write_json
from claude_proxy.cli.project import user_settings
from claude_proxy.cli.values import text
from claude_proxy.settings import SECRETS, Loaded, Settings, shown
from claude_proxy.settings.places import Place, look, user_file

app = subcommands("config")


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as printed by `config show`. The `value` of a secret is the word `set`, never the secret."""

    name: str
    value: Any
    source: str
    description: str
    secret: bool


@app.command()
def show(
    config: ConfigFile = None,
    app_file: AppFile = None,
    as_json: AsJson = False,
    docs: Annotated[bool, typer.Option("--docs", help="Print the table of all settings as docs/settings.md has it.")] = False,
) -> None:
    """Print every setting: its value, where it comes from, what it means. Secrets are shown as `set`.

    Lists on standard error every settings file it looked for: the one it read, and those that do not exist.

    \b
    Examples:
      claude-proxy config show
      claude-proxy config show --json | jq 'map_values(select(.source != "default") | .value)'
    """
    if docs:
        from claude_proxy.cli.settings_docs import render

        typer.echo(render(), nl=False)
        return
    loaded = user_settings(config, app_file)
    for line in looked_for(loaded.places):
        typer.echo(line, err=True)
    found = rows(loaded)
    if as_json:
        write_json({row.name: asdict(row) for row in found})
    elif console().is_terminal:
        show_table(found)
    else:
        for row in found:
            say("\t".join(visible(cell) for cell in (row.name, text(row.value), row.source, row.description)))


def looked_for(places: tuple[Place, ...]) -> Iterator[str]:
    """Yield each settings file that was looked for, in order, and whether it was read."""
    for place in places:
        yield f"{place.state:<9} {visible(place.path)} ({place.why})"


@app.command()
def path(config: ConfigFile = None, app_file: AppFile = None) -> None:
    """Print the path of the TOML file that is read. If there is none, print where yours would be and exit with 1.

    \b
    Example:
      $EDITOR "$(claude-proxy config path)"
    """
    places = look(os.environ, config, app_file)
    read = next((place.path for place in places if place.state == "read"), None)
    own = read or user_file(os.environ)
    if own is not None:
        say(str(own))
    if read is None or not read.is_file():
        typer.echo("There is no such file: the settings come from the environment and the defaults.", err=True)
        raise typer.Exit(1)


def rows(loaded: Loaded) -> list[Row]:
    """Return all settings in the order of their definition, then the upstreams of the file with their accounts."""
    found = [
        Row(name.upper(), shown(getattr(loaded.settings, name)), loaded.sources[name], field.description or "", name in SECRETS)
        for name, field in Settings.model_fields.items()
    ]
    return [*found, *table_rows(loaded)]


def table_rows(loaded: Loaded) -> Iterator[Row]:
    """Yield a row for each `[[upstream]]`, `[[upstream.account]]` and `[[route]]`. Of a key only its source is shown."""
    if not loaded.tables.upstreams:
        return  # BASE_URL and its like say it
    file = str(loaded.file)
    for upstream in loaded.upstreams:
        about = [f"provider {upstream.provider or 'by its host'}", f"priority {upstream.priority}", f"weight {upstream.weight}"]
        about.append(f"models {', '.join(upstream.models)}")
        about += [f"map {pattern} to {target}" for pattern, target in upstream.map]
        yield Row(f"[[upstream]] {upstream.name}", upstream.base_url, file, "; ".join(about), False)
        for account in upstream.accounts:
            limit = f"; at most {account.max_concurrency} requests at a time" if account.max_concurrency else ""
            about_key = f"Key sent as {account.auth or 'its provider documents'}{limit}"
            yield Row(f"[[upstream.account]] {upstream.name}/{account.name}", "set", account.source, about_key, True)
    for number, route in enumerate(loaded.tables.routes, 1):
        match = route.match
        wanted = {"model": match.model, "class": match.request_class, "agent type": match.agent_type}
        when = "; ".join(f"{name} {', '.join(values)}" for name, values in wanted.items() if values) or "every request"
        yield Row(f"[[route]] {number}", list(route.upstreams), file, f"For {when}", False)


def show_table(found: list[Row]) -> None:
    """Print the settings for a person: set values are highlighted, the meaning is below each value."""
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
