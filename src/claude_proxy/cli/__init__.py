"""The command line: `claude-proxy`. One module per command, imported when the command is called (`commands.py`)."""

from claude_proxy.cli.commands import main

__all__ = ["main"]
