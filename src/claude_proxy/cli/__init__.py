"""The command line: `claude-proxy`. One module per command, imported only when it is called (`commands.py`)."""

import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of the `claude-proxy` command.

    Two commands do without Typer as they are usually called; with other arguments, such as `--help`, they are commands like the
    rest. `statusline` runs every two seconds for each Claude Code, and Typer takes four times as long to load as it takes to run.
    `serve` stays, and would keep Typer in memory.
    """
    if sys.argv[1:] == ["statusline"]:
        from claude_proxy.cli.statusline import statusline

        statusline()
    elif sys.argv[1:2] != ["serve"] or not _served(sys.argv[2:]):
        from claude_proxy.cli.commands import main as run

        run()


def _served(words: list[str]) -> bool:
    """Run `serve` if its arguments are plain, and exit; return False if they are not."""
    from claude_proxy.cli.serving import plain, serve_plainly

    named = plain(words)
    if named is None:
        return False
    sys.exit(serve_plainly(*named))
