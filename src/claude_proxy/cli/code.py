"""`claude-proxy code`: Claude Code with the environment of `claude-proxy env`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from claude_proxy.cleaning import visible
from claude_proxy.cli.address import probe, proxy_url
from claude_proxy.cli.arguments import AppFile, ConfigFile
from claude_proxy.cli.claude_settings import beside_environment, overruled, status_line
from claude_proxy.cli.client_env import applied, missing_credential, variables
from claude_proxy.cli.env import ModelNames, StatusLine, Url
from claude_proxy.cli.output import say
from claude_proxy.cli.project import user_settings
from claude_proxy.proxy.target import PREFIX

INSTALL = "npm install -g @anthropic-ai/claude-code"
NOT_FOUND = 127  # the exit code of shells for a missing command


def code(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="CLAUDE_ARGUMENTS", help="Passed on unchanged.")] = None,
    start: Annotated[bool, typer.Option("--start", help="Run a proxy for as long as Claude Code runs.")] = False,
    models: ModelNames = None,
    url: Url = None,
    with_status_line: StatusLine = True,
    config: ConfigFile = None,
    app: AppFile = None,
) -> None:
    """Run Claude Code through the proxy. Its arguments, signals and exit code are its own.

    Options of this command come first; everything from the first other word on is passed to Claude Code.
    """
    if start and url is not None:
        raise typer.BadParameter("--start runs a proxy on this machine; it cannot be combined with --url.")
    settings = user_settings(config, app).settings
    claude = shutil.which("claude")
    if claude is None:
        fail(f"Claude Code (claude) is not on the PATH. Install it: {INSTALL}", NOT_FOUND)
    address = proxy_url(settings, url)
    environ = applied(os.environ, variables(settings, os.environ, address, models))
    for sentence in warnings(missing_credential(settings, os.environ), environ, address):
        say(sentence, err=True)
    option = settings_option(environ, arguments or [], with_status_line=with_status_line)
    command = [claude, *option, *(arguments or [])]
    health = probe(address)
    if health.version is None and start and not health.listening:
        from claude_proxy.cli.companion import run_with_proxy

        raise typer.Exit(run_with_proxy(command, environ, address, config, app))
    if health.version is None:
        fail(no_proxy(address, health.problem, health.listening), 1)
    os.execve(claude, command, environ)  # noqa: S606 - the user's own program; signals and exit code become its own


def settings_option(environ: Mapping[str, str], arguments: Sequence[str], *, with_status_line: bool = True) -> list[str]:
    """Return settings without a variable as Claude Code's option; nothing if the user gives one (Claude Code uses the last)."""
    if any(word.partition("=")[0] == "--settings" for word in arguments):
        return []
    settings = beside_environment(environ, Path.cwd())
    if with_status_line:
        settings |= status_line(environ, Path.cwd())
    return ["--settings", json.dumps(settings)] if settings else []


def warnings(credential: str | None, environ: Mapping[str, str], address: str) -> list[str]:
    """Return warnings: there is no credential, or a settings file sends Claude Code elsewhere."""
    others = overruled(environ, Path.cwd(), {"ANTHROPIC_BASE_URL": address + PREFIX})
    return [
        *([] if credential is None else [credential]),
        *(
            f"{other.file} sets ANTHROPIC_BASE_URL to {visible(other.value)}, which overrides the environment: "
            f"remove it there, or set it to {address}{PREFIX}."
            for other in others
        ),
    ]


def no_proxy(address: str, problem: str, listening: bool) -> str:
    """Say what to do when the proxy is not running."""
    if listening:
        return f"No proxy answers at {address}: {problem}. Give its address with --url or PORT."
    return (
        f"No proxy answers at {address}: {problem}. Start one in another terminal (claude-proxy serve), "
        "or for this run: claude-proxy code --start"
    )


def fail(sentence: str, status: int) -> NoReturn:
    """Print the sentence and exit with `status`."""
    say(sentence, err=True)
    raise typer.Exit(status)
