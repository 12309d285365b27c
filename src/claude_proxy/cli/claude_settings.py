"""Claude Code's own settings files, as far as they overrule the environment.

Their `env` block replaces what the shell set (code.claude.com/docs/en/env-vars, "Precedence"), so an ANTHROPIC_BASE_URL
left there by another tool sends Claude Code past the proxy whatever the shell says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from claude_proxy.settings import visible


@dataclass(frozen=True, slots=True)
class Overruled:
    """A variable that a settings file sets to something else than we want. The file may be a checkout's: `value` is escaped."""

    name: str
    value: str
    file: Path


def settings_files(environ: Mapping[str, str], folder: Path) -> list[Path]:
    """The files that can hold an `env` block, weakest first: the user's, the project's, the project's local one."""
    home = Path(environ["CLAUDE_CONFIG_DIR"]) if environ.get("CLAUDE_CONFIG_DIR") else Path(environ.get("HOME", "~")) / ".claude"
    project = folder / ".claude"
    return [home.expanduser() / "settings.json", project / "settings.json", project / "settings.local.json"]


def env_block(file: Path) -> dict[str, str]:
    """The `env` block of a settings file; empty where there is no such file or block."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    block = content.get("env") if isinstance(content, dict) else None
    return {name: value for name, value in block.items() if isinstance(value, str)} if isinstance(block, dict) else {}


def overruled(environ: Mapping[str, str], folder: Path, wanted: Mapping[str, str]) -> list[Overruled]:
    """Which of the `wanted` variables Claude Code will see with another value, and whose doing that is."""
    winners: dict[str, Overruled] = {}
    for file in settings_files(environ, folder):
        for name, value in env_block(file).items():
            if name in wanted:
                winners[name] = Overruled(name, visible(value), file)
    return [found for name, found in winners.items() if found.value.rstrip("/") != wanted[name].rstrip("/")]
