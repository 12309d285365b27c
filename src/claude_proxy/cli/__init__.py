"""The command line: `claude-proxy`. One module per command, imported only when it is called (`commands.py`)."""

import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of the `claude-proxy` command.

    `statusline` runs every two seconds for each Claude Code, so it does not use Typer, which takes four times as long to load as
    `statusline` takes to run. With arguments, such as `--help`, it is a command like the others.
    """
    if sys.argv[1:] == ["statusline"]:
        from claude_proxy.cli.statusline import statusline

        statusline()
    else:
        from claude_proxy.cli.commands import main as run

        run()
