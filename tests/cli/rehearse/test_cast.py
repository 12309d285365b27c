"""The scripted clients, before a simulated upstream without a proxy: what they send, and when they stop."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from claude_proxy.cli.rehearse.adapt import Adapted
from claude_proxy.cli.rehearse.cast import Cast, good_answer
from claude_proxy.cli.rehearse.clock import Clock
from claude_proxy.cli.rehearse.journal import ID, Journal
from claude_proxy.cli.rehearse.report import Result, text
from claude_proxy.cli.rehearse.script import Clients, Script
from claude_proxy.protocol.peek import peek
from claude_proxy.simulator import Recorded, Scenario, Simulator, Usage, error, faults

SPEED = 60.0
Answer = Callable[[Recorded], Scenario | None]
Played = tuple[Journal, list[Recorded]]


async def cast(clients: Clients, answer: Answer | None = None, length: float = 1.0, keys: tuple[str, ...] = ("k",)) -> Played:
    clock = Clock(SPEED)
    journal = Journal(clock, lambda _: None)
    clock.start()
    chosen = answer or (lambda recorded: good_answer(recorded, SPEED))
    async with Simulator(chosen, on_end=lambda recorded: journal.upstream_ended("u", recorded)) as sim:
        await Cast(clients, sim.origin, keys, "glm-5.3", clock, journal, seed=1).play(length, grace=30.0)
        await sim.wait_for(lambda sim: all(request.outcome for request in sim.requests))
        return journal, list(sim.requests)


def of(role: str, requests: list[Recorded]) -> list[Recorded]:
    wanted = {
        "main": ("main", "main"),
        "subagent": ("subagent", "blocking-subagent"),
        "classifier": ("auxiliary", "main"),
        "title": ("auxiliary", "summary-extraction"),
    }[role]
    names = ("x-claude-code-request-class", "x-claude-1p-request-class")
    return [one for one in requests if tuple(one.header(name) for name in names) == wanted]


async def test_each_kind_of_client_introduces_itself_as_claude_code_does() -> None:
    journal, requests = await cast(Clients(main=1, subagents=2, subagents_from=0))
    assert {len(of(role, requests)) > 0 for role in ("main", "subagent", "classifier", "title")} == {True}
    assert len(of("title", requests)) == 1
    assert {one.header("x-claude-code-session-id") for one in requests} == {"rehearsal-session-1"}
    assert {one.header("x-claude-code-agent-id") for one in of("subagent", requests)} == {"agent-1-1", "agent-1-2"}
    assert not [one for one in of("main", requests) if one.header("x-claude-code-agent-id")]
    assert {one.stream for one in of("classifier", requests)} == {False}
    assert {one.stream for one in of("main", requests)} == {True}
    assert all((b"cc_is_subagent=true" in one.body) is (one in of("subagent", requests)) for one in requests)
    assert {one.header("x-stainless-timeout") for one in of("classifier", requests)} == {"1"}
    assert {one.header("x-stainless-timeout") for one in of("main", requests)} == {"10"}
    assert {peek(one.body).model for one in requests} == {"glm-5.3"}
    assert {call.end for call in journal.calls} <= {"answered", "over"}


async def test_no_other_client_calls_than_the_script_wants() -> None:
    _, requests = await cast(Clients(main=2, subagents=0, classifier=False, titles=False), keys=("a", "b"))
    assert len(of("main", requests)) == len(requests) > 1
    by_session = {(one.header("x-claude-code-session-id"), one.header("authorization")) for one in requests}
    assert by_session == {("rehearsal-session-1", "Bearer a"), ("rehearsal-session-2", "Bearer b")}


async def test_each_attempt_of_a_call_sends_the_same_bytes_under_a_number_of_its_own() -> None:
    seen: list[str] = []

    def refuse_twice(recorded: Recorded) -> Scenario:
        seen.append(recorded.body_sha256)
        return error(529) if seen.count(recorded.body_sha256) <= 2 else good_answer(recorded, SPEED)

    journal, requests = await cast(Clients(main=1, subagents=0, classifier=False, titles=False), refuse_twice)
    first = journal.calls[0]
    assert [attempt.seen.status for attempt in first.attempts if attempt.seen is not None] == [529, 529, 200]
    assert len({one.header(ID) for one in requests}) == len(requests)
    assert len({one.body for one in requests[:3]}) == 1
    assert len({json.loads(one.body)["messages"][0]["content"] for one in requests}) == len(journal.calls)


async def test_a_call_that_is_given_up_is_not_followed_at_once() -> None:
    journal, _ = await cast(Clients(main=1, subagents=0), lambda _: error(403))
    assert [(call.role, call.end) for call in journal.calls] == [("title", "gave up"), ("main", "gave up")]


async def test_a_denied_tool_call_does_not_stop_the_agent() -> None:
    def deny(recorded: Recorded) -> Scenario:
        return error(403) if recorded in of("classifier", [recorded]) else good_answer(recorded, SPEED)

    journal, _ = await cast(Clients(main=1, subagents=0, titles=False), deny, length=3.0)
    ends = [(call.role, call.end) for call in journal.calls if call.end != "over"]
    assert ends[:3] == [("main", "answered"), ("classifier", "denied"), ("main", "answered")]


async def test_what_still_runs_at_the_end_is_ended() -> None:
    stalled = Scenario(fault=faults.stall("events", 1))
    clients = Clients(main=1, subagents=1, subagents_from=0, titles=False)
    journal, requests = await cast(clients, lambda _: stalled, length=0.1)
    assert {call.end for call in journal.calls} == {"over"}
    assert {one.outcome for one in requests} == {"client-left"}


@pytest.mark.parametrize("books", [None, {"exchanges": 3, "failed": 1, "cost_usd": None, "output_tokens": 1200}])
async def test_the_sums_say_how_calls_ended(books: dict[str, int | None] | None) -> None:
    seen: list[str] = []

    def refuse_once(recorded: Recorded) -> Scenario:
        seen.append(recorded.body_sha256)
        return error(529) if seen.count(recorded.body_sha256) == 1 else good_answer(recorded, SPEED)

    journal, requests = await cast(Clients(main=1, subagents=0, classifier=False, titles=False), refuse_once)
    adapted = Adapted((), None, False, None, {}, (), {})
    result = Result(Script("t", 1.0, ()), SPEED, adapted, journal, (), Usage(output_tokens=1200), books)
    sums = result.sums("main")
    assert sums["calls"] == len(journal.calls)
    assert sums["attempts"] == len(requests)
    assert (sums["answered_at_once"], sums["failed"]) == (0, 0)
    assert sums["answered_after_own_retries"] + sums["still_running"] == sums["calls"]
    assert result.refusals == result.seen.total() > 0
    assert result.hidden == 0
    lines = "\n".join(text(result))
    assert "529 overloaded_error" in lines
    assert ("3 exchanges, 1 failed, 1,200 output_tokens" in lines) is (books is not None)
    assert ("LEDGER is off" in lines) is (books is None)
    assert result.as_json()["upstream"]["refusals"] == result.refusals
