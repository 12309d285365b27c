"""Several workers of a real server: a page shows what runs in all of them, and does not hold up their end."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from claude_proxy.simulator import Scenario, Simulator, faults
from tests.deploy.process import Program, free_port, running
from tests.integration.messages import JSON, MESSAGES, body
from tests.integration.wire import connect, request
from tests.web.pages.events import Page

pytestmark = pytest.mark.system  # each starts a server with several workers

CALLS = 8


@pytest.fixture
async def server(simulator: Simulator, tmp_path: Path) -> AsyncIterator[tuple[Program, int]]:
    """Two workers."""
    port = free_port()
    command = [sys.executable, "-P", "-m", "claude_proxy", "serve", "--workers", "2", "--port", str(port)]
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "BASE_URL": simulator.base_url, "DATA_DIR": str(tmp_path / "data"),
        "PYTHONPATH": str(Path(__file__).parents[3] / "src"), "LOG_FORMAT": "json",
    }  # fmt: skip
    async with running(command, tmp_path, "serve", environ=environ, cwd=tmp_path) as program:
        await program.until(lambda: both_ready(program))
        yield program, port


async def both_ready(program: Program) -> bool:
    """Whether both workers serve."""
    events = [json.loads(line).get("event") for line in program.output.splitlines() if line.startswith("{")]
    return events.count("ready") >= 2


async def test_every_page_sees_all_workers_and_ends_with_them(server: tuple[Program, int], simulator: Simulator) -> None:
    program, port = server
    simulator.scenario = Scenario(fault=faults.stall("events", 3))
    async with AsyncExitStack() as stack:
        for _ in range(CALLS):
            wire = await stack.enter_async_context(connect(port))
            wire.send(request("POST", MESSAGES, [JSON], body()))
        pages = []
        for _ in range(4):  # each on a connection of its own, so that either worker may get it
            client = await stack.enter_async_context(httpx.AsyncClient(timeout=20))
            answer = await stack.enter_async_context(client.stream("GET", f"http://127.0.0.1:{port}/live"))
            pages.append(Page(answer.aiter_lines()))
        for page in pages:
            await page.until(lambda shown: len(shown.rows) == CALLS and f"<dd>{CALLS}</dd>" in shown.tiles)
        assert len({frozenset(page.rows) for page in pages}) == 1
        program.process.terminate()
        await asyncio.gather(*(page.to_end() for page in pages))
    assert await program.ended() == 0
