"""The command line: `claude-proxy`. One module per command, imported only when it is called (`commands.py`)."""

from claude_proxy.cli.commands import main

__all__ = ["main"]
