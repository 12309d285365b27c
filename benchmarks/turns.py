"""``python -m benchmarks.turns``: one main agent, its tool checks and many subagents behind an upstream that takes few at once.

The proxy runs as ``claude-proxy serve`` in its own process; the simulator and the clients share this one. Reported are the
waits of each class, how well the upstream's slots were used, and what the clients saw of its refusals.
"""

import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import httpx
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from claude_proxy.simulator import Recorded, Scenario, Simulator
from claude_proxy.simulator.stage import Phase, Stage

PAUSES = 13  # between the events of an answer
HINTS = {"main": ("main", "main"), "tool check": ("auxiliary", "main"), "subagent": ("subagent", "blocking-subagent")}
LASTS = {"main": (1.0, 4.0), "tool check": (0.3, 1.0), "subagent": (1.0, 4.0)}  # seconds of an answer
THINKS = 0.3  # seconds between two calls of an agent
SETTINGS = """\
[[upstream]]
name = "simulated"
base_url = "{base_url}"
provider = "zai"
[[upstream.account]]
name = "only"
key_env = "KEY"
"""


@dataclass
class Seen:
    """What the clients have seen: waits for the head of an answer by class, in seconds, those of unanswered calls, and errors."""

    waits: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    unanswered: dict[int, float] = field(default_factory=dict)
    errors: int = 0


@dataclass
class Load:
    """The clients."""

    client: httpx.AsyncClient
    dice: random.Random
    until: float
    seen: Seen = field(default_factory=Seen)

    async def agent(self, kind: str, session: str, name: str, check: bool = False) -> None:
        """Call after call, as an agent that uses tools does."""
        await asyncio.sleep(self.dice.random())
        while time.monotonic() < self.until:
            await self.call(kind, session, name)
            if check and time.monotonic() < self.until:
                await self.call("tool check", session, "")
            await asyncio.sleep(THINKS)

    async def call(self, kind: str, session: str, agent: str) -> None:
        """One call, sent again after a second as long as it is refused."""
        lasts = self.dice.uniform(*LASTS[kind])
        request_class, first_party = HINTS[kind]
        headers = {
            "x-lasts": f"{lasts:.3f}",
            "x-claude-code-request-class": request_class,
            "x-claude-1p-request-class": first_party,
            "x-claude-code-session-id": session,
        } | ({"x-claude-code-agent-id": agent} if agent else {})
        message = {"role": "user", "content": f"{agent} {self.dice.random()}"}
        body = {"model": "glm-5.3", "max_tokens": 100, "stream": kind != "tool check", "messages": [message]}
        asked = self.seen.unanswered[id(body)] = time.monotonic()
        while not await self._answered(headers, body, kind, asked):
            self.seen.errors += 1
            await asyncio.sleep(1.0)

    async def _answered(self, headers: dict[str, str], body: dict[str, object], kind: str, asked: float) -> bool:
        async with self.client.stream("POST", "/api/anthropic/v1/messages", headers=headers, json=body) as answer:
            if answer.status_code != 200:
                return False
            ahead = float(headers["x-lasts"]) if kind == "tool check" else 0.0
            del self.seen.unanswered[id(body)]
            self.seen.waits[kind].append(max(0.0, time.monotonic() - asked - ahead))
            async for _ in answer.aiter_raw():
                pass
        return True


def lasting(one: Recorded) -> Scenario:
    """An answer that takes as long as its request says."""
    lasts = float(one.header("x-lasts") or 0)
    if one.header("x-claude-code-request-class") == "auxiliary":
        return Scenario("text", delay=lasts)
    return Scenario("text", pace=lasts / PAUSES)


@asynccontextmanager
async def serving(base_url: str, folder: Path, queue: bool) -> AsyncIterator[str]:
    """`claude-proxy serve` before `base_url`; its address."""
    (folder / "claude-proxy.toml").write_text(SETTINGS.format(base_url=base_url))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "claude_proxy", "serve", "--port", "0", "--config", str(folder / "claude-proxy.toml")),
        env=os.environ
        | {"KEY": "sk-simulated", "DATA_DIR": str(folder), "LOG_FORMAT": "json", "QUEUE": "on" if queue else "off"},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        while (line := json.loads(await process.stderr.readline())).get("event") != "listening":
            pass
        reading = asyncio.ensure_future(process.stderr.read())
        yield line["on"][0]
    finally:
        process.terminate()
        await process.wait()
        reading.cancel()


def phases(limit: int, lag: float, moving: bool, seconds: float) -> list[Phase]:
    """The upstream's limit over time: with `moving`, one at a time in the middle third."""
    found = [Phase(0.0, max_concurrency=limit, release_lag=lag)]
    if moving:
        third = seconds / 60 / 3
        found += [Phase(third, max_concurrency=1), Phase(2 * third, max_concurrency=limit)]
    return found


@dataclass(frozen=True)
class Used:
    """What became of the upstream's slots, in slot-seconds.

    Attributes:
        usable: what its limit allowed.
        used: what accepted requests took.
        kept: left free for the main agent between two of its requests, while subagents had all the other slots.
        hidden: those of a limit that was raised, before the first request above the old limit. No policy can know them without
            asking, so the share of the others is reported too, and how long it took to find them.
        found: seconds that finding them took, for each time that the limit was raised.
    """

    usable: float
    used: float
    kept: float
    hidden: float = 0.0
    found: tuple[float, ...] = ()


def slots(requests: list[Recorded], stage: list[Phase], began: float, until: float) -> Used:
    """Follow the slots of the upstream from one start or end of a request to the next one."""
    marks: list[tuple[float, int, bool]] = []
    for one in requests:
        if one.status in (200, None) and (one.ended_at or until) > began:
            low = one.header("x-claude-code-request-class") == "subagent"
            marks += [(max(began, one.received_at), 1, low), (min(until, one.ended_at or until), -1, low)]
    marks += [(one.at * 60 + began, 0, False) for one in stage[1:]]
    usable = used = kept = hidden = 0.0
    high = subagents = 0
    last, limit, secret, raised = began, stage[0].max_concurrency or 0, 0, began
    found: list[float] = []
    for at, step, low in sorted([*marks, (until, 0, False)]):
        seconds, last = min(at, until) - last, min(at, until)
        usable += limit * seconds
        used += min(limit, high + subagents) * seconds
        hidden += secret * seconds
        kept += seconds * (limit - secret >= 2 and not high and subagents == limit - 1)
        subagents, high = (subagents + step, high) if low else (subagents, high + step)
        now = [one.max_concurrency or 0 for one in stage if one.at * 60 <= at - began + 1e-6][-1]
        raised = at if now > limit else raised
        secret, limit = max(0, secret + now - limit), now
        if secret and high + subagents > limit - secret:
            found.append(at - raised)
            secret = 0
    return Used(usable, used, kept, hidden, tuple(found))


async def measure(
    seconds: float, limit: int, lag: float, moving: bool, subagents: int, queue: bool, seed: int
) -> tuple[Seen, dict[str, str]]:
    """Run the load; the waits, and the other figures."""
    script = phases(limit, lag, moving, seconds)
    stage = Stage(script, good=lasting)
    async with Simulator(stage) as simulator:
        with tempfile.TemporaryDirectory() as folder:
            async with (
                serving(simulator.base_url, Path(folder), queue) as address,
                httpx.AsyncClient(base_url=address, timeout=400, limits=httpx.Limits(max_connections=None)) as client,
            ):
                loop = asyncio.get_running_loop()
                began, load = loop.time(), Load(client, random.Random(seed), time.monotonic() + seconds)
                agents = [load.agent("subagent", "session", f"agent-{n}") for n in range(subagents)]
                running = [asyncio.ensure_future(one) for one in (load.agent("main", "session", "", check=True), *agents)]
                await asyncio.sleep(seconds)
                until = loop.time()
                requests, errors = list(simulator.requests), load.seen.errors
                still = [time.monotonic() - asked for asked in load.seen.unanswered.values()]
                used = slots(requests, script, began, until)
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
    refused = sum(one.status == 429 for one in requests)
    return load.seen, {
        "slots used": f"{100 * used.used / used.usable:.1f} %",
        "slots used of those that could be known": f"{100 * used.used / (used.usable - used.hidden):.1f} %",
        "seconds until a raised limit was found": ", ".join(f"{one:.1f}" for one in used.found) or "-",
        "slots kept for the main agent": f"{100 * used.kept / used.usable:.1f} %",
        "refusals at the upstream per 1,000 requests": f"{1000 * refused / max(1, len(requests)):.0f}",
        "refusals that a client saw": str(errors),
        "most requests accepted at once": str(stage.limiter.most),
        "still waiting at the end": f"{len(still)}, the longest for {max(still, default=0.0):.1f} s",
    }


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def shown(seen: Seen, figures: dict[str, str]) -> Table:
    """The result for people."""
    table = Table("class", *(f"{name}, s" for name in ("median wait", "p95", "longest")), "calls")
    for kind in LASTS:
        waits = seen.waits[kind] or [0.0]
        numbers = (statistics.median(waits), percentile(waits, 0.95), max(waits))
        table.add_row(kind, *(f"{number:.1f}" for number in numbers), str(len(seen.waits[kind])))
    table.caption = "\n".join(f"{name}: {value}" for name, value in figures.items())
    return table


app = typer.Typer(add_completion=False)


@app.command(help=__doc__)
def main(
    seconds: Annotated[float, typer.Option(help="How long.")] = 60.0,
    limit: Annotated[int, typer.Option(help="Requests that the upstream takes at once.")] = 2,
    lag: Annotated[float, typer.Option(help="Seconds for which a slot stays taken after its answer.")] = 0.0,
    moving: Annotated[bool, typer.Option("--moving", help="The limit is 1 in the middle third.")] = False,
    subagents: Annotated[int, typer.Option(help="Parallel subagents.")] = 30,
    queue: Annotated[bool, typer.Option(help="QUEUE of the proxy.")] = True,
    seed: Annotated[int, typer.Option(help="Of the lengths of answers.")] = 1,
) -> None:
    seen, figures = uvloop.run(measure(seconds, limit, lag, moving, subagents, queue, seed))
    Console(width=100).print(shown(seen, figures))


if __name__ == "__main__":
    app()
