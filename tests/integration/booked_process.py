"""`claude-proxy serve` as a process with a ledger, and measured traffic for it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.architecture.source import ROOT
from tests.deploy.process import Program, free_port, running
from tests.integration.messages import post
from tests.integration.served import SOURCE
from tests.integration.wire import connect
from tests.ledger.places import Place
from tests.observe.finished import samples

MODULE = ("-P", "-m", "claude_proxy")
CLIENTS = 4


class Booked:
    """A running proxy."""

    def __init__(self, program: Program, port: int) -> None:
        self.program = program
        self.port = port

    def said(self, event: str) -> list[dict[str, Any]]:
        """The log lines of an event so far."""
        lines = [json.loads(line) for line in self.program.output.splitlines() if line.startswith("{")]
        return [line for line in lines if event in line["event"]]

    async def until_said(self, event: str, times: int = 1) -> list[dict[str, Any]]:
        """Wait for log lines of an event."""

        async def ready() -> bool:
            return len(self.said(event)) >= times

        await self.program.until(ready)
        return self.said(event)

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(timeout=30) as client:
            return await client.get(f"http://127.0.0.1:{self.port}{path}")

    async def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        found = samples((await self.get("/metrics")).content)
        return sum(value for (series, _), value in found.items() if series == name)

    async def exchanges(self, count: int, *, seconds: float = 0.0, clients: int = CLIENTS) -> list[float]:
        """Send exchanges, all of which have to be answered with 200.

        Args:
            count: how many; at most so many over `seconds`, if there are any.

        Returns:
            How long each took, in seconds, sorted.
        """
        took: list[float] = []
        numbers = iter(range(count))

        async def client() -> None:
            async with connect(self.port) as wire:
                for _ in numbers:
                    began = time.perf_counter()
                    wire.send(post(stream=False))
                    reply = await wire.reply()
                    took.append(time.perf_counter() - began)
                    assert (reply.status, reply.whole) == (200, True)
                    await asyncio.sleep(seconds * clients / count)

        await asyncio.gather(*(client() for _ in range(clients)))
        return sorted(took)


@asynccontextmanager
async def booked_process(
    place: Place, base_url: str, *, program: Sequence[str | Path] = MODULE, **environ: str
) -> AsyncIterator[Booked]:
    """Run it in front of `base_url`.

    Args:
        program: Python's arguments before `serve`.
        environ: settings.
    """
    port = free_port()
    settings = {
        "PATH": os.environ["PATH"], "HOME": str(place.folder), "PYTHONPATH": f"{SOURCE}:{ROOT}",
        "BASE_URL": base_url, "DATA_DIR": str(place.folder), "LOG_FORMAT": "json", "LOG_LEVEL": "warning", **environ,
    }  # fmt: skip
    if place.url is not None:
        settings["DATABASE_URL"] = place.url
    log = place.folder.parent if place.folder.name == "data" else place.folder
    async with running(
        [sys.executable, *program, "serve", "--port", str(port)], log, "proxy", environ=settings, cwd=log
    ) as found:
        await found.until_listening(port)
        yield Booked(found, port)
