"""A burst of count_tokens costs one call at an upstream that has none; one that has it answers each (docs/facts.md)."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from claude_proxy.simulator import Recorded, Scenario, Simulator, error, faults, named
from tests.integration.leftovers import until
from tests.integration.messages import COUNT, JSON, MESSAGES, body
from tests.integration.proxy import running_proxy
from tests.integration.wire import Reply, ask, connect, request

BURST = 26  # what `/context` of Claude Code sends at once
WRAPPED = error(400, message='404 NOT_FOUND: {"path":"/v1/messages/count_tokens"}')
NO_ENDPOINT = error(404, message="Not Found")
UNKNOWN_MODEL = error(404, message="model: glm-9 not found")
WRAPPED_MODEL = error(400, message="404: the model glm-9 was not found")
MISSING = pytest.mark.parametrize("scenario", [NO_ENDPOINT, WRAPPED, Scenario("raw", status=404, body=b"<html>404</html>")])


async def one(port: int) -> Reply:
    """One count."""
    return await ask(port, "POST", COUNT, [JSON], body(stream=False))


async def burst(port: int) -> list[Reply]:
    """All at once."""
    return await asyncio.gather(*(one(port) for _ in range(BURST)))


@MISSING
async def test_a_burst_at_an_upstream_without_it_costs_one_call(simulator: Simulator, scenario: Scenario) -> None:
    simulator.scenario = scenario
    async with running_proxy(simulator.base_url) as proxy:
        replies = await burst(proxy.port)
        later = await one(proxy.port)
        exchanges = await proxy.recorder.wait_for(BURST + 1)
    assert len(simulator.requests) == 1
    assert {reply.status for reply in replies} == {404}
    ours = [reply for reply in [*replies, later] if reply.get("x-claude-proxy-error") == "no_count_tokens"]
    assert len(ours) >= BURST
    for reply in ours:
        assert json.loads(reply.body)["error"]["type"] == "not_found_error"
        assert reply.get("x-should-retry") == "false"
    assert len({exchange.id for exchange in exchanges}) == BURST + 1
    assert {exchange.failure.side for exchange in exchanges if exchange.failure} == {"client"}


@pytest.mark.parametrize("scenario", [UNKNOWN_MODEL, WRAPPED_MODEL, error(429), error(500), error(401), Scenario()])
async def test_a_burst_is_passed_on_where_the_endpoint_is_there_or_nothing_is_known(
    simulator: Simulator, scenario: Scenario
) -> None:
    simulator.scenario = scenario
    async with running_proxy(simulator.base_url) as proxy:
        replies = await burst(proxy.port)
    assert len(simulator.requests) == BURST
    assert {reply.status for reply in replies} == {scenario.status}
    assert {reply.get("x-claude-proxy-error") for reply in replies} == {None}


@MISSING
async def test_what_was_learnt_is_forgotten_in_time(simulator: Simulator, scenario: Scenario) -> None:
    simulator.scenario = scenario
    loop = asyncio.get_running_loop()
    async with running_proxy(simulator.base_url, count_tokens_memory=0.2) as proxy:
        await one(proxy.port)
        until = loop.time() + 0.2
        simulator.scenario = None
        await asyncio.sleep(until - loop.time() + 0.01)  # the time that is set, and what timers round off
        reply = await one(proxy.port)
    assert (reply.status, set(json.loads(reply.body))) == (200, {"input_tokens"})


async def test_nothing_is_learnt_where_the_memory_is_off(simulator: Simulator) -> None:
    simulator.scenario = NO_ENDPOINT
    async with running_proxy(simulator.base_url, count_tokens_memory=0) as proxy:
        replies = await burst(proxy.port)
    assert len(simulator.requests) == BURST
    assert {reply.get("x-claude-proxy-error") for reply in replies} == {None}


async def test_an_upstream_without_it_still_answers_messages(simulator: Simulator) -> None:
    simulator.scenario = lambda asked: NO_ENDPOINT if asked.path.endswith("count_tokens") else Scenario()
    async with running_proxy(simulator.base_url) as proxy:
        await one(proxy.port)
        assert (await ask(proxy.port, "POST", MESSAGES, [JSON], body())).status == 200
        assert (await ask(proxy.port, "GET", COUNT)).status == 404  # not remembered: only POST is that call
    assert Counter(asked.method for asked in simulator.requests) == {"POST": 2, "GET": 1}


async def test_those_who_wait_ask_for_themselves_when_the_first_one_leaves(simulator: Simulator) -> None:
    def first_stalls(_: Recorded) -> Scenario:
        return Scenario(fault=faults.stall("head")) if len(simulator.requests) == 1 else Scenario()

    simulator.scenario = first_stalls
    async with running_proxy(simulator.base_url) as proxy, connect(proxy.port) as first:
        first.send(request("POST", COUNT, [JSON], body()))
        await simulator.hold.wait()
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(one(proxy.port)) for _ in range(3)]
            await until(lambda: len(proxy.recorder.started) == 4)
            first.leave()
        assert {task.result().status for task in waiting} == {200}


async def test_one_who_waits_can_leave_without_disturbing_the_others(simulator: Simulator) -> None:
    simulator.scenario = named("no-endpoint").but(fault=faults.stall("head", until="release"))
    async with running_proxy(simulator.base_url) as proxy, connect(proxy.port) as first, connect(proxy.port) as second:
        first.send(request("POST", COUNT, [JSON], body()))
        await simulator.hold.wait()
        second.send(request("POST", COUNT, [JSON], body()))
        third = asyncio.create_task(one(proxy.port))
        await until(lambda: len(proxy.recorder.started) == 3)
        second.leave()
        await proxy.recorder.wait_for(1)
        simulator.release()
        assert ((await first.reply()).status, (await third).status) == (404, 404)
    assert len(simulator.requests) == 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_a_compressed_answer_is_read_before_it_is_judged(simulator: Simulator, encoding: Any) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        simulator.scenario = UNKNOWN_MODEL.but(encoding=encoding)
        assert (await one(proxy.port)).status == 404
        simulator.scenario = Scenario()
        assert (await one(proxy.port)).status == 200
    async with running_proxy(simulator.base_url) as proxy:
        simulator.scenario = WRAPPED.but(encoding=encoding)
        assert (await one(proxy.port)).get("x-claude-proxy-error") == "no_count_tokens"


async def test_a_probe_whose_client_leaves_does_not_let_the_burst_loose(simulator: Simulator) -> None:
    simulator.scenario = NO_ENDPOINT.but(fault=faults.stall("head", until="release"))
    async with running_proxy(simulator.base_url) as proxy, connect(proxy.port) as wire:
        wire.send(request("POST", COUNT, [JSON], body(stream=False)))
        await simulator.wait_for(lambda sim: len(sim.requests) == 1)
        waiting = asyncio.create_task(burst(proxy.port))
        await until(lambda: len(proxy.recorder.started) == BURST + 1)
        simulator.scenario = NO_ENDPOINT
        wire.leave()
        replies = await waiting
    assert {reply.status for reply in replies} == {404}
    assert len(simulator.requests) == 2


async def test_a_silent_probe_holds_up_nobody_for_long(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_proxy.proxy.count_tokens.PATIENCE", 0.1)
    simulator.scenario = Scenario(fault=faults.stall("head"))
    async with running_proxy(simulator.base_url) as proxy, connect(proxy.port) as wire:
        wire.send(request("POST", COUNT, [JSON], body(stream=False)))
        await simulator.wait_for(lambda sim: len(sim.requests) == 1)
        simulator.scenario = Scenario()
        assert (await one(proxy.port)).status == 200
