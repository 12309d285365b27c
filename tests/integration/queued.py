"""A proxy whose queue is on, in front of simulators that limit and refuse; with pauses as short as loopback is fast."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.proxy.turns import Turns
from claude_proxy.routing import lane, limit, pace, plan
from claude_proxy.routing.plan import Event, Row
from claude_proxy.simulator import Recorded, Scenario, Simulator, faults
from claude_proxy.simulator.stage import Phase, Stage
from tests.integration.leftovers import until
from tests.integration.messages import JSON, MESSAGES, body
from tests.integration.proxy import RunningProxy
from tests.integration.test_accounts import proxy_with, table
from tests.integration.wire import Header, Reply, Wire, ask, connect, request

FASTER = 20.0
HELD = Scenario(fault=faults.stall("events", 2, until="release"))
HINTS = {
    "blocking": ("auxiliary", "main"),
    "main": ("main", "main"),
    "subagent": ("subagent", "blocking-subagent"),
    "workflow": ("workflow", "background-task"),
    "background": ("auxiliary", "summary-extraction"),
}


def hurry(monkeypatch: pytest.MonkeyPatch, faster: float = FASTER) -> None:
    """Shorten every pause that follows a refusal or a failure. Waits that a test is about are set by the test."""
    for module, names in (
        (pace, ("PAUSE", "PAUSE_MOST", "CAREFUL", "WINDOW")),
        (limit, ("JUDGED_AFTER", "DELAY_UP", "RECENT", "LAG")),
        (lane, ("GUESS",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name) / faster)
    for event in (Event.UNREACHABLE, Event.OVERLOAD):
        row = plan.TABLE[event]
        delays = tuple(delay / faster for delay in row.delays)
        monkeypatch.setitem(plan.TABLE, event, Row(row.other, row.queues, delays, row.counted))


@asynccontextmanager
async def queued(
    folder: Path, simulator: Simulator, *keys: str, provider: str = "zai", **settings: Any
) -> AsyncIterator[RunningProxy]:
    """A proxy with a queue, one upstream, and an account for each of `keys`; without keys each client is one."""
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    settings = {"queue": True, **settings}
    async with proxy_with(folder, table("zai", simulator.base_url, *keys, provider=provider), **settings) as proxy:
        yield proxy


def turns_of(proxy: RunningProxy) -> Turns:
    found = proxy.app.forward.turns
    assert found is not None
    return found


def waiting(proxy: RunningProxy) -> int:
    """How many requests wait for their turn."""
    return len(turns_of(proxy).queue.room.tickets)


def in_flight(proxy: RunningProxy) -> dict[str, int]:
    """Slots in use, by account; those without any are left out."""
    return {name: lane.in_flight for name, lane in turns_of(proxy).queue.lanes.items() if lane.in_flight}


async def waits(proxy: RunningProxy, count: int) -> None:
    """Return once so many requests wait."""
    await until(lambda: waiting(proxy) == count)


async def all_is_given_back(proxy: RunningProxy) -> None:
    """Return once nobody waits and no slot is taken."""
    await until(lambda: proxy.app.forward.running == 0)
    assert (in_flight(proxy), waiting(proxy)) == ({}, 0)
    sessions = turns_of(proxy).queue.sessions._by_name.values()
    assert {(one.waiting, one.running) for one in sessions} <= {(0, 0)}
    assert {lane.low for lane in turns_of(proxy).queue.lanes.values()} <= {0}


def fields(kind: str = "", session: str = "", key: str = "", **more: str) -> list[Header]:
    """Header fields of a request: its class, its session, the client's credential."""
    found = [JSON, *((name.replace("_", "-").encode(), value.encode()) for name, value in more.items())]
    if kind:
        request_class, first_party = HINTS[kind]
        found.append((b"x-claude-code-request-class", request_class.encode()))
        found.append((b"x-claude-1p-request-class", first_party.encode()))
    if session:
        found.append((b"x-claude-code-session-id", session.encode()))
    if key:
        found.append((b"authorization", b"Bearer " + key.encode()))
    return found


async def call(proxy: RunningProxy, kind: str = "", session: str = "", key: str = "", text: str = "hello", **more: Any) -> Reply:
    """One Messages call."""
    return await ask(proxy.port, "POST", MESSAGES, fields(kind, session, key), body(text=text, **more))


def calls(proxy: RunningProxy, kinds: Iterable[str], **more: Any) -> list[asyncio.Task[Reply]]:
    """Several at once, each with a body of its own."""
    return [asyncio.ensure_future(call(proxy, kind, text=f"call {n}", **more)) for n, kind in enumerate(kinds)]


@asynccontextmanager
async def holding(proxy: RunningProxy, simulator: Simulator, count: int = 1, **more: str) -> AsyncIterator[list[Wire]]:
    """Clients whose streams are held by the simulator until `release`, and take `count` slots."""
    before = len(simulator.requests)
    wires: list[Wire] = []
    async with asyncio.timeout(10):
        for number in range(count):
            manager = connect(proxy.port)
            wire = await manager.__aenter__()
            wire.manager = manager  # type: ignore[attr-defined]
            wires.append(wire)
            wire.send(request("POST", MESSAGES, fields(**more, x_hold="yes"), body(text=f"held {number}")))
            await wire.head()
    assert len(simulator.requests) == before + count
    try:
        yield wires
    finally:
        for wire in wires:
            await wire.manager.__aexit__(None, None, None)  # type: ignore[attr-defined]


def held_or(other: Scenario) -> Callable[[Recorded], Scenario]:
    """What holds the streams of `holding`, and answers everybody else."""
    return lambda one: HELD if one.header("x-hold") else other


def limited(most: int, *, lag: float = 0.0, good: Callable[[Recorded], Scenario] | None = None, provider: str = "zai") -> Stage:
    """An upstream that refuses more than `most` requests at once for each key."""
    return Stage([Phase(0.0, max_concurrency=most, release_lag=lag)], provider=provider, good=good)


def overlap(requests: Iterable[Recorded]) -> int:
    """The most requests that were at the upstream at one time, refused ones included."""
    moments = []
    for one in requests:
        assert one.ended_at is not None
        moments += [(one.received_at, 1), (one.ended_at, -1)]
    most = now = 0
    for _, step in sorted(moments):
        now += step
        most = max(most, now)
    return most


def statuses(simulator: Simulator) -> list[int | None]:
    """What the upstream answered, in order of arrival."""
    return [one.status for one in simulator.requests]


def said(reply: Reply) -> str:
    """The sentence of an error."""
    message: str = json.loads(reply.body)["error"]["message"]
    return message
