"""Scripted phases: who is refused when, the limit of each key with its lag, windows with their reset."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.simulator import Phase, Recorded, Scenario, ScriptError, Simulator, Stage
from claude_proxy.simulator.limiter import Limiter
from claude_proxy.simulator.script import parse
from tests.simulator.talk import HELLO, get, post, say

GOOD = Scenario("text", text="good")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def request(key: str = "key-a", path: str = "/api/anthropic/v1/messages", method: str = "POST") -> Recorded:
    return Recorded(method, path.encode(), [(b"Authorization", b"Bearer " + key.encode())], 1, 0.0)


def staged(*phases: Phase, **more: object) -> tuple[Stage, Clock]:
    clock = Clock()
    stage = Stage(phases, good=lambda _: GOOD, clock=clock, wall=lambda: 1_788_000_000.0, **more)  # type: ignore[arg-type] # by name
    stage.begin()
    return stage, clock


def status(stage: Stage, recorded: Recorded | None = None) -> int:
    recorded = recorded or request()
    found = stage(recorded)
    stage.ended(recorded)
    return found.status if found is not None else 0


@pytest.mark.parametrize("speed", [1.0, 60.0])
def test_a_phase_lasts_until_the_next(speed: float) -> None:
    stage, clock = staged(Phase(1, refuse="overload"), Phase(2.5), speed=speed)
    seen = []
    for minute in (0, 0.99, 1, 2.49, 2.5, 100):
        clock.now = 100 + minute * 60 / speed
        seen.append(status(stage))
        assert stage.minute == pytest.approx(minute)
    assert seen == [200, 200, 529, 529, 200, 200]


@pytest.mark.parametrize(
    "other",
    [request(path="/api/anthropic/v1/messages/count_tokens"), request(path="/api/anthropic/v1/models", method="GET")],
)
def test_only_messages_are_affected(other: Recorded) -> None:
    stage, _ = staged(Phase(0, refuse="overload", max_concurrency=1))
    assert stage(other) is None


def test_a_share_of_the_requests_is_met_and_the_seed_decides_which() -> None:
    runs = []
    for _ in range(2):
        stage, _ = staged(Phase(0, refuse="server", share=0.3), seed=7)
        runs.append([status(stage) for _ in range(1000)])
    assert runs[0] == runs[1]
    assert 250 < runs[0].count(500) < 350


def test_an_answer_of_the_script_takes_the_good_ones_place() -> None:
    stall = Scenario("text", delay=9)
    stage, _ = staged(Phase(0, answer=stall))
    assert stage(request()) is stall


def test_a_phase_may_concern_one_account() -> None:
    stage, _ = staged(Phase(0, refuse="auth", account=2), keys=("key-a", "key-b"))
    assert (status(stage, request("key-a")), status(stage, request("key-b"))) == (200, 401)


@pytest.mark.parametrize(
    ("phases", "stated"),
    [
        ((Phase(0, refuse="window"), Phase(10)), "2026-08-29 18:50:00"),
        ((Phase(0, refuse="window", resets=5), Phase(10)), "2026-08-29 18:45:00"),
        ((Phase(0, refuse="window"),), "2026-08-29 19:40:00"),
    ],
)
def test_a_used_up_window_names_its_reset_in_beijings_time(phases: tuple[Phase, ...], stated: str) -> None:
    stage, _ = staged(*phases)
    found = stage(request())
    assert found is not None
    assert f"reset at {stated}]" in found.message


def test_a_reset_comes_sooner_in_a_faster_script() -> None:
    stage, _ = staged(Phase(0, refuse="window"), Phase(10), speed=60)
    found = stage(request())
    assert found is not None
    assert "18:40:10" in found.message


# The limit


def test_each_key_has_a_limit_of_its_own() -> None:
    stage, _ = staged(Phase(0, max_concurrency=2))
    running = [request("key-a"), request("key-a"), request("key-b")]
    assert [stage(one).status for one in running] == [200, 200, 200]  # type: ignore[union-attr] # messages get an answer
    assert status(stage, request("key-a")) == 429
    stage.ended(running[0])
    assert status(stage, request("key-a")) == 200
    assert stage.limiter.most == 2


def test_a_slot_is_free_after_the_lag_only() -> None:
    stage, clock = staged(Phase(0, max_concurrency=1, release_lag=2), speed=4)
    assert status(stage) == 200
    clock.now += 0.49
    assert status(stage) == 429
    clock.now += 0.02
    assert status(stage) == 200


def test_a_refused_request_takes_no_slot() -> None:
    stage, _ = staged(Phase(0, max_concurrency=1))
    first, second = request(), request()
    stage(first)
    stage(second)
    stage.ended(second)
    assert status(stage) == 429


def test_limits_hold_until_a_later_phase_changes_them() -> None:
    stage, clock = staged(Phase(0, max_concurrency=1), Phase(1, refuse="overload"), Phase(2), Phase(3, max_concurrency=0))
    running = request()
    stage(running)
    seen = []
    for minute in (0, 1, 2, 3):
        clock.now = 100 + minute * 60
        seen.append(status(stage))
    assert seen == [429, 529, 429, 200]


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.floats(0, 3))), st.integers(1, 4), st.floats(0, 2))
def test_never_more_run_than_the_limit(steps: list[tuple[int, bool, float]], limit: int, lag: float) -> None:
    limiter, now, running = Limiter(limit, lag), 0.0, set()
    for number, enters, pause in steps:
        now += pause
        if enters and number not in running:
            if limiter.enter("k", number, now):
                running.add(number)
        else:
            limiter.leave("k", number, now)
            running.discard(number)
        assert len(running) <= limit
    assert limiter.most <= limit


# Over the wire


async def test_a_simulator_plays_the_phases_and_frees_slots_when_answers_end() -> None:
    stage = Stage((Phase(0, max_concurrency=1),), good=lambda _: GOOD)
    async with Simulator(stage) as sim:
        for _ in range(3):
            answer = await say(sim, post(None, "x-api-key: k"))
            assert answer.status == 200
        assert (await say(sim, get("/v1/models"))).status == 200
        assert stage.limiter.most == 1


async def test_a_slot_of_a_client_that_left_is_free_again() -> None:
    stage = Stage((Phase(0, max_concurrency=1),), good=lambda _: Scenario(delay=60))
    async with Simulator(stage) as sim:
        _, writer = await asyncio.open_connection(sim.host, sim.port)
        writer.write(post())
        await sim.wait_for(lambda sim: len(sim.requests) == 1 and sim.requests[0].complete)
        assert (await say(sim, post())).status == 429
        writer.close()
        await sim.wait_for(lambda sim: sim.requests[0].outcome == "client-left")
        assert not stage.limiter._running[""]


# In a YAML script


async def test_a_script_has_phases_beside_its_rules() -> None:
    script = parse(
        """
        limits: {max_concurrency: 1, release_lag: 0.5}
        phases:
          - {at: 0, say: all well}
          - {at: 1, refuse: overload, share: 0.5}
          - {at: 2, answer: {use: stall, n: 2}}
        rules:
          - {match: {path: "*/v1/models"}, answer: no-endpoint}
        default: {use: text, text: hello}
        """
    )
    async with Simulator(script) as sim:
        answer = await say(sim, post(HELLO))
        assert (answer.status, b"hello" in answer.body) == (200, True)
        assert (await say(sim, post())).status == 429  # the slot is still taken
        assert (await say(sim, get("/v1/models"))).status == 404


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("phases: 5", "phases: expected a list of phases, got 5"),
        ("phases: [5]", "phase 1: expected at, say, refuse, answer"),
        ("phases: [{at: soon}]", "phase 1: at: expected a number from 0, got 'soon'"),
        ("phases: [{at: -1}]", "phase 1: at: expected a number from 0, got -1"),
        ("phases: [{refuse: nope}]", "phase 1: refuse: expected concurrency, rate, overload"),
        ("phases: [{refuse: rate, answer: text}]", "phase 1: expected either `refuse` or `answer`"),
        ("phases: [{share: 2}]", "phase 1: share: expected a number from 0 to 1, got 2"),
        ("phases: [{max_concurrency: 1.5}]", "phase 1: max_concurrency: expected a whole number from 0, got 1.5"),
        ("phases: [{account: 0}]", "phase 1: account: expected a whole number from 1, got 0"),
        ("phases: [{answer: nope}]", "phase 1: answer: there is no scenario 'nope'"),
        ("phases: [{mood: bad}]", "phase 1: 'mood' is unknown"),
        ("limits: {max: 1}", "limits: 'max' is unknown; expected max_concurrency, release_lag"),
        ("{phases: [{at: 0}], provider: 5}", "provider: expected text, got 5"),
    ],
)
def test_mistakes_in_phases_are_named(text: str, sentence: str) -> None:
    with pytest.raises(ScriptError, match=re.escape(sentence)):
        parse(text)
