"""The queue before a real upstream that limits: who is sent when, and what a client sees of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from claude_proxy.routing import limit
from claude_proxy.simulator import Scenario, Simulator
from tests.integration.leftovers import until
from tests.integration.messages import COUNT, JSON, MESSAGES, body
from tests.integration.queued import (
    HELD,
    all_is_given_back,
    call,
    calls,
    fields,
    held_or,
    holding,
    hurry,
    in_flight,
    limited,
    overlap,
    queued,
    said,
    statuses,
    turns_of,
    waiting,
    waits,
)
from tests.integration.served import served
from tests.integration.wire import ask, connect, request

SHORT = Scenario("text", pace=0.002)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.mark.parametrize("truth", [1, 2, 3])
@pytest.mark.parametrize("lag", [0.0, 0.05])
async def test_thirty_parallel_calls_are_all_answered_and_none_sees_a_refusal(
    simulator: Simulator, tmp_path: Path, truth: int, lag: float
) -> None:
    """Whatever the limit really is: z.ai's are assumed to be 2 at the start."""
    simulator.scenario = limited(truth, lag=lag, good=lambda _: SHORT)
    async with queued(tmp_path, simulator, "ONE") as proxy:
        kinds = ["main", "blocking", *["subagent"] * 30]
        replies = await asyncio.gather(*calls(proxy, kinds, session="one"))
        exchanges = await proxy.recorder.wait_for(len(kinds))
        await all_is_given_back(proxy)
    assert {(reply.status, reply.whole) for reply in replies} == {(200, True)}
    assert simulator.scenario.limiter.most <= truth
    assert overlap(simulator.requests) <= max(truth, 2) + 1
    answered = [one for one in simulator.requests if one.status == 200]
    assert len(answered) == len({one.body_sha256 for one in answered}) == len(kinds)
    assert sum(len(one.attempts) for one in exchanges) == len(simulator.requests)


async def test_with_the_limit_known_nobody_is_ever_refused(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = limited(2, good=lambda _: SHORT)
    async with queued(tmp_path, simulator, "ONE") as proxy:
        await asyncio.gather(*calls(proxy, ["subagent"] * 30))
        exchanges = await proxy.recorder.wait_for(30)
    assert statuses(simulator) == [200] * 30
    assert overlap(simulator.requests) == 2
    assert sum(one.queue_wait is not None for one in exchanges) >= 28
    assert all(len(one.attempts) == 1 for one in exchanges)


async def test_a_client_that_does_not_have_to_wait_has_no_wait_in_the_books(simulator: Simulator, tmp_path: Path) -> None:
    async with queued(tmp_path, simulator, "ONE") as proxy:
        assert (await call(proxy)).status == 200
        assert (await proxy.last()).queue_wait is None


async def test_the_order_is_by_class_not_by_arrival(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = limited(1, good=held_or(SHORT))
    arriving = ["background", "workflow", "subagent", "main", "blocking"]
    async with queued(tmp_path, simulator, "ONE") as proxy, holding(proxy, simulator):
        tasks = []
        turns_of(proxy).queue.lanes["zai/one"].limit.value = 1
        for number, kind in enumerate(arriving, 1):
            tasks.append(asyncio.ensure_future(call(proxy, kind, session=kind)))
            await waits(proxy, number)
        simulator.release()
        await asyncio.gather(*tasks)
    seen = [one.header("x-claude-code-session-id") for one in simulator.requests[1:]]
    assert seen == ["blocking", "main", "subagent", "workflow", "background"]


async def test_a_session_with_few_requests_does_not_wait_behind_one_with_many(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = limited(2, good=held_or(SHORT))
    async with queued(tmp_path, simulator, "ONE") as proxy, holding(proxy, simulator, 2):
        tasks = calls(proxy, ["subagent"] * 20, session="many")
        await waits(proxy, 20)
        tasks.append(asyncio.ensure_future(call(proxy, "subagent", session="few")))
        await waits(proxy, 21)
        simulator.release()
        await asyncio.gather(*tasks)
    seen = [one.header("x-claude-code-session-id") for one in simulator.requests[2:]]
    assert seen.index("few") <= 2


async def test_what_was_refused_is_sent_again_byte_for_byte(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = limited(1, good=lambda _: SHORT)
    async with queued(tmp_path, simulator, "ONE") as proxy:
        replies = await asyncio.gather(*calls(proxy, ["main"] * 4))
    assert {reply.status for reply in replies} == {200}
    refused = {one.body_sha256 for one in simulator.requests if one.status == 429}
    again = [one for one in simulator.requests if one.body_sha256 in refused]
    assert refused
    for digest in refused:
        assert len({(one.target, tuple(one.headers)) for one in again if one.body_sha256 == digest}) == 1


async def test_with_the_queue_off_a_refusal_reaches_the_client(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = limited(1, good=held_or(SHORT))
    async with queued(tmp_path, simulator, "ONE", queue=False) as proxy, holding(proxy, simulator):
        reply = await call(proxy)
        assert (reply.status, reply.get("x-claude-proxy-error")) == (429, None)
        assert "[1302]" in said(reply)
    assert len(simulator.requests) == 2


async def test_an_accepted_probe_raises_the_limit_and_a_refused_one_is_not_seen(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit, "PROBE_WAIT", 0.05)
    monkeypatch.setattr(limit, "PROBE_NEXT", 0.05)
    monkeypatch.setattr(limit, "DECIDED", 0.02)
    simulator.scenario = limited(3, good=lambda _: HELD)
    async with queued(tmp_path, simulator, "ONE") as proxy:
        tasks = calls(proxy, ["subagent"] * 6)
        lane = turns_of(proxy).queue.lanes
        await until(lambda: "zai/one" in lane and lane["zai/one"].limit.value == 3)
        await until(lambda: 429 in statuses(simulator))  # the fourth
        assert overlap_now(simulator) <= 4
        simulator.release()
        replies = await asyncio.gather(*tasks)
        await all_is_given_back(proxy)
    assert {reply.status for reply in replies} == {200}


def overlap_now(simulator: Simulator) -> int:
    return sum(one.ended_at is None for one in simulator.requests)


# -- deadlines and kept places


async def test_who_waits_too_long_is_told_to_come_again_and_keeps_the_place(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = limited(1, good=held_or(SHORT))
    async with queued(tmp_path, simulator, "ONE", queue_wait=0.2) as proxy, holding(proxy, simulator):
        turns_of(proxy).queue.lanes["zai/one"].limit.value = 1
        reply = await call(proxy, "subagent", "a", text="the first")
        assert (reply.status, reply.get("retry-after"), reply.get("x-should-retry")) == (429, "5", None)
        assert (reply.get("x-claude-proxy-error"), "place in the queue is kept" in said(reply)) == ("queue_timeout", True)
        later = asyncio.ensure_future(call(proxy, "subagent", "a", text="the second"))
        await waits(proxy, 1)
        again = asyncio.ensure_future(call(proxy, "subagent", "a", text="the first"))
        await waits(proxy, 2)
        simulator.release()
        assert [(await one).status for one in (later, again)] == [200, 200]
        (refused, *_) = proxy.recorder.ended
    assert [b"the first" in one.body for one in simulator.requests[1:]] == [True, False]
    assert refused.attempts == []
    assert refused.queue_wait == pytest.approx(0.2, abs=0.1)


async def test_a_title_that_gets_no_turn_is_not_to_be_tried_again(simulator: Simulator, tmp_path: Path) -> None:
    """Nobody waits for it: one attempt instead of eleven."""
    simulator.scenario = limited(1, good=lambda _: HELD)
    async with queued(tmp_path, simulator, "ONE", queue_wait=0.1) as proxy, holding(proxy, simulator):
        turns_of(proxy).queue.lanes["zai/one"].limit.value = 1
        reply = await call(proxy, "background")
        assert (reply.status, reply.get("x-should-retry"), reply.get("retry-after")) == (429, "false", None)


@pytest.mark.parametrize(("stated", "most"), [("1", 0.8), ("0.5", 0.4)])
async def test_a_turn_comes_early_enough_for_the_clients_own_timeout(
    simulator: Simulator, tmp_path: Path, stated: str, most: float
) -> None:
    simulator.scenario = limited(1, good=lambda _: HELD)
    async with queued(tmp_path, simulator, "ONE") as proxy, holding(proxy, simulator):
        turns_of(proxy).queue.lanes["zai/one"].limit.value = 1
        reply = await ask(proxy.port, "POST", MESSAGES, fields(x_stainless_timeout=stated), body())
        (exchange,) = await proxy.recorder.wait_for(1)
    assert reply.status == 429
    assert exchange.queue_wait == pytest.approx(most, abs=0.15)


async def test_the_deadline_counts_from_arrival_also_for_a_request_that_was_refused(simulator: Simulator, tmp_path: Path) -> None:
    """Each refusal puts it back to its place; the deadline stays."""
    simulator.scenario = Scenario("error", 429, "rate_limit_error").but(message="[1302][High concurrency usage][1]")
    async with queued(tmp_path, simulator, "ONE", queue_wait=0.5) as proxy:
        started = asyncio.get_running_loop().time()
        reply = await call(proxy)
        took = asyncio.get_running_loop().time() - started
    assert (reply.status, reply.get("x-claude-proxy-error")) == (429, "queue_timeout")
    assert took == pytest.approx(0.5, abs=0.25)


async def test_the_same_request_waiting_twice_is_answered_twice_the_newer_first(simulator: Simulator, tmp_path: Path) -> None:
    """The older one's client has probably given up; answers are never shared."""
    simulator.scenario = limited(1, good=held_or(SHORT))
    async with queued(tmp_path, simulator, "ONE") as proxy, holding(proxy, simulator):
        turns_of(proxy).queue.lanes["zai/one"].limit.value = 1
        tasks = []
        for number, kind in enumerate(["older", "newer"], 1):
            tasks.append(
                asyncio.ensure_future(ask(proxy.port, "POST", MESSAGES, fields("main", "a", x_copy=kind), body(text="same")))
            )
            await waits(proxy, number)
        simulator.release()
        assert [reply.status for reply in await asyncio.gather(*tasks)] == [200, 200]
    assert [one.header("x-copy") for one in simulator.requests[1:]] == ["newer", "older"]


async def test_when_too_many_wait_the_youngest_of_the_largest_session_goes(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = limited(1, good=held_or(SHORT))
    async with queued(tmp_path, simulator, "ONE") as proxy, holding(proxy, simulator):
        turns_of(proxy).queue.lanes["zai/one"].limit.value = 1
        turns_of(proxy).queue.room._most = 4
        small = asyncio.ensure_future(call(proxy, "subagent", "small"))
        await waits(proxy, 1)
        large = calls(proxy, ["subagent"] * 4, session="large")
        (done,), _ = await asyncio.wait(large, return_when=asyncio.FIRST_COMPLETED)
        reply = await done
        assert (reply.status, reply.get("retry-after"), reply.get("x-claude-proxy-error")) == (429, "45", "queue_full")
        assert waiting(proxy) == 4
        simulator.release()
        assert sorted(reply.status for reply in await asyncio.gather(small, *large)) == [200, 200, 200, 200, 429]


# -- bodies that are not kept whole


async def test_a_body_that_is_not_kept_whole_is_never_sent_again(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = Scenario("error", status=429, message="[1302][High concurrency usage][1]")
    async with queued(tmp_path, simulator, "ONE", max_kept=100_000) as proxy:
        reply = await call(proxy, text="x" * 1_000_000)
        await all_is_given_back(proxy)
    assert (reply.status, "[1302]" in said(reply)) == (429, True)
    assert len(simulator.requests) == 1


async def test_nor_is_it_sent_above_the_limit_to_try_whether_that_is_accepted(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused probe must not be seen by the client."""
    monkeypatch.setattr(limit, "PROBE_WAIT", 0.02)
    monkeypatch.setattr(limit, "PROBE_NEXT", 0.02)
    simulator.scenario = limited(2, good=held_or(SHORT))
    async with queued(tmp_path, simulator, "ONE", max_kept=100_000) as proxy, holding(proxy, simulator, 2):
        large = asyncio.ensure_future(call(proxy, "subagent", text="x" * 1_000_000))
        await waits(proxy, 1)
        small = asyncio.ensure_future(call(proxy, "main", text="small"))
        await waits(proxy, 2)
        await until(lambda: 429 in statuses(simulator))
        assert not large.done()
        simulator.release()
        assert [(await one).status for one in (large, small)] == [200, 200]


async def test_a_large_body_waits_unread(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = limited(1, good=held_or(SHORT))
    async with queued(tmp_path, simulator, "ONE", max_kept=100_000) as proxy, holding(proxy, simulator):
        turns_of(proxy).queue.lanes["zai/one"].limit.value = 1
        async with connect(proxy.port) as wire:
            wire.send(request("POST", MESSAGES, [JSON], body(text="x" * 20_000_000)))
            await waits(proxy, 1)
            (turn,) = turns_of(proxy).queue.room.tickets
            assert proxy.app.forward._shelf.used < 2_000_000
            assert not turn.can_resend
            simulator.release()
            await wire.reply()
    assert (simulator.requests[-1].complete, simulator.requests[-1].body_size > 20_000_000) == (True, True)


# -- what has no turn


async def test_other_calls_do_not_wait(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = limited(1, good=lambda _: HELD)
    async with queued(tmp_path, simulator, "ONE") as proxy, holding(proxy, simulator):
        turns_of(proxy).queue.lanes["zai/one"].limit.value = 1
        assert (await ask(proxy.port, "POST", COUNT, [JSON], body())).status == 200
        assert (await ask(proxy.port, "GET", "/api/anthropic/v1/models")).status == 200
        assert in_flight(proxy) == {"zai/one": 1}


# -- over a restart


@pytest.mark.parametrize("damage", [None, b"{"])
async def test_what_was_learned_survives_a_restart(simulator: Simulator, tmp_path: Path, damage: bytes | None) -> None:
    """Nothing is known of this upstream's limit at the first start. A damaged file costs the same refusals once more."""
    simulator.scenario = limited(1, good=lambda _: Scenario("text", pace=0.01))
    early, seen, file = [], 0, tmp_path / "limits.json"
    for _ in range(2):
        async with served(simulator.base_url, tmp_path) as process:
            asking = [ask(process.port, "POST", MESSAGES, [JSON], body(text=f"call {n}")) for n in range(4)]
            assert {reply.status for reply in await asyncio.gather(*asking)} == {200}
        first, *others = simulator.requests[seen:]
        assert first.ended_at is not None
        early.append(sum(one.received_at < first.ended_at for one in others))
        seen = len(simulator.requests)
        assert b'"limit":1' in await asyncio.to_thread(file.read_bytes)
        if damage is not None:
            await asyncio.to_thread(file.write_bytes, damage)
    assert early[0] >= 3
    assert (early[1] >= 3) is (damage is not None)  # else at most one: the upstream may give the slot back late
