"""`claude-proxy serve`: the proxy under our own server."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from claude_proxy.cli.arguments import ConfigFile
from claude_proxy.cli.project import app_target, read_settings
from claude_proxy.errors import SettingsError
from claude_proxy.settings import Settings

SERVER_FIELDS = ("host", "port", "root_path", "log_level", "log_format", "graceful_timeout")  # what the server itself needs

TRUSTS_ALL = (
    "FORWARDED_ALLOW_IPS=* believes whatever address a request states, while UPSTREAM_API_KEY is held and PROXY_API_KEY is not. "
    "Requests with a forwarded header are refused: set PROXY_API_KEY, or name the front's address instead of *."
)


def serve(
    host: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Port to listen on; 0 takes a free one. Default: 3000.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes. Default: 1, which is right for most.")
    ] = None,
    base_url: Annotated[str | None, typer.Option(metavar="URL", help="The upstream, without /v1.")] = None,
    log_level: Annotated[str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(metavar="FORMAT", help="auto, console or json.")] = None,
    graceful_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="What running streams get to finish at a stop. Default: 8.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the proxy keeps its files.")] = None,
    config: ConfigFile = None,
) -> None:
    """Run the proxy until SIGTERM or Ctrl-C; running streams finish first, a second signal ends at once.

    Every setting is also an environment variable and a line of claude-proxy.toml: see `claude-proxy config show`.
    """
    given = {
        "host": host,
        "port": port,
        "base_url": base_url,
        "log_level": log_level,
        "log_format": log_format,
        "graceful_timeout": graceful_timeout,
        "data_dir": data_dir,
    }
    raise typer.Exit(start(config, workers, {name: value for name, value in given.items() if value is not None}))


def start(config: Path | None, workers: int | None, given: dict[str, Any]) -> int:
    """Check the settings, hand them to the server's processes through the environment, and run it.

    Returns:
        The server's exit code (docs/serve.md).

    Raises:
        SettingsError: before anything is started.
    """
    loaded = read_settings(config, **given)
    hand_down(config, given)
    from claude_proxy import logs
    from claude_proxy.server import OptionError, ServerOptions, run
    from claude_proxy.upstream.dial import parse_origin

    stated = {name: getattr(loaded.settings, name) for name in SERVER_FIELDS if not is_from_environ(loaded.sources[name])}
    if os.environ.get("BIND"):  # the environment goes before the file; a Unix socket there is no host and port of ours
        stated = {name: value for name, value in stated.items() if name in given or name not in ("host", "port")}
    try:
        options = ServerOptions.from_environ(os.environ, workers=workers, **stated)
    except OptionError as error:
        raise SettingsError(str(error)) from None
    if options.trusted == "*" and held_alone(loaded.settings):
        options = replace(options, notes=(*options.notes, TRUSTS_ALL))
    if options.app is None:
        parse_origin(loaded.settings.base_url)  # the proxy variables too: said once, not by each worker
    logs.configure(loaded.settings.log_level, loaded.settings.log_format)
    sys.path.insert(0, str(Path.cwd()))  # a console script does not look for proxy.py here by itself
    target, factory = app_target() if options.app is None else (options.app, False)
    return run(options, target, factory=factory)


def held_alone(settings: Settings) -> bool:
    """Whether a credential of ours is spent without a key of ours being asked for."""
    return settings.upstream_api_key is not None and settings.proxy_api_key is None


def is_from_environ(source: str) -> bool:
    """Whether the server finds this value itself: it reads the environment, which may also say BIND."""
    return source == "default" or source.startswith("env ")


def hand_down(config: Path | None, given: dict[str, Any]) -> None:
    """Put what the command line gave where worker processes read it."""
    os.environ.update({name.upper(): str(value) for name, value in given.items()})
    if config is not None:
        os.environ["CLAUDE_PROXY_CONFIG"] = str(config.resolve())
