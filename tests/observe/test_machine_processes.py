"""Several workers of a real `serve`: any of them shows what runs in all, and tells what starts and ends in all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from claude_proxy import ids
from claude_proxy.simulator import Scenario, Simulator, faults
from tests.integration.messages import post
from tests.integration.wire import Wire, connect
from tests.observe.test_metrics_processes import WORKERS, Server, serving

RUNNING = 6
pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@asynccontextmanager
async def running(server: Server, simulator: Simulator) -> AsyncIterator[list[Wire]]:
    """So many streams at once that more than one worker has some, stalled in the middle."""
    simulator.scenario = Scenario(fault=faults.stall("events", 4))
    async with AsyncExitStack() as stack:
        port = int(server.origin.rpartition(":")[2])
        wires = [await stack.enter_async_context(connect(port)) for _ in range(RUNNING)]
        for wire in wires:
            wire.send(post())
        for wire in wires:
            await wire.head()
        yield wires


async def asked(server: Server, path: str) -> list[dict[str, object]]:
    """The items that one worker, whichever takes the connection, answers."""
    async with httpx.AsyncClient(timeout=20) as client:
        answer = await client.get(f"{server.origin}/api/v1/{path}")
    assert answer.status_code == 200
    found = answer.json()
    assert found["silent_workers"] == 0
    items: list[dict[str, object]] = found["items"]
    return items


async def test_every_worker_lists_what_runs_in_all(tmp_path: Path, simulator: Simulator) -> None:
    async with serving("serve", tmp_path, simulator.base_url) as server:
        await server.until(workers=WORKERS)
        async with running(server, simulator):
            for _ in range(2 * WORKERS):
                assert len({item["id"] for item in await asked(server, "live")}) == RUNNING
                assert [item["running"] for item in await asked(server, "upstreams")] == [RUNNING]
        await server.until(in_flight=0)
        assert await asked(server, "live") == []


async def test_every_reader_of_events_gets_those_of_all_workers(tmp_path: Path, simulator: Simulator) -> None:
    async with serving("serve", tmp_path, simulator.base_url) as server, AsyncExitStack() as stack:
        await server.until(workers=WORKERS)
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=20, limits=httpx.Limits(max_keepalive_connections=0)))
        url = f"{server.origin}/api/v1/events"
        readers = [await stack.enter_async_context(client.stream("GET", url)) for _ in range(WORKERS + 1)]
        lines = [reader.aiter_lines() for reader in readers]
        async with asyncio.timeout(60):
            linked = [asyncio.create_task(linked_up(one)) for one in lines]
            while not all(task.done() for task in linked):
                await server.call()
            sessions = {f"session-{number}" for number in range(10)}
            for session in sorted(sessions):
                await server.call({"x-claude-code-session-id": session})
            told = [await told_of(one, len(sessions)) for one in lines]
    assert [sorted(found) for found in told] == [sorted(sessions)] * len(readers)


async def ended(lines: AsyncIterator[str]) -> AsyncIterator[Any]:
    """The exchanges that end."""
    async for line in lines:
        if line.startswith("data: ") and (item := json.loads(line.removeprefix("data: "))).get("state") == "ended":
            yield item


async def linked_up(lines: AsyncIterator[str]) -> None:
    """Read until an exchange of each worker has come; its number is in the id."""
    seen: set[int] = set()
    while len(seen) < WORKERS:
        item = await anext(ended(lines))
        seen.add(ids.decode(item["id"]) >> 12 & 1023)


async def told_of(lines: AsyncIterator[str], count: int) -> list[str]:
    """So many sessions, as their exchanges ended."""
    found: list[str] = []
    while len(found) < count:
        if session := (await anext(ended(lines)))["session"]:
            found.append(session)
    return found
