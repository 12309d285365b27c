"""`serve` as a real process, read through its log."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.server.wire import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
# Makes standard input the controlling terminal of its session, and goes on as the command that follows.
TAKES_TERMINAL = (
    sys.executable,
    "-c",
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])",
)


def has_ipv6_loopback() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


class Process:
    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child
        self.log: list[dict[str, Any]] = []
        self.words: list[str] = []  # lines on standard error that are no log lines
        self.port = 0  # on 127.0.0.1

    @property
    def pid(self) -> int:
        return self.child.pid

    async def word(self, line: str) -> None:
        """Wait for a line on standard error that is no log line."""
        assert self.child.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while line not in self.words:
                self._note(await self.child.stderr.readline())

    async def event(self, name: str, number: int = 1) -> dict[str, Any]:
        """The log line in which this event comes for the `number`th time. The log's end is an error."""
        assert self.child.stderr is not None
        try:
            async with asyncio.timeout(PATIENCE):
                while len(self.events(name)) < number:
                    if not (line := await self.child.stderr.readline()):
                        raise AssertionError(f"the process ended without {name!r}: {self.log} {self.words}")
                    self._note(line)
        except TimeoutError:
            raise AssertionError(f"no {name!r} came: {self.log} {self.words}") from None
        return self.events(name)[number - 1]

    def _note(self, line: bytes) -> None:
        try:
            self.log.append(json.loads(line))
        except ValueError:
            self.words.append(line.decode().rstrip("\n"))

    def signal(self, number: int) -> None:
        self.child.send_signal(number)

    async def end(self) -> tuple[int, str]:
        """Exit code and standard output, once it has ended by itself."""
        async with asyncio.timeout(PATIENCE):
            out, err = await self.child.communicate()
        for line in err.splitlines():
            self._note(line)
        assert self.child.returncode is not None
        return self.child.returncode, out.decode()

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == name]


@asynccontextmanager
async def start(
    *, fd: int | None = None, stdin: int | None = None, through: Sequence[str] = (), **environ: str
) -> AsyncIterator[Process]:
    """Start tests/server/program.py with these environment variables; what is left at the end is killed.

    It has a session of its own, without a controlling terminal. `through`: a command that ends by executing its arguments.
    """
    child = await asyncio.create_subprocess_exec(
        *through,
        sys.executable,
        "-m",
        "tests.server.program",
        cwd=ROOT,
        env={**_own(), "PORT": "0", "LOG_FORMAT": "json", **environ},
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=() if fd is None else (fd,),
        start_new_session=True,
    )
    process = Process(child)
    try:
        yield process
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGKILL)
            await child.communicate()


@asynccontextmanager
async def serving(*, stdin: int | None = None, through: Sequence[str] = (), **environ: str) -> AsyncIterator[Process]:
    """The same, listening."""
    async with start(stdin=stdin, through=through, **environ) as process:
        address = (await process.event("listening"))["on"][0]
        if address.startswith("http"):
            process.port = int(address.rpartition(":")[2])
        yield process


def _own() -> dict[str, str]:
    """Our environment without what would be settings of the server's."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("COVERAGE", "PYTHON", "COV_"))}
    return {"PATH": os.environ["PATH"], **kept, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PYTHONUNBUFFERED": "1"}
