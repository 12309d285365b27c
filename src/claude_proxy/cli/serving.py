"""Starts the server for `claude-proxy serve`, without Typer: it would take 2 MB of the serving process and 15 ms of its start."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from claude_proxy import memory
from claude_proxy.cli.output import say
from claude_proxy.cli.project import FACTORY, app_from, read_settings
from claude_proxy.errors import SettingsError
from claude_proxy.settings import CONFIG_VARIABLE, Loaded, Settings, unread_sentence, visible

INTERRUPTED = 130  # the exit code of shells for a process ended by Ctrl-C
TRUSTS_ALL = (
    "FORWARDED_ALLOW_IPS=* believes any address that a request states, while UPSTREAM_API_KEY is set and PROXY_API_KEY is not. "
    "Requests with a forwarded header are refused: set PROXY_API_KEY, or name the front's address instead of *."
)
HERE = "proxy.py in the working directory is not run unless you name it: claude-proxy serve --app proxy.py"


def plain(words: list[str]) -> tuple[Path | None] | None:
    """Read the arguments of `serve` as the image, the Makefile and the units pass them: none, or `--app FILE`.

    Returns:
        The file in a tuple; None if they are something else, or the file is missing: then Typer reads them.
    """
    if not words:
        return (None,)
    if len(words) == 2 and words[0] == "--app" and os.access(words[1], os.R_OK) and Path(words[1]).is_file():
        return (Path(words[1]),)
    return None


def serve_plainly(app: Path | None) -> int:
    """Run the server; report user errors in a sentence, as the other commands do.

    Returns:
        The exit code.
    """
    try:
        return start(None, app, {})
    except SettingsError as error:
        say(error.message, err=True)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


def load_libraries() -> None:
    """Import the libraries that load something optional with them which a server never uses: together 4 MB and 35 ms.

    structlog would load rich for its own tracebacks (ours are plain), uvicorn would load watchfiles for `--reload`.
    """
    with memory.without("rich", "watchfiles"):
        import structlog  # noqa: F401
        import uvicorn  # noqa: F401


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
    load_libraries()
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
