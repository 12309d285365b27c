"""`claude-proxy serve`: the proxy, run by our own server."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from claude_proxy.cli.arguments import AppFile, ConfigFile
from claude_proxy.cli.project import FACTORY, app_from, read_settings
from claude_proxy.settings import CONFIG_VARIABLE, Loaded, Settings, unread_sentence, visible

TRUSTS_ALL = (
    "FORWARDED_ALLOW_IPS=* believes any address that a request states, while UPSTREAM_API_KEY is set and PROXY_API_KEY is not. "
    "Requests with a forwarded header are refused: set PROXY_API_KEY, or name the front's address instead of *."
)
HERE = "proxy.py in the working directory is not run unless you name it: claude-proxy serve --app proxy.py"


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


def start(config: Path | None, app: Path | None, given: dict[str, Any]) -> int:
    """Check the settings, pass them to the server's processes through the environment, and run the server.

    Args:
        app: a named proxy.py; the built-in app if None.

    Returns:
        The server's exit code (docs/serve.md).

    Raises:
        SettingsError: raised before anything is started.
    """
    app = None if app is None else app.absolute()  # links are not resolved: the settings file is looked for next to the link
    loaded = read_settings(config, app, **given)
    from claude_proxy import logs
    from claude_proxy.server import ServerOptions, run
    from claude_proxy.upstream.dial import parse_origin

    options = ServerOptions.from_settings(loaded.settings, notes=notes(loaded, app))
    hand_down(loaded, given)
    if options.app is None:
        for upstream in loaded.upstreams:
            parse_origin(upstream.base_url)  # checks the proxy variables too, here and not in each worker
    logs.configure(loaded.settings.log_level, loaded.settings.log_format)
    if options.app is not None:
        return run(options, options.app if app is None else partial(other_app, options.app, app.parent), factory=app is not None)
    return run(options, FACTORY if app is None else partial(app_from, app), factory=True)


def other_app(target: str, folder: Path) -> Any:
    """Return the app `module:name`, which may be next to a named proxy.py."""
    import sys

    from uvicorn.importer import import_from_string

    sys.path.insert(0, str(folder))
    return import_from_string(target)


def notes(loaded: Loaded, app: Path | None) -> tuple[str, ...]:
    """Return what to log at the start because it may be unexpected."""
    from claude_proxy.server import notes_on

    found = list(notes_on(os.environ))
    if loaded.unread is not None:
        found.append(unread_sentence(loaded.unread))
    if loaded.settings.forwarded_allow_ips == "*" and held_alone(loaded.settings):
        found.append(TRUSTS_ALL)
    if app is not None and loaded.settings.other_app is not None:
        found.append(f"APP_MODULE names the app {loaded.settings.other_app}, which runs instead of {visible(app)}.")
    if app is None and loaded.settings.other_app is None and is_ours(Path("proxy.py")):
        found.append(HERE)
    return tuple(found)


def is_ours(file: Path) -> bool:
    """Whether a file exists and uses this package. The file is not run."""
    try:
        return b"claude_proxy" in file.read_bytes()
    except OSError:
        return False


def held_alone(settings: Settings) -> bool:
    """Whether the proxy holds a credential but requires no key."""
    return settings.upstream_api_key is not None and settings.proxy_api_key is None


def hand_down(loaded: Loaded, given: dict[str, Any]) -> None:
    """Put the command line's options and the settings file's path into the environment, for the app in each worker."""
    os.environ.update({name.upper(): str(value) for name, value in given.items()})
    if given.keys() & {"host", "port"}:
        os.environ.pop("BIND", None)  # otherwise it would override them
        os.environ.update(HOST=loaded.settings.host, PORT=str(loaded.settings.port))
    if loaded.file is not None:
        os.environ[CONFIG_VARIABLE] = str(loaded.file)
