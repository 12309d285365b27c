"""The real Claude Code behind the queue: what it sees of an upstream that limits, is used up, or is busy for long."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from claude_proxy.exchange import Exchange, Kind
from claude_proxy.simulator import Recorded, Scenario, Simulator
from claude_proxy.simulator.stage import Phase, Stage
from tests.claude_code import ALLOWED, PINNED, Run, environment, furnish, needed, prompted
from tests.integration.leftovers import until
from tests.integration.proxy import RunningProxy
from tests.integration.queued import all_is_given_back, call, held_or, holding, limited, overlap, queued, turns_of, waits
from tests.integration.test_turns_accounts import used_up

pytestmark = [pytest.mark.system, needed, pytest.mark.timeout(300)]
PARALLEL = "in parallel: " + "; ".join(f"ask a subagent: run Bash: echo from-{n}" for n in range(6))


async def claude(proxy: RunningProxy, folder: Path, prompt: str, **environ: str) -> Run:
    """One prompt, with the hint headers that `claude-proxy env` sets."""
    home, work = furnish(folder)
    hints = {"CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1", **environ}
    found = environment(proxy.base_url, home, **hints)
    return await prompted(PINNED, prompt, *ALLOWED, environ=found, work=work, limit=240)


def messages(exchanges: list[Exchange]) -> list[Exchange]:
    return [one for one in exchanges if one.kind is Kind.MESSAGES]


def slow(_: Recorded) -> Scenario:
    return Scenario(pace=0.02)


@pytest.mark.parametrize(
    "stage",
    [
        limited(2, good=slow),
        limited(1, good=slow),
        limited(2, lag=1.0, good=slow),
        Stage([Phase(0, max_concurrency=2), Phase(0.05, max_concurrency=1), Phase(0.15, max_concurrency=2)], good=slow),
    ],
    ids=["two", "one", "two, slots given back late", "two, then one, then two"],
)
async def test_a_main_agent_with_parallel_subagents_sees_no_refusal(simulator: Simulator, tmp_path: Path, stage: Stage) -> None:
    simulator.scenario = stage
    async with queued(tmp_path / "proxy", simulator, "ONE") as proxy:
        run = await claude(proxy, tmp_path / "claude", PARALLEL)
        seen = messages(proxy.recorder.ended)
        await all_is_given_back(proxy)
    assert not run.result["is_error"], run
    assert {one.status for one in seen} == {200}
    assert sum(one.request_class == "subagent" for one in seen) >= 6
    assert stage.limiter.most <= 2
    assert overlap(simulator.requests) <= 3
    main = [one.queue_wait or 0.0 for one in seen if one.request_class == "main"]
    agents = [one.queue_wait or 0.0 for one in seen if one.request_class == "subagent"]
    assert max(main) <= max(agents)


async def test_behind_a_used_up_window_it_asks_once_and_shows_when_the_window_is_back(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.scenario = used_up()
    async with queued(tmp_path / "proxy", simulator, "ONE", timezone="UTC") as proxy:
        first = await claude(proxy, tmp_path / "first", "say hi")
        second = await claude(proxy, tmp_path / "second", "say hi")
    assert (first.result["is_error"], second.result["is_error"]) == (True, True)
    assert "[1308]" in first.result["result"]
    assert "The usage is used up until" in second.result["result"]
    assert len(messages(proxy.recorder.ended)) == 2
    assert len(simulator.requests) == 1


async def test_behind_a_queue_that_is_full_for_long_it_keeps_its_place_over_its_own_retries(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Scaled: it waits 8 s at a time instead of 288. A rival that comes meanwhile is served after it."""
    simulator.scenario = held_or(Scenario())
    async with queued(tmp_path / "proxy", simulator, "ONE", queue_wait=8.0) as proxy, holding(proxy, simulator):
        turns_of(proxy).queue.lanes["zai/one"].limit.value = 1
        turns_of(proxy).queue.lanes["zai/one"].limit.ceiling = 1  # no probe
        running = asyncio.ensure_future(claude(proxy, tmp_path / "claude", "say hi"))
        await proxy.recorder.wait_for(2, 60)
        assert {(one.status, one.failure and one.failure.kind) for one in proxy.recorder.ended} == {(429, "queue_timeout")}
        rival = asyncio.ensure_future(call(proxy, "main", session="rival"))
        await waits(proxy, 1)
        await until(lambda: len(turns_of(proxy).queue.room.tickets) == 2, 60)
        simulator.release()
        run = await running
        assert (await rival).status == 200
    assert not run.result["is_error"], run
    assert [one.header("x-claude-code-session-id") == "rival" for one in simulator.requests[1:]] == [False, True]
