"""Third-party programs for the deploy tests: a free port, a program that listens, and its end by process id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

START_SECONDS = 30
STOP_SECONDS = 15


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago; whoever takes it next fails loudly and may try again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def accepts(port: int) -> bool:
    """Whether 127.0.0.1:port takes a connection."""
    try:
        stream = await anyio.connect_tcp("127.0.0.1", port)
    except OSError:
        return False
    await stream.aclose()
    return True


class Program:
    """A running program with its output in a file."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def output(self) -> str:
        """What it printed so far, both streams."""
        return self.log.read_text(errors="replace")

    async def until(self, ready: Callable[[], Awaitable[bool]]) -> None:
        """Ask `ready` until it says yes: a program of others gives no signal to wait for.

        Raises:
            AssertionError: with the program's output, when it ended or is not ready in time.
        """
        with anyio.move_on_after(START_SECONDS):
            while self.process.poll() is None:
                if await ready():
                    return
                await anyio.sleep(0.02)
        raise AssertionError(f"not ready (exit {self.process.poll()}):\n{self.output[-3000:]}")

    async def until_listening(self, port: int) -> None:
        """Wait until 127.0.0.1:port accepts.

        Raises:
            AssertionError: as `until`.
        """
        await self.until(lambda: accepts(port))

    async def ended(self) -> int:
        """Wait for its end and return the exit code; kill it when that takes too long."""
        with anyio.move_on_after(STOP_SECONDS):
            return await anyio.to_thread.run_sync(self.process.wait, abandon_on_cancel=True)
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        raise AssertionError(f"did not end within {STOP_SECONDS} s:\n{self.output[-3000:]}")


@asynccontextmanager
async def running(
    command: Sequence[str | Path], folder: Path, name: str, *, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> AsyncIterator[Program]:
    """Run `command` in a process group of its own until the block ends."""
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: ASYNC220 - its output goes to a file, nothing is awaited of it
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=dict(environ) if environ is not None else None,
            cwd=cwd,
            start_new_session=True,
        )
    program = Program(process, log)
    try:
        yield program
    finally:
        if process.poll() is None:
            process.terminate()
            with anyio.CancelScope(shield=True):
                await program.ended()
