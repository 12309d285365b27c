"""`claude-proxy serve` as a process of its own, and what the kernel says of its memory."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
START_SECONDS = 60


class Served:
    """A running process.

    Attributes:
        port: on 127.0.0.1.
    """

    def __init__(self, pid: int, port: int) -> None:
        self.pid = pid
        self._proc = Path(f"/proc/{pid}")
        self.port = port

    def resident(self) -> int:
        """Bytes of memory it holds; the peak is counted anew from here."""
        (self._proc / "clear_refs").write_text("5")  # proc(5): resets the peak
        return self._status("VmRSS")

    def peak(self) -> int:
        """The most bytes it has held since `resident()`."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        for line in (self._proc / "status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"/proc says nothing of {name}")


@asynccontextmanager
async def served(base_url: str, folder: Path, *, returncode: int = 0, **environ: str) -> AsyncIterator[Served]:
    """Run it in front of `base_url`, with `folder` as its home; it has to end with `returncode`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "claude_proxy", "serve", "--port", "0",
        cwd=folder,
        env={
            "PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(SOURCE),
            "DATA_DIR": str(folder), "LOG_FORMAT": "json", "LEDGER": "off", "BASE_URL": base_url, **environ,
        },
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            while (line := json.loads(await process.stderr.readline() or b"{}")).get("event") != "listening":
                assert line, "it ended before it listened"
        yield Served(process.pid, int(line["on"][0].rpartition(":")[2]))
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(START_SECONDS):
            _, rest = await process.communicate()
    assert process.returncode == returncode, rest
