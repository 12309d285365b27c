"""`claude-proxy serve` as a user starts it, with any standard error, in front of an upstream that answers at once."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.integration.listeners import listening
from tests.integration.messages import MESSAGES, post
from tests.integration.served import SOURCE
from tests.integration.wire import PATIENCE, connect, request

COMMAND = (sys.executable, "-P", "-m", "claude_proxy", "serve")
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Log:
    """The read end of a log, which is read when the test says so."""

    def __init__(self, fd: int) -> None:
        """Take the descriptor over."""
        self._fd = fd
        self._rest = b""
        self.lines: list[bytes] = []

    def close(self) -> None:
        os.close(self._fd)

    async def port(self) -> int:
        """The port of a process that has just been started."""
        return int((await self.event("listening"))["on"][0].rpartition(":")[2])

    async def event(self, name: str) -> dict[str, Any]:
        """Read up to the line of this event."""
        async with asyncio.timeout(PATIENCE):
            while not (found := [line for line in self.events() if line["event"] == name]):
                assert await self._read(), f"the log ended without {name!r}: {self.lines}"
        return found[0]

    async def to_its_end(self) -> None:
        """Read until nobody holds the other end any more."""
        async with asyncio.timeout(PATIENCE):
            while await self._read():
                pass

    def events(self) -> list[dict[str, Any]]:
        """The lines so far that are JSON."""
        return [json.loads(line) for line in self.lines if line.startswith(b"{")]

    async def _read(self) -> bool:
        try:
            data = await asyncio.to_thread(os.read, self._fd, 65536)
        except OSError:  # a terminal says so that the other end is closed
            data = b""
        *whole, self._rest = (self._rest + data).split(b"\n")
        self.lines += [line.rstrip(b"\r") for line in whole]
        return bool(data)


@asynccontextmanager
async def started(
    base_url: str, folder: Path, *, stderr: int | None, through: Sequence[str] = (), **environ: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start it in a session of its own; what is left of it at the end is killed.

    Args:
        base_url: of the upstream.
        folder: its home and working directory.
        stderr: a descriptor, the process's own copy of which is closed here.
        through: a command that ends by executing its arguments.
        environ: settings.
    """
    process = await asyncio.create_subprocess_exec(
        *through, *COMMAND,
        cwd=folder,
        env={
            "PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(SOURCE),
            "DATA_DIR": str(folder), "LOG_FORMAT": "json", "BASE_URL": base_url, "PORT": "0", **environ,
        },
        stdin=asyncio.subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
    )  # fmt: skip
    if stderr is not None:
        os.close(stderr)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ended(process: asyncio.subprocess.Process) -> int:
    """The exit code, once it has ended by itself."""
    async with asyncio.timeout(PATIENCE):
        return await process.wait()


@asynccontextmanager
async def upstream() -> AsyncIterator[str]:
    """The address of an upstream that answers each request with `{}`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = listener.heads[-1]
        while True:
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
            writer.write(ANSWER)
            head = await reader.readuntil(b"\r\n\r\n")

    async with listening(answer) as listener:
        yield f"http://127.0.0.1:{listener.port}"


async def all_answered(port: int, count: int, connections: int = 8) -> None:
    """`count` requests to /health and as many to the proxied path, all answered with 200."""

    async def some() -> None:
        async with connect(port) as wire:
            for _ in range(count // connections):
                for asked in (request("GET", "/health"), post(MESSAGES, stream=False)):
                    wire.send(asked)
                    assert (await wire.reply()).status == 200

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(some())
