"""Claude Code's own settings: files that override the environment, and settings that have no variable.

The `env` block of a settings file overrides the shell's environment (https://code.claude.com/docs/en/env-vars,
"Precedence"), so an ANTHROPIC_BASE_URL left there by another tool makes Claude Code bypass the proxy.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_proxy.protocol.claude_code import EFFORT, MODEL_NAMES, picker_rows
from claude_proxy.safepath import PYTHON
from claude_proxy.settings import visible

REFRESH = 2  # seconds


@dataclass(frozen=True, slots=True)
class Overruled:
    """A variable that a settings file sets to an unwanted value. `value` is escaped, as the file may come from a checkout."""

    name: str
    value: str
    file: Path


def settings_files(environ: Mapping[str, str], folder: Path) -> list[Path]:
    """Return the files that can have an `env` block, lowest precedence first: the user's, the project's, its local one."""
    home = Path(environ["CLAUDE_CONFIG_DIR"]) if environ.get("CLAUDE_CONFIG_DIR") else Path(environ.get("HOME", "~")) / ".claude"
    project = folder / ".claude"
    return [home.expanduser() / "settings.json", project / "settings.json", project / "settings.local.json"]


def read(file: Path) -> dict[str, Any]:
    """Return a settings file's content; empty if there is no such file or it is not a JSON object."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def env_block(file: Path) -> dict[str, str]:
    """Return the `env` block of a settings file; empty if there is no such file or block."""
    block = read(file).get("env")
    return {name: value for name, value in block.items() if isinstance(value, str)} if isinstance(block, dict) else {}


def effective(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the environment that Claude Code will see when started in `folder`."""
    result = dict(environ)
    for file in settings_files(environ, folder):
        result.update(env_block(file))
    return result


def beside_environment(environ: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Return settings that have no variable: they silence the warning about GLM models that Claude Code does not know.

    They are for its option `--settings`, which overrides the files. Measured with 2.1.332: a picker given there replaces the
    one in the user's file, so the file's rows are repeated; an effort given there overrides the one that `/effort` saved, so
    it is included only if none was saved.

    Args:
        environ: the environment that Claude Code will have.
        folder: where it will be started. If a settings file of that project has a picker, that picker is kept.

    Returns:
        `{}` if nothing is needed.
    """
    rows = picker_rows(environ.get(name, "").removesuffix("[1m]") for name in (*MODEL_NAMES, "ANTHROPIC_MODEL"))
    user, *project = [read(file) for file in settings_files(environ, folder)]
    if not rows or any("modelPicker" in content for content in project):
        return {}
    picker = user.get("modelPicker")
    picker = picker if isinstance(picker, dict) and isinstance(picker.get("options"), list) else {"options": []}
    own = {row.get("model") for row in picker["options"] if isinstance(row, dict)}
    result: dict[str, Any] = {
        "modelPicker": {**picker, "options": [*picker["options"], *(row for row in rows if row["model"] not in own)]}
    }
    if not any("effortLevel" in content or "modelSettings" in content for content in (user, *project)):
        result["effortLevel"] = EFFORT
    return result


def status_line(environ: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """The setting that shows `claude-proxy statusline` below Claude Code's prompt; `{}` if the user or the project has one.

    It runs every two seconds, because otherwise Claude Code runs it only after an answer, and a silent upstream would not be
    visible. Python must not import modules from the folder that Claude Code works in, which may be an untrusted checkout: `-P`
    keeps the working directory off the path, `-E` ignores PYTHONPATH, where an empty part means that directory.

    Args:
        environ: the environment that Claude Code will have.
        folder: where it will be started.
    """
    if any("statusLine" in read(file) for file in settings_files(environ, folder)):
        return {}
    words = (*PYTHON, "-E", "-m", "claude_proxy", "statusline")
    command = subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
    return {"statusLine": {"type": "command", "command": command, "refreshInterval": REFRESH}}


def overruled(environ: Mapping[str, str], folder: Path, wanted: Mapping[str, str]) -> list[Overruled]:
    """Return the `wanted` variables that Claude Code will see with another value, and the files that set them."""
    winners: dict[str, Overruled] = {}
    for file in settings_files(environ, folder):
        for name, value in env_block(file).items():
            if name in wanted:
                winners[name] = Overruled(name, visible(value), file)
    return [found for name, found in winners.items() if found.value.rstrip("/") != wanted[name].rstrip("/")]
