"""Claude Code through TLS, a front and a stripped prefix.

Needs the program: `npm install @anthropic-ai/claude-code@2.1.330`, named by CLAUDE_CODE or on PATH as `claude`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import anyio
import pytest

from claude_proxy.simulator import Simulator
from tests.deploy.fronts import FRONTS, Certificate, front
from tests.deploy.servers import PREFIX, server

PROGRAM = shutil.which(os.environ.get("CLAUDE_CODE", "claude"))
pytestmark = [pytest.mark.system, pytest.mark.skipif(PROGRAM is None, reason="no Claude Code: set CLAUDE_CODE")]


@pytest.mark.parametrize("name", FRONTS)
async def test_a_tool_loop_through_tls_and_a_stripped_prefix(name: str, simulator: Simulator, tmp_path: Path) -> None:
    certificate = Certificate.make(tmp_path)
    for folder in ("front", "home", "work"):
        (tmp_path / folder).mkdir()
    (tmp_path / "work/a.txt").write_text("the first word is apple\n")
    async with (
        server("serve", tmp_path, simulator.base_url) as started,
        front(name, tmp_path / "front", certificate, started.port, "localhost") as before,
    ):
        result = await anyio.to_thread.run_sync(ask, before.https, tmp_path, "use Read on a.txt")
    assert "apple" in result
    assert [(one.path, one.status) for one in simulator.requests] == [("/api/anthropic/v1/messages", 200)] * 2


def ask(port: int, folder: Path, prompt: str) -> str:
    """What Claude Code says to a prompt, run headless in a fresh home."""
    environ = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder / "home"),
        "IS_SANDBOX": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "NODE_EXTRA_CA_CERTS": str(folder / "ca.pem"),
        "ANTHROPIC_BASE_URL": f"https://localhost:{port}{PREFIX}/api/anthropic",
        "ANTHROPIC_AUTH_TOKEN": "dummy",
    }
    command = [str(PROGRAM), "-p", prompt, "--output-format", "json", "--dangerously-skip-permissions"]
    done = subprocess.run(
        command,
        env=environ,
        cwd=folder / "work",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return str(json.loads(done.stdout)["result"])
