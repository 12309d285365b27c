"""The real Claude Code behind the queue: what it sees of an upstream that limits, is used up, or is busy for long."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from claude_proxy.exchange import Exchange, Kind
from claude_proxy.simulator import Recorded, Scenario, Simulator
from claude_proxy.simulator.stage import Phase, Stage
from tests.claude_code import ALLOWED, PINNED, Run, environment, furnish, interactive, needed, prompted
from tests.integration.leftovers import until
from tests.integration.proxy import RunningProxy
from tests.integration.queued import all_is_given_back, call, held_or, holding, limited, overlap, queued, turns_of, waits
from tests.integration.test_claude_code import ASKS, equipped
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


# -- the calls beside the main turn


def bounded(proxy: RunningProxy, most: int) -> None:
    """Let the account's limit be known, so that nothing is probed."""
    limit = turns_of(proxy).queue.lane("zai/one", start=most, ceiling=most).limit
    limit.value = most


def in_a_terminal(proxy: RunningProxy, folder: Path) -> AbstractAsyncContextManager[bytearray]:
    """Claude Code with a first prompt. It asks for a title of the session only there, not headless."""
    home, work = furnish(folder)
    environ = environment(
        proxy.base_url, home, CLAUDE_CODE_GATEWAY_HINT_HEADERS="1", CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="",
        ANTHROPIC_DEFAULT_HAIKU_MODEL="glm-4.7",
    )  # fmt: skip
    return interactive(PINNED, "please say hi", environ=environ, work=work)


async def test_at_limit_one_a_title_is_asked_for_after_the_main_turn_that_it_came_before(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.scenario = held_or(Scenario())
    async with queued(tmp_path / "proxy", simulator, "ONE") as proxy, holding(proxy, simulator):
        bounded(proxy, 1)
        async with in_a_terminal(proxy, tmp_path / "claude"):
            await until(lambda: len(turns_of(proxy).queue.room.tickets) == 2, 60)
            simulator.release()
            await proxy.recorder.wait_for(3, 60)
        seen = messages(proxy.recorder.ended)
        await all_is_given_back(proxy)
    assert [one.header("x-claude-code-request-class") for one in simulator.requests[1:]] == ["main", "auxiliary"]
    assert {one.status for one in seen} == {200}
    title, main = sorted((one for one in seen if one.request_class), key=lambda one: one.started)
    assert (title.model, main.request_class) == ("glm-4.7", "main")


async def test_at_limit_one_neither_a_title_nor_its_main_turn_is_refused(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = limited(1, good=slow)
    async with queued(tmp_path / "proxy", simulator, "ONE") as proxy:
        bounded(proxy, 1)
        async with in_a_terminal(proxy, tmp_path / "claude") as screen:
            await proxy.recorder.wait_for(2, 60)
            await until(lambda: b"simulated" in screen, 60)
        seen = messages(proxy.recorder.ended)
        await all_is_given_back(proxy)
    assert {(one.request_class, one.status) for one in seen} == {("auxiliary", 200), ("main", 200)}
    assert overlap(simulator.requests) == 1


def checked(one: Recorded) -> Scenario:
    """Slow streams; a tool check is answered with its verdict."""
    is_check = one.header("x-claude-code-request-class") == "auxiliary"
    return Scenario("text", text="<block>no</block>") if is_check else slow(one)


def granted(one: Exchange) -> float:
    return one.started + (one.queue_wait or 0.0)


def overtaken(check: Exchange, seen: list[Exchange]) -> int:
    """How many requests of subagents were sent while `check` waited."""
    return sum(one.request_class == "subagent" and check.started < granted(one) < granted(check) for one in seen)


async def test_a_tool_check_behind_four_busy_subagents_is_sent_before_all_of_them(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = limited(2, good=checked)
    async with queued(tmp_path / "proxy", simulator, "ONE") as proxy:
        bounded(proxy, 2)
        running = asyncio.ensure_future(
            equipped(str(PINNED), proxy.origin, tmp_path / "claude", ASKS, "--permission-mode", "auto")
        )  # fmt: skip

        async def subagent(number: int) -> None:
            while not running.done():
                await call(proxy, "subagent", session=f"crew {number}", text=f"{number}")

        await asyncio.gather(*(subagent(number) for number in range(4)))
        run = await running
        seen = messages(proxy.recorder.ended)
        await all_is_given_back(proxy)
    (check,) = [one for one in seen if one.request_class == "auxiliary"]
    assert (run.result["is_error"], run.result["permission_denials"], check.status) == (False, [], 200)
    assert overtaken(check, seen) == 0
    waits = sorted(one.queue_wait or 0.0 for one in seen if one.request_class == "subagent")
    assert (check.queue_wait or 0.0) <= waits[len(waits) // 2]


async def test_tool_checks_of_four_real_subagents_are_sent_before_their_turns(simulator: Simulator, tmp_path: Path) -> None:
    tools = "; ".join(f"ask a subagent: run Bash: python3 -c \"open('made-{n}.txt', 'w')\"" for n in range(4))
    simulator.scenario = limited(2, good=checked)
    async with queued(tmp_path / "proxy", simulator, "ONE") as proxy:
        bounded(proxy, 2)
        run = await equipped(
            str(PINNED), proxy.origin, tmp_path / "claude", f"in parallel: {tools}", "--permission-mode", "auto"
        )  # fmt: skip
        seen = messages(proxy.recorder.ended)
        await all_is_given_back(proxy)
    checks = [one for one in seen if one.request_class == "auxiliary"]
    assert (run.result["is_error"], run.result["permission_denials"]) == (False, [])
    assert (len(checks) >= 4, {one.status for one in seen}) == (True, {200})
    assert sorted(path.name for path in (tmp_path / "claude/work").glob("made-*")) == [f"made-{n}.txt" for n in range(4)]
    # After two checks in a row another class is served, so that subagents do not starve either.
    assert max(overtaken(check, seen) for check in checks) <= 2
