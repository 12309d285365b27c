"""Real ntfy servers on loopback, and what a phone shows of their messages."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.process import free_port, running

ROOT = Path(__file__).parents[2]
CANNOT_BE_HAD = 77  # exit code of .ci/ntfy-binary.sh
Message = dict[str, Any]


@dataclass(frozen=True)
class Program:
    """The ntfy program, server and command in one.

    Attributes:
        replaces: whether messages of one sequence replace each other (2.16 and later).
    """

    path: Path
    replaces: bool


def program(which: str) -> Program:
    """The `new` or the `old` ntfy; skips the test where it cannot be had."""
    found = subprocess.run([ROOT / ".ci/ntfy-binary.sh", which], capture_output=True, text=True, check=False)
    if found.returncode == CANNOT_BE_HAD:
        pytest.skip(found.stderr.strip())
    assert found.returncode == 0, found.stderr
    return Program(Path(found.stdout.strip()), which == "new")


class Server:
    """A running server.

    Attributes:
        folder: its own, for files of the test too.
    """

    def __init__(self, url: str, program: Program, folder: Path) -> None:
        self.url, self.program, self.folder = url, program, folder

    @property
    def config(self) -> str:
        return f"--config={self.folder / 'server.yml'}"

    @property
    def environ(self) -> dict[str, str]:
        """For a Command that runs this version."""
        return {"PATH": str(self.program.path.parent), "HOME": str(self.folder)}

    async def poll(self, topic: str) -> list[Message]:
        """All messages of a topic, the oldest first."""

        def read() -> str:
            with urllib.request.urlopen(f"{self.url}/{topic}/json?poll=1", timeout=10) as reply:
                return reply.read().decode()

        return [json.loads(line) for line in (await asyncio.to_thread(read)).splitlines()]

    async def until(self, topic: str, count: int) -> list[Message]:
        """All messages of a topic, once there are so many."""
        async with asyncio.timeout(30):
            while len(messages := await self.poll(topic)) < count:
                pass
        return messages

    async def run(self, *arguments: str, **environ: str) -> str:
        """What the command prints."""
        process = await asyncio.create_subprocess_exec(
            self.program.path, *arguments, env=dict(os.environ) | environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, out
        return out.decode()


@asynccontextmanager
async def ntfy_server(
    program: Program, folder: Path, port: int | None = None, *, burst: int = 1_000_000
) -> AsyncIterator[Server]:
    """A server with users, on which everybody may write to a topic that is not protected. It keeps its messages in `folder`.

    Args:
        burst: requests that it takes at once. By default no limit: tests poll often.
    """
    port = port or free_port()
    (folder / "server.yml").write_text(
        f"base-url: http://127.0.0.1:{port}\nlisten-http: 127.0.0.1:{port}\ncache-file: {folder}/cache.db\n"
        f"auth-file: {folder}/auth.db\nauth-default-access: read-write\nvisitor-message-daily-limit: 20\n"
        f"visitor-request-limit-burst: {burst}\n"
    )
    async with running([program.path, "serve", "--config", folder / "server.yml"], folder, "ntfy") as process:
        await process.until_listening(port)  # it says "Listening on" before it does
        yield Server(f"http://127.0.0.1:{port}", program, folder)


def shown(messages: list[Message]) -> list[Message]:
    """What the Android app and the web app keep: of each sequence the last message.

    A message without a sequence is one of its own (docs.ntfy.sh/publish, "Updating + deleting notifications").
    """
    return list({message.get("sequence_id", message["id"]): message for message in messages}.values())


def heard(messages: list[Message]) -> list[str]:
    """The titles that make a sound: those of low priority make none (docs.ntfy.sh/publish, "Message priority")."""
    return [message["title"] for message in messages if message.get("priority", 3) > 2]


def titles(messages: list[Message]) -> list[str]:
    return [message["title"] for message in messages]
