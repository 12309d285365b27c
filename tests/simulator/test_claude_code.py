"""Claude Code itself against the simulator, without the proxy: what later runs through it are compared with.

Needs the program: `npm install @anthropic-ai/claude-code@2.1.330`, named by CLAUDE_CODE or on PATH as `claude`.
"""

import asyncio
import json
import os
import shutil
import struct
import zlib
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.simulator import Simulator

PROGRAM = shutil.which(os.environ.get("CLAUDE_CODE", "claude"))
pytestmark = [pytest.mark.system, pytest.mark.skipif(PROGRAM is None, reason="no Claude Code: set CLAUDE_CODE")]


def red_square() -> bytes:
    """A PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + b"\xff\0\0" * 64) * 64))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


async def ask(sim: Simulator, folder: Path, prompt: str, *options: str) -> dict[str, Any]:
    """Run one prompt headless in a fresh home; return its JSON result."""
    home, work = folder / "home", folder / "work"
    home.mkdir()
    work.mkdir()
    (work / "a.txt").write_text("the first word is apple\n")
    (work / "b.txt").write_text("the second word is pear\n")
    (work / "p.png").write_bytes(red_square())
    environ = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "IS_SANDBOX": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "ANTHROPIC_BASE_URL": sim.base_url,
        "ANTHROPIC_AUTH_TOKEN": "dummy",
    }
    command = (str(PROGRAM), "-p", prompt, "--output-format", "json", "--dangerously-skip-permissions", *options)
    process = await asyncio.create_subprocess_exec(*command, env=environ, cwd=work, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    try:
        async with asyncio.timeout(60):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    result: dict[str, Any] = json.loads(out)
    return result


@pytest.mark.parametrize(
    ("prompt", "requests", "words"),
    [
        ("say hi", 1, ["You said: say hi"]),
        ("use Read on a.txt", 2, ["apple"]),
        ("run Bash: echo one two", 2, ["one two"]),
        ("in parallel: use Read on a.txt; use Read on b.txt", 2, ["apple", "pear"]),
        ("ask a subagent: run Bash: echo from below", 4, ["from below"]),
        ("use Read on p.png", 2, ["[image]"]),
        ("use Read on a.txt\nrun Bash: cat b.txt", 3, ["pear"]),
    ],
)
async def test_tool_loops(simulator: Simulator, tmp_path: Path, prompt: str, requests: int, words: list[str]) -> None:
    result = await ask(simulator, tmp_path, prompt)
    assert [word for word in words if word not in result["result"]] == []
    assert [(one.method, one.status, one.outcome) for one in simulator.requests] == [("POST", 200, "answered")] * requests


async def test_its_cost_follows_from_the_usage_reported(simulator: Simulator, tmp_path: Path) -> None:
    result = await ask(simulator, tmp_path, "use Read on a.txt", "--model", "claude-opus-5-5")
    reported = simulator.reported
    assert result["total_cost_usd"] == pytest.approx((reported.input_tokens * 4 + reported.output_tokens * 20) / 1e6)


async def test_context_asks_for_a_burst_of_counts(simulator: Simulator, tmp_path: Path) -> None:
    await ask(simulator, tmp_path, "/context")
    assert len(simulator.requests) > 10
    assert {one.path for one in simulator.requests} == {"/api/anthropic/v1/messages/count_tokens"}


@pytest.mark.parametrize("model", ["sim-gzip", "sim-br", "sim-zstd", "sim-thinking", "sim-crlf", "sim-split", "sim-trailers"])
async def test_manners_of_answering(simulator: Simulator, tmp_path: Path, model: str) -> None:
    result = await ask(simulator, tmp_path, "say hi", "--model", model)
    assert result["result"] == "This is a simulated answer. You said: say hi"
    assert len(simulator.requests) == 1
