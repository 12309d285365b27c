"""What the tests of the command line share: an environment of their own, and two ways to run a command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from claude_proxy.cli.commands import app
from claude_proxy.settings import Settings

SOURCE = Path(__file__).parents[2] / "src"
Program = Callable[..., "subprocess.CompletedProcess[str]"]
Invoke = Callable[..., Result]
FOREIGN = (
    "CLAUDE_PROXY_CONFIG", "XDG_CONFIG_HOME", "CLAUDE_CONFIG_DIR", "NO_COLOR", "FORCE_COLOR",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory and home, and an environment that sets nothing of ours."""
    names = {name.upper() for name in Settings.model_fields}
    for name in list(os.environ):
        if name.removesuffix("_FILE") in names or name in FOREIGN or name.startswith(("ANTHROPIC_", "CLAUDE_CODE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def own_file(home: Path) -> Path:
    """Where the user's own claude-proxy.toml would be, on Linux; its folder is made."""
    file = home / ".config/claude-proxy/claude-proxy.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a command in this process."""

    def run(*words: str, **environ: str) -> Result:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(app, list(words), prog_name="claude-proxy")

    return run


@pytest.fixture
def program() -> Program:
    """Run a command as a process of its own, as a user does."""

    def run(*words: str, environ: Mapping[str, str] | None = None, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "claude_proxy", *words],
            env=process_environ(environ),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


def process_environ(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child: ours as it is now, with the source on its path."""
    return {**os.environ, "PYTHONPATH": str(SOURCE), **(changes or {})}
