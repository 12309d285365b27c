"""`claude-proxy env`: exports for a shell."""

from __future__ import annotations

import os
import re
import shlex
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from claude_proxy.cli.address import proxy_url
from claude_proxy.cli.arguments import AppFile, AsJson, ConfigFile
from claude_proxy.cli.claude_settings import beside_environment, status_line
from claude_proxy.cli.client_env import Models, applied, missing_credential, removals, variables
from claude_proxy.cli.output import say, write_json
from claude_proxy.cli.project import user_settings
from claude_proxy.protocol.claude_code import Variable

Shell = Literal["bash", "zsh", "fish", "powershell"]

Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Address of a proxy elsewhere. Default: this machine's, from HOST and PORT."),
]
StatusLine = Annotated[
    bool, typer.Option("--statusline/--no-statusline", help="Set up the status line, unless there is one already.")
]
ModelNames = Annotated[
    Models | None,
    typer.Option(help="Model names to set: glm, claude (removes GLM's) or none. Default: chosen by the upstream's host."),
]


def env(
    shell: Annotated[Shell | None, typer.Option(help="Shell whose syntax to use. Default: that of $SHELL.")] = None,
    models: ModelNames = None,
    url: Url = None,
    unset: Annotated[bool, typer.Option("--unset", help="Print the lines that undo it.")] = False,
    comments: Annotated[
        bool | None,
        typer.Option("--comments/--plain", help="Explain each line. Default: yes, except into a pipe or $(...)."),
    ] = None,
    as_json: AsJson = False,
    as_settings: Annotated[
        bool, typer.Option("--settings", help="Print it for Claude Code's settings.json; silences its model warning too.")
    ] = False,
    with_status_line: StatusLine = True,
    config: ConfigFile = None,
    app: AppFile = None,
) -> None:
    """Print the variables that point Claude Code at the proxy, ready for your shell.

    The output contains PROXY_API_KEY if that is set, because Claude Code has to send it.
    """
    if as_settings and (unset or as_json):
        raise typer.BadParameter("--settings prints a file of its own; it cannot be combined with --unset or --json.")
    settings = user_settings(config, app).settings
    changes = removals(settings, os.environ) if unset else variables(settings, os.environ, proxy_url(settings, url), models)
    if as_settings:
        found = settings_file(changes, os.environ, Path.cwd())
        write_json(found | status_line(os.environ, Path.cwd()) if with_status_line else found)
    elif as_json:
        write_json({change.name: change.value for change in changes})
    else:
        explain = not into_pipe() if comments is None else comments
        typer.echo(render(changes, shell or default_shell(os.environ), comments=explain))
    problem = None if unset else missing_credential(settings, os.environ)
    if problem:
        say(problem, err=True)


def settings_file(changes: list[Variable], environ: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Return the content for Claude Code's settings.json: the variables, and settings that have no variable."""
    block = {change.name: change.value for change in changes if change.value is not None}
    return {"env": block, **beside_environment(applied(environ, changes), folder)}


def default_shell(environ: Mapping[str, str]) -> Shell:
    """Return the shell that $SHELL names; an unknown one is assumed to use bash's syntax."""
    name = environ.get("SHELL", "powershell" if os.name == "nt" else "").rsplit("/", 1)[-1].lower()
    if name in ("pwsh", "powershell"):
        return "powershell"
    return "fish" if name == "fish" else "bash"


def into_pipe() -> bool:
    """Whether stdout is a pipe: an unquoted $(...) joins the lines, so a comment would hide those after it."""
    try:
        return stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def render(changes: list[Variable], shell: Shell, *, comments: bool = True) -> str:
    """Render the changes as lines for `shell`."""
    line = LINES[shell]
    return "\n".join(part for change in changes for part in ([f"# {change.why}"] if comments else []) + [line(change)])


def bash_line(change: Variable) -> str:
    """POSIX syntax, for bash, zsh, dash and ksh; the semicolon is needed for an unquoted $(...)."""
    return f"unset {change.name};" if change.value is None else f"export {change.name}={shlex.quote(change.value)};"


def fish_line(change: Variable) -> str:
    r"""fish: within single quotes only \ and ' are special (fishshell.com/docs/current/language.html#quotes)."""
    if change.value is None:
        return f"set -e {change.name};"
    return f"set -gx {change.name} '" + re.sub(r"([\\'])", r"\\\1", change.value) + "';"


def powershell_line(change: Variable) -> str:
    """PowerShell: a quote is doubled, also the typographic ones, which count as quotes (about_Quoting_Rules)."""
    if change.value is None:
        return f"Remove-Item Env:{change.name} -ErrorAction SilentlyContinue;"
    return f"$env:{change.name} = '" + re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", change.value) + "';"


LINES: dict[Shell, Callable[[Variable], str]] = {
    "bash": bash_line,
    "zsh": bash_line,
    "fish": fish_line,
    "powershell": powershell_line,
}
