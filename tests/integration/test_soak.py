"""Two thousand mixed exchanges with faults: one record each, the books right, nothing left."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from claude_proxy.exchange import Exchange, Outcome
from claude_proxy.simulator import Scenario, Simulator, Usage, error, faults, named
from tests.integration.leftovers import Leftovers, until
from tests.integration.messages import post
from tests.integration.proxy import running_proxy
from tests.integration.wire import Reply, Wire, connect

EXCHANGES = 2000
CLIENTS = 24
pytestmark = pytest.mark.timeout(180)

# Scenario, weight, and the outcome when it is streamed; unstreamed, a fault among events does nothing.
MIX: list[tuple[Scenario, int, Outcome]] = [
    (Scenario(), 40, Outcome.COMPLETED),
    (Scenario("thinking"), 6, Outcome.COMPLETED),
    (Scenario(usage=Usage(120, 40, 2000, 50_000, 500)), 6, Outcome.COMPLETED),
    (Scenario(zero_start=True), 8, Outcome.COMPLETED),
    (Scenario(encoding="gzip"), 4, Outcome.COMPLETED),
    (Scenario(encoding="zstd"), 2, Outcome.COMPLETED),
    (Scenario(newline="\r\n"), 3, Outcome.COMPLETED),
    (Scenario(writes="event"), 3, Outcome.COMPLETED),
    (Scenario(framing="close"), 3, Outcome.COMPLETED),
    (Scenario(framing="length"), 3, Outcome.COMPLETED),
    (Scenario(interim=((103, ()),)), 2, Outcome.COMPLETED),
    (Scenario(trailers=(("x-checksum", "1"),)), 2, Outcome.COMPLETED),
    (Scenario(fault=faults.bad_frame(3)), 2, Outcome.COMPLETED),
    (error(500), 2, Outcome.COMPLETED),
    (error(529), 2, Outcome.COMPLETED),
    (named("zai-1302"), 2, Outcome.COMPLETED),
    (named("zai-1308"), 1, Outcome.COMPLETED),
    (Scenario(fault=faults.error_event(0)), 2, Outcome.COMPLETED),
    (Scenario(fault=faults.error_event(4, envelope=False)), 2, Outcome.COMPLETED),
    (Scenario(fault=faults.cut("head")), 2, Outcome.FAILED),
    (Scenario(fault=faults.refuse()), 2, Outcome.FAILED),
    (Scenario(fault=faults.cut("events", 4)), 3, Outcome.CUT),
    (Scenario(fault=faults.cut("mid-event", 4)), 2, Outcome.CUT),
    (Scenario(fault=faults.bad_chunk(3)), 2, Outcome.CUT),
    (Scenario(fault=faults.no_stop()), 2, Outcome.COMPLETED),
]
LEAVERS = Scenario(fault=faults.stall("events", 3))


async def test_each_is_recorded_once_and_the_books_are_right(simulator: Simulator) -> None:
    dice = random.Random(7)
    scenarios = dice.choices(MIX, [weight for _, weight, _ in MIX], k=EXCHANGES)
    seen: Counter[str] = Counter()
    queue = iter(range(EXCHANGES))

    async def client() -> None:
        number = next(queue, None)
        while number is not None:
            async with connect(proxy.port) as wire:
                usable = True
                while number is not None and usable:
                    reply = await one(wire, number)
                    usable = reply is not None and reply.whole and reply.get("connection") != "close"
                    number = next(queue, None)

    async def one(wire: Wire, number: int) -> Reply | None:
        streamed, leave = dice.random() < 0.7, dice.random() < 0.02
        scenario, _, outcome = scenarios[number]
        turns[str(number)] = LEAVERS if leave else scenario
        wire.send(post(headers=[(b"x-number", b"%d" % number)], stream=streamed or leave))
        if leave:
            await wire.head()
            seen[Outcome.CANCELLED] += 1
            return None
        reply = await wire.reply()
        seen[outcome] += 1
        return reply

    turns: dict[str, Scenario] = {}
    simulator.scenario = lambda asked: turns[asked.header("x-number") or ""]
    async with running_proxy(simulator.base_url) as proxy:
        left = Leftovers()
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(client())
        exchanges = await proxy.recorder.wait_for(EXCHANGES, 60)
        await left.gone()
        await until(lambda: proxy.app.forward.running == 0 and not proxy.server.server_state.connections)
        assert proxy.upstream_connections <= CLIENTS
        assert proxy.upstream_connections == proxy.app.forward.config.upstreams[0].pool.idle
        await simulator.wait_for(lambda sim: all(asked.outcome for asked in sim.requests))
    assert len(exchanges) == len({exchange.id for exchange in exchanges}) == EXCHANGES
    assert Counter(exchange.outcome for exchange in exchanges) == seen
    assert books(exchanges) == simulator.reported


def books(exchanges: list[Exchange]) -> Usage:
    """What all exchanges have used, as recorded."""
    used = [exchange.usage for exchange in exchanges if exchange.usage is not None]
    return Usage(
        sum(usage.input or 0 for usage in used),
        sum(usage.output or 0 for usage in used),
        sum(usage.cache_write or 0 for usage in used),
        sum(usage.cache_read or 0 for usage in used),
        sum(usage.cache_write_1h or 0 for usage in used),
    )
