"""Clients that leave, whatever their request waits for: each slot and each place comes back."""

from __future__ import annotations

import asyncio
import gc
import random
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.exchange import Outcome
from claude_proxy.simulator import Scenario, Simulator, error, faults
from tests.integration.leftovers import Leftovers, until
from tests.integration.messages import MESSAGES, body
from tests.integration.queued import (
    HELD,
    all_is_given_back,
    call,
    fields,
    held_or,
    holding,
    hurry,
    in_flight,
    limited,
    queued,
    turns_of,
    waits,
)
from tests.integration.test_cycles import calls as calls_in_memory
from tests.integration.wire import connect, request

FINE = Scenario("text")
SERVERS = ["claude_proxy.server.protocol:HardenedProtocol", "httptools"]


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.mark.parametrize("http", SERVERS)
async def test_who_leaves_while_waiting_makes_room_at_once(simulator: Simulator, tmp_path: Path, http: str) -> None:
    simulator.scenario = held_or(FINE)
    async with (
        queued(tmp_path, simulator, "ONE", http=http) as proxy,
        holding(proxy, simulator, 2),
        connect(proxy.port) as wire,
    ):
        wire.send(request("POST", MESSAGES, fields(), body()))
        await waits(proxy, 1)
        wire.leave()
        await waits(proxy, 0)
        (exchange,) = await proxy.recorder.wait_for(1)
    assert (exchange.outcome, exchange.status, exchange.attempts) == (Outcome.CANCELLED, 499, [])
    assert exchange.queue_wait is not None
    assert len(simulator.requests) == 2


@pytest.mark.parametrize("http", SERVERS)
@pytest.mark.parametrize("where", ["head", "events"])
async def test_who_leaves_while_being_served_gives_the_slot_to_the_next(
    simulator: Simulator, tmp_path: Path, where: Any, http: str
) -> None:
    stalled = Scenario(fault=faults.stall(where, 0))
    simulator.scenario = lambda one: stalled if one.header("x-hold") else FINE
    async with queued(tmp_path, simulator, "ONE", http=http) as proxy, connect(proxy.port) as one, connect(proxy.port) as two:
        for wire in (one, two):
            wire.send(request("POST", MESSAGES, fields(x_hold="yes"), body()))
        await until(lambda: in_flight(proxy) == {"zai/one": 2})
        next_ = asyncio.ensure_future(call(proxy))
        await waits(proxy, 1)
        one.leave()
        assert (await next_).status == 200
        assert in_flight(proxy) == {"zai/one": 1}


async def test_who_leaves_between_a_refusal_and_the_next_try_is_not_sent_again(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = error(429, message="[1302][usage][1]", headers=(("retry-after", "30"),))
    async with queued(tmp_path, simulator, "ONE") as proxy:
        async with connect(proxy.port) as wire:
            wire.send(request("POST", MESSAGES, fields(), body()))
            await until(lambda: simulator.requests and simulator.requests[0].status == 429)
            await waits(proxy, 1)
            wire.leave()
        await all_is_given_back(proxy)
    assert len(simulator.requests) == 1


def mixed(dice: random.Random) -> Any:
    """Refusals, failures, silence, slow and good answers, by chance."""
    kinds = [
        (FINE, 6),
        (Scenario("text", pace=0.004), 4),
        (Scenario("text", delay=0.02), 3),
        (error(429, message="[1302][usage][1]"), 3),
        (error(529, "overloaded_error", "[1305][overloaded][1]"), 2),
        (error(500), 1),
        (Scenario(fault=faults.error_event(0, error_type="rate_limit_error", message="[1302][usage][1]")), 2),
        (Scenario(fault=faults.stall("head")), 2),
        (Scenario(fault=faults.stall("events", 2)), 2),
        (Scenario(fault=faults.cut("events", 2)), 1),
        (Scenario(fault=faults.refuse()), 1),
    ]
    return lambda _: dice.choices([one for one, _ in kinds], [weight for _, weight in kinds])[0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("http", SERVERS)
async def test_a_storm_of_clients_that_leave_at_any_moment_leaves_no_slot_taken(
    simulator: Simulator, tmp_path: Path, seed: int, http: str
) -> None:
    """Each leaves after a time of its own, from before its request is read to after its answer."""
    dice = random.Random(seed)
    simulator.scenario = mixed(dice)
    async with queued(tmp_path, simulator, "ONE", "TWO", http=http, response_head_timeout=1, stream_idle_timeout=1) as proxy:
        left = Leftovers()

        async def client(number: int) -> None:
            async with connect(proxy.port) as wire:
                stream = dice.random() < 0.7
                kind = dice.choice(["main", "subagent", "blocking", "background"])
                wire.send(request("POST", MESSAGES, fields(kind, f"s{number % 7}"), body(text=f"{number}", stream=stream)))
                await asyncio.wait([asyncio.ensure_future(wire.reader.read())], timeout=dice.random() ** 3 * 0.6)
                wire.leave()

        for _ in range(4):
            await asyncio.gather(*(client(number) for number in range(40)))
        await all_is_given_back(proxy)
        await left.gone()
        exchanges = await proxy.recorder.wait_for(len(proxy.recorder.started))
        lanes = turns_of(proxy).queue.lanes.values()
        assert all(not lane.limit.leases and not lane.waiting for lane in lanes)
        simulator.scenario = None
        for lane in lanes:  # what was learned in the storm may be a pause of seconds
            lane.pace.until, lane.ejection.until = 0.0, 0.0
        assert (await asyncio.wait_for(call(proxy), 10)).status == 200
    assert len({one.id for one in exchanges}) == len(exchanges)
    sent = sum(len(one.attempts) for one in exchanges)
    assert sent >= len(simulator.requests) - 1


@pytest.mark.parametrize("scenario", [FINE, error(429, message="[1302][usage][1]"), HELD], ids=["fine", "refused", "held"])
async def test_a_leaving_in_any_iteration_of_the_loop_gives_the_lease_back(
    simulator: Simulator, tmp_path: Path, scenario: Scenario
) -> None:
    """The awaits between arrival and answer, one after another."""
    first = [scenario]
    simulator.scenario = lambda _: first.pop() if first else FINE
    async with queued(tmp_path, simulator, "ONE") as proxy:
        for iterations in range(60):
            first[:] = [scenario]
            async with connect(proxy.port) as wire:
                wire.send(request("POST", MESSAGES, fields(), body()))
                for _ in range(iterations):
                    await asyncio.sleep(0)
                wire.leave()
            await all_is_given_back(proxy)


async def test_what_waited_leaves_nothing_in_memory(simulator: Simulator, tmp_path: Path) -> None:
    """Neither the calls that were served nor those that were refused or left wait for the garbage collector."""
    simulator.scenario = limited(2, good=held_or(FINE))
    gc.collect()
    gc.disable()
    try:
        async with queued(tmp_path, simulator, "ONE", queue_wait=0.3) as proxy:
            async with holding(proxy, simulator, 2), connect(proxy.port) as wire:
                late = asyncio.ensure_future(call(proxy, text="late"))
                wire.send(request("POST", MESSAGES, fields(), body()))
                await waits(proxy, 2)
                wire.leave()
                assert (await late).status == 429
                served = asyncio.ensure_future(call(proxy, text="served"))
                await waits(proxy, 1)
                simulator.release()
                assert (await served).status == 200
            await all_is_given_back(proxy)
            await until(lambda: not calls_in_memory())
            assert proxy.app.forward._shelf.used == 0
    finally:
        gc.enable()
