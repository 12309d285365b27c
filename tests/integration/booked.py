"""A proxy that keeps books in a file, and what the simulator says it reported: the yardstick of every reader."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from claude_proxy.exchange import Listener
from claude_proxy.simulator import Scenario, Simulator, faults
from claude_proxy.simulator.scenario import Usage
from tests.integration.messages import COUNT, JSON, MESSAGES, body
from tests.integration.proxy import RunningProxy, running_proxy
from tests.integration.wire import Header, ask, connect, request
from tests.ledger.waiting import until

TOKENS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
AMOUNTS = ("exchanges", "failed", "cancelled", *TOKENS, "cost_usd", "unpriced_exchanges", "credits")
COUNTED = """
SELECT count(*), coalesce(sum(input), 0), coalesce(sum(output), 0), coalesce(sum(cache_read), 0),
       coalesce(sum(coalesce(cache_write_5m, 0) + coalesce(cache_write_1h, 0)), 0)
FROM exchange WHERE kind = (SELECT id FROM name WHERE kind = 'kind' AND text = 'messages')
"""


@asynccontextmanager
async def booked(
    simulator: Simulator, folder: Path, *, listeners: tuple[Listener, ...] = (), **settings: Any
) -> AsyncIterator[RunningProxy]:
    """A proxy in front of the simulator, with its ledger in `folder`, once that is open."""
    settings = {"ledger": "on", "data_dir": folder, "timezone": "UTC"} | settings
    async with running_proxy(simulator.base_url, listeners=listeners, **settings) as proxy:
        if (ledger := proxy.app.state.ledger) is not None:
            await asyncio.to_thread(until, lambda: not ledger.opening)
        yield proxy


async def written(proxy: RunningProxy, count: int) -> None:
    """Return once so many rows of this proxy are in the database."""
    writer = proxy.app.state.ledger.writer
    await proxy.recorder.wait_for(count)
    await asyncio.to_thread(until, lambda: writer.written >= count)


async def fill(proxy: RunningProxy, simulator: Simulator) -> int:
    """Exchanges of every kind: streams and JSON, compressed, sessions with agents, faults, a cancel, a token count."""
    made = 0
    for number in range(1, 19):
        usage = Usage(number * 7, number * 11, number * 13, number * 17)
        simulator.scenario = Scenario("text", usage=usage, encoding="gzip" if number % 3 == 0 else None)
        fields = [JSON, (b"x-claude-code-session-id", b"session-%d" % (number % 3))]
        fields += [(b"x-claude-code-agent-id", b"agent-%d" % (number % 2))] if number % 4 == 0 else []
        model = ("glm-5.3", "glm-5.3-flash", "nobody-knows-it")[number % 3]
        await ask(proxy.port, "POST", MESSAGES, fields, body(stream=bool(number % 2), model=model))
        made += 1
    for scenario in (Scenario(fault=faults.status(429)), Scenario(fault=faults.cut("events", 3))):
        simulator.scenario = scenario
        await ask(proxy.port, "POST", MESSAGES, [JSON], body())
        made += 1
    await cancelled(proxy, simulator)
    simulator.scenario = None
    await ask(proxy.port, "POST", COUNT, [JSON], body())
    await written(proxy, made + 2)
    return made + 2


async def cancelled(proxy: RunningProxy, simulator: Simulator, *fields: Header) -> None:
    """An exchange that the client leaves in the middle."""
    simulator.scenario = Scenario(fault=faults.stall("events", 2))
    before = len(proxy.recorder.ended)
    async with connect(proxy.port) as wire:
        wire.send(request("POST", MESSAGES, [JSON, *fields], body()))
        async with asyncio.timeout(10):
            await simulator.hold.wait()
        wire.leave()
        await proxy.recorder.wait_for(before + 1)


def counted(folder: Path) -> dict[str, int]:
    """The sums of the rows themselves, by SQL."""
    with contextlib.closing(sqlite3.connect(folder / "ledger.db")) as connection:
        return dict(zip(("exchanges", *TOKENS), connection.execute(COUNTED).fetchone(), strict=True))


@asynccontextmanager
async def api(proxy: RunningProxy, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `/api/v1`."""
    async with httpx.AsyncClient(base_url=f"{proxy.origin}/api/v1", headers=headers, timeout=30) as client:
        yield client
