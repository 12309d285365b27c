"""Mixed traffic for one proxy: good answers of every form, faults at known points, clients that leave."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from itertools import chain, repeat

from claude_proxy.exchange import Exchange, Outcome
from claude_proxy.simulator import Scenario, Simulator, Usage, error, faults, named
from tests.integration.messages import post
from tests.integration.wire import Reply, Wire, connect

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
    (Scenario(fault=faults.error_event(4, envelope=False)), 2, Outcome.COMPLETED),
    (Scenario(fault=faults.cut("head")), 2, Outcome.FAILED),
    (Scenario(fault=faults.refuse()), 2, Outcome.FAILED),
    (Scenario(fault=faults.cut("events", 4)), 3, Outcome.CUT),
    (Scenario(fault=faults.cut("mid-event", 4)), 2, Outcome.CUT),
    (Scenario(fault=faults.bad_chunk(3)), 2, Outcome.CUT),
    (Scenario(fault=faults.no_stop()), 2, Outcome.COMPLETED),
]
# What the queue takes for the state of the account: each such call has a credential, and so an account, of its own. It is refused
# once and answered when it is sent again. They are few because the queue makes each of them wait a second or two.
REFUSALS: list[tuple[Scenario, int, Outcome]] = [
    (error(529), 1, Outcome.COMPLETED),
    (named("zai-1302"), 1, Outcome.COMPLETED),
    (named("zai-1308"), 1, Outcome.COMPLETED),
    (Scenario(fault=faults.error_event(0)), 1, Outcome.COMPLETED),
]
LEAVERS = Scenario(fault=faults.stall("events", 3))


async def mixed_traffic(simulator: Simulator, port: int, count: int, *, clients: int = 24, seed: int = 7) -> Counter[str]:
    """Send `count` Messages calls over `clients` connections at once; how many had which outcome.

    Each belongs to one of ten sessions, every third to one of two agents in it. With and without the queue they end alike.
    """
    dice = random.Random(seed)
    mix = MIX + REFUSALS
    scenarios = dice.choices(mix, [weight for _, weight, _ in mix], k=count)
    seen: Counter[str] = Counter()
    queue = iter(range(count))
    answers: dict[str, Iterator[Scenario]] = {}
    simulator.scenario = lambda asked: next(answers[asked.header("x-number") or ""])

    async def client() -> None:
        number = next(queue, None)
        while number is not None:
            async with connect(port) as wire:
                usable = True
                while number is not None and usable:
                    reply = await one(wire, number)
                    usable = reply is not None and reply.whole and reply.get("connection") != "close"
                    number = next(queue, None)

    async def one(wire: Wire, number: int) -> Reply | None:
        streamed, leave = dice.random() < 0.7, dice.random() < 0.02
        scenario, _, outcome = scenarios[number]
        is_refusal = scenarios[number] in REFUSALS
        answers[str(number)] = repeat(LEAVERS) if leave else chain([scenario], repeat(Scenario() if is_refusal else scenario))
        headers = [(b"x-number", b"%d" % number), (b"x-claude-code-session-id", b"session-%d" % (number % 10))]
        if number % 3 == 0:
            headers.append((b"x-claude-code-agent-id", b"agent-%d" % (number % 2)))
        if is_refusal:
            headers.append((b"x-api-key", b"refused-%d" % number))
        model = "glm-5.3" if number % 4 else "claude-opus-5-5"
        wire.send(post(headers=headers, stream=streamed or leave, model=model))
        if leave:
            await wire.head()
            seen[Outcome.CANCELLED] += 1
            return None
        reply = await wire.reply()
        seen[outcome] += 1
        return reply

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return seen


def books_of(exchanges: list[Exchange]) -> Usage:
    """What all exchanges have used, as recorded."""
    used = [exchange.usage for exchange in exchanges if exchange.usage is not None]
    return Usage(
        sum(usage.input or 0 for usage in used),
        sum(usage.output or 0 for usage in used),
        sum(usage.cache_write or 0 for usage in used),
        sum(usage.cache_read or 0 for usage in used),
        sum(usage.cache_write_1h or 0 for usage in used),
    )
