"""`claude-proxy serve`: the proxy, run by our own server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from claude_proxy.cli.arguments import AppFile, ConfigFile
from claude_proxy.cli.serving import start


def serve(
    host: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Port to listen on; 0 picks a free one. Default: 3000.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Number of processes. Default: 1, enough for most users.")
    ] = None,
    base_url: Annotated[str | None, typer.Option(metavar="URL", help="The upstream, without /v1.")] = None,
    log_level: Annotated[str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(metavar="FORMAT", help="auto, console or json.")] = None,
    graceful_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Time that running streams get to finish at shutdown. Default: 8.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the proxy keeps its files.")] = None,
    config: ConfigFile = None,
    app: AppFile = None,
) -> None:
    """Run the proxy until SIGTERM or Ctrl-C; running streams finish first, a second signal stops at once.

    Every setting is also an environment variable and a key in claude-proxy.toml: see `claude-proxy config show`. The working
    directory is not searched: name a proxy.py with --app, a settings file with --config.
    """
    given = {
        "host": host,
        "port": port,
        "web_concurrency": workers,
        "base_url": base_url,
        "log_level": log_level,
        "log_format": log_format,
        "graceful_timeout": graceful_timeout,
        "data_dir": data_dir,
    }
    raise typer.Exit(start(config, app, {name: value for name, value in given.items() if value is not None}))
