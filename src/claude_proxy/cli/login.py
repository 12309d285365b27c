"""`claude-proxy login`: print a link that logs a browser in to the page of the proxy that uses the same DATA_DIR."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from claude_proxy.access.login_link import login_link
from claude_proxy.access.login_store import FileStore
from claude_proxy.access.logins import CODE_SECONDS, Logins
from claude_proxy.cli.address import normal_url
from claude_proxy.cli.arguments import AsJson, ConfigFile, DataDir
from claude_proxy.cli.output import say, write_json
from claude_proxy.cli.project import user_settings

NOTE = "It works once, within 15 minutes. If the proxy is published under another address, put that in place of {address}."


def login(
    config: ConfigFile = None,
    data_dir: DataDir = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where your browser reaches the page. Default: PUBLIC_URL, else localhost.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a link that logs a browser in to the page. It works once, within 15 minutes.

    Run it where the proxy runs and as the same user, so that both use the same DATA_DIR. In a container:
    docker exec claude-proxy claude-proxy login
    """
    settings = user_settings(config, data_dir=data_dir).settings
    code = new_code(Logins(settings.data_dir), FileStore(settings.data_dir))
    link = login_link(settings, code, None if url is None else normal_url(url))
    if as_json:
        write_json({"link": link, "seconds": CODE_SECONDS})
        return
    say(link)
    say(NOTE.format(address=link.partition("/login#")[0]), err=True)


def new_code(logins: Logins, files: FileStore) -> str:
    """Make a code that the proxy accepts, or exit with a sentence that says why there is none."""
    if not _is_folder(files.folder):
        fail(
            f"No proxy keeps its logins in {files.folder}. Start the proxy first; if it runs with another DATA_DIR, name that "
            "with --data-dir. If its log says that DATA_DIR cannot be written, only the link in that log works, or ADMIN_TOKEN."
        )
    logins.start(alone=False)
    try:
        code = logins.make_code()
    except OSError as error:
        fail(f"The code cannot be stored in {files.folder}: {(error.strerror or str(error)).lower()}.")
    if code is None:
        fail(f"{logins.problem}: run this as the user that runs the proxy.")
    return code


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except PermissionError:  # it may be there: making the code says what is missing
        return True


def fail(sentence: str) -> NoReturn:
    """Say why, and exit with 1."""
    say(sentence, err=True)
    raise typer.Exit(1)
