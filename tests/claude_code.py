"""The real Claude Code, as the tests start it: headless, in a fresh home, with nothing of this machine's environment.

Needs the program: `npm install @anthropic-ai/claude-code@2.1.332`, named by CLAUDE_CODE or on PATH as `claude`. With
CLAUDE_CODE_NEWEST a second version takes part in the tests that are marked `each_version`.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import shutil
import struct
import termios
import zlib
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PINNED = shutil.which(os.environ.get("CLAUDE_CODE", "claude"))
NEWEST = shutil.which(os.environ.get("CLAUDE_CODE_NEWEST", ""))
needed = pytest.mark.skipif(PINNED is None, reason="no Claude Code: set CLAUDE_CODE")
each_version = pytest.mark.parametrize(
    "program", [pytest.param(PINNED, id="pinned"), *([pytest.param(NEWEST, id="newest")] if NEWEST else [])]
)
# Root may not skip the permissions without IS_SANDBOX=1, and that changes how Claude Code meets a 529.
ALLOWED = ("--allowedTools", "Read,Bash,Agent")


@dataclass
class Run:
    """How a run ended. `result` is what `--output-format json` printed."""

    result: dict[str, Any]
    stderr: str
    returncode: int | None


def environment(base_url: str, home: Path, **more: str) -> dict[str, str]:
    """The variables of a run; an empty one among `more` is left out."""
    found = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "ANTHROPIC_BASE_URL": base_url,
        "ANTHROPIC_AUTH_TOKEN": "dummy",
        **more,
    }
    return {name: value for name, value in found.items() if value}


def furnish(folder: Path) -> tuple[Path, Path]:
    """A home and a working directory with files to read."""
    home, work = folder / "home", folder / "work"
    home.mkdir(parents=True)
    work.mkdir()
    (work / "a.txt").write_text("the first word is apple\n")
    (work / "b.txt").write_text("the second word is pear\n")
    (work / "p.png").write_bytes(picture())
    return home, work


async def prompted(
    program: str | None, prompt: str, *options: str, environ: dict[str, str], work: Path, limit: float = 120
) -> Run:
    """Run one prompt headless."""
    command = (str(program), *options, "-p", prompt, "--output-format", "json")
    process = await asyncio.create_subprocess_exec(*command, env=environ, cwd=work, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    try:
        async with asyncio.timeout(limit):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Run(json.loads(out), err.decode(), process.returncode)


@asynccontextmanager
async def interactive(program: str | None, prompt: str, *, environ: dict[str, str], work: Path) -> AsyncIterator[bytearray]:
    """Run it in a terminal, with a first prompt; yields what it writes there. First-run questions are answered."""
    known = {"hasCompletedOnboarding": True, "theme": "dark", "projects": {str(work): {"hasTrustDialogAccepted": True}}}
    (Path(environ["HOME"]) / ".claude.json").write_text(json.dumps(known))
    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    environ = {"TERM": "xterm-256color", **environ}
    process = await asyncio.create_subprocess_exec(
        str(program), prompt, env=environ, cwd=work, stdin=inside, stdout=inside, stderr=inside, start_new_session=True
    )
    os.close(inside)
    screen = bytearray()
    loop = asyncio.get_running_loop()
    loop.add_reader(outside, lambda: screen.extend(os.read(outside, 65536)))
    try:
        yield screen
    finally:
        loop.remove_reader(outside)
        process.kill()
        await process.wait()
        os.close(outside)


def picture() -> bytes:
    """A PNG of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + b"\xff\0\0" * 64) * 64))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")
