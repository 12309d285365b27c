"""The queue and its accounts: what one account's trouble means for others, for clients' own credentials, and over a reload."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from claude_proxy import reload
from claude_proxy.exchange import Outcome
from claude_proxy.simulator import Recorded, Scenario, Simulator, error, faults
from claude_proxy.simulator.refusals import refusal
from tests.integration.messages import COUNT, body
from tests.integration.proxy import RunningProxy
from tests.integration.queued import (
    all_is_given_back,
    call,
    calls,
    fields,
    held_or,
    holding,
    hurry,
    limited,
    queued,
    said,
    turns_of,
    waits,
)
from tests.integration.test_accounts import bearers, models, proxy_with, route, table
from tests.integration.wire import Reply, ask

FINE = Scenario("text")
HOUR = 3600


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(reload, "SETTLED", 0.001)


@pytest.fixture
async def other() -> AsyncIterator[Simulator]:
    """A second upstream."""
    async with Simulator() as running:
        yield running


def used_up(seconds: float = HOUR) -> Scenario:
    return refusal("window", "zai", time.time() + seconds)


def by_key(**answers: Scenario) -> Callable[[Recorded], Scenario]:
    """Answers by the credential that a request shows; `FINE` to every other."""
    return lambda one: next((answers[key] for key in answers if key in (one.header("authorization") or "")), FINE)


# -- what lasts


async def test_behind_a_used_up_window_one_request_is_sent_and_the_others_hear_when_it_ends(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.scenario = used_up()
    async with queued(tmp_path, simulator, "ONE", timezone="UTC") as proxy:
        first = await call(proxy)
        others = await asyncio.gather(*calls(proxy, ["main", "subagent", "background"]))
        exchanges = await proxy.recorder.wait_for(4)
        await all_is_given_back(proxy)
    assert (first.status, first.get("x-should-retry"), first.get("x-claude-proxy-error")) == (429, "false", None)
    assert "[1308]" in said(first)
    back = f"{datetime.fromtimestamp(time.time() + HOUR, UTC):%Y-%m-%d %H:}"
    for reply in others:
        assert (reply.status, reply.get("x-should-retry"), reply.get("retry-after")) == (429, "false", None)
        assert (reply.get("x-claude-proxy-error"), back in said(reply), "zai/one" in said(reply)) == ("account_out", True, True)
    assert len(simulator.requests) == 1
    assert [len(one.attempts) for one in exchanges] == [1, 0, 0, 0]


async def test_those_who_wait_when_the_window_is_used_up_hear_it_at_once(simulator: Simulator, tmp_path: Path) -> None:
    refused = used_up()
    simulator.scenario = held_or(refused)
    async with queued(tmp_path, simulator, "ONE") as proxy, holding(proxy, simulator, 2):
        tasks = calls(proxy, ["main"] * 5)
        await waits(proxy, 5)
        lane = turns_of(proxy).queue.lanes["zai/one"]
        lane.limit.value, lane.closed = 3, False
        tasks += calls(proxy, ["main"])
        replies = await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert sum(reply.get("x-claude-proxy-error") == "account_out" for reply in replies) == 5
    assert len(simulator.requests) == 3


async def test_a_window_that_is_back_soon_is_waited_for(simulator: Simulator, tmp_path: Path) -> None:
    again = used_up(2)  # z.ai says whole seconds
    simulator.scenario = lambda _: again if len(simulator.requests) == 1 else FINE
    async with queued(tmp_path, simulator, "ONE") as proxy:
        first, second = await call(proxy), await call(proxy)
    assert (first.status, second.status) == (429, 200)


@pytest.mark.parametrize(("kind", "status"), [("auth", 401), ("account", 429)])
async def test_a_held_key_that_is_refused_leaves_rotation_and_is_named_by_its_label(
    simulator: Simulator, tmp_path: Path, kind: str, status: int
) -> None:
    simulator.scenario = refusal(kind, "zai", 0.0)  # type: ignore[arg-type]
    async with queued(tmp_path, simulator, "ONE") as proxy:
        first, second = await call(proxy), await call(proxy)
    assert (first.status, first.get("x-should-retry")) == (status, "false")
    assert (second.status, second.get("x-claude-proxy-error")) == (429, "account_out")
    assert "zai/one" in said(second)
    assert "sk-one" not in repr((first, second))
    assert len(simulator.requests) == 1


async def test_a_reload_lets_a_refused_key_try_again(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = refusal("auth", "zai", 0.0)
    async with queued(tmp_path, simulator, "ONE") as proxy:
        await call(proxy)
        simulator.scenario = None
        (tmp_path / "claude-proxy.toml").write_text(table("zai", simulator.base_url, "ONE", "TWO", provider="zai"))
        await proxy.reload()
        assert (await call(proxy)).status == 200


async def test_a_clients_own_key_that_is_refused_concerns_only_that_call(simulator: Simulator, tmp_path: Path) -> None:
    """It is the client's to fix, and it hears so each time."""
    simulator.scenario = refusal("auth", "zai", 0.0)
    async with queued(tmp_path, simulator) as proxy:
        replies = [await call(proxy, key="sk-mine") for _ in range(2)]
    assert [(reply.status, reply.get("x-claude-proxy-error")) for reply in replies] == [(401, None)] * 2


# -- other accounts


@pytest.mark.parametrize("kind", ["concurrency", "rate", "overload", "window", "account", "auth"])
async def test_what_one_account_refuses_goes_to_the_other_at_once(simulator: Simulator, tmp_path: Path, kind: str) -> None:
    bad = refusal(kind, "zai", time.time() + HOUR)  # type: ignore[arg-type]
    simulator.scenario = by_key(one=bad)
    async with queued(tmp_path, simulator, "ONE", "TWO") as proxy:
        reply = await call(proxy)
        exchange = await proxy.last()
    assert reply.status == 200
    assert [one.account for one in exchange.attempts] == ["one", "two"]
    assert exchange.attempts[1].started - exchange.attempts[0].started < 0.5
    assert exchange.account == "two"


async def test_where_nothing_listens_the_other_upstream_is_asked_at_once(
    simulator: Simulator, other: Simulator, tmp_path: Path
) -> None:
    await simulator.refuse()
    tables = [table("a", simulator.base_url, "ONE"), table("b", other.base_url, "TWO"), route("a", "b")]
    async with proxy_with(tmp_path, *tables, queue=True) as proxy:
        reply = await call(proxy)
        exchange = await proxy.last()
    assert (reply.status, [one.upstream for one in exchange.attempts]) == (200, ["a", "b"])
    assert exchange.attempts[0].failure is not None


@pytest.mark.parametrize("comes_back", [1, 2, 3, None])
async def test_where_nothing_listens_and_there_is_no_other_it_is_tried_three_times_more(
    simulator: Simulator, tmp_path: Path, comes_back: int | None
) -> None:
    async with queued(tmp_path, simulator, "ONE") as proxy:
        await simulator.refuse()
        asking = asyncio.ensure_future(call(proxy))
        if comes_back is not None:
            while len(proxy.recorder.started) < 1 or len(proxy.recorder.started[0].attempts) < comes_back:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await simulator.start()
        reply, exchange = await asking, await proxy.last()
    if comes_back is None:
        assert (reply.status, reply.get("x-claude-proxy-error"), len(exchange.attempts)) == (503, "connect_failed", 4)
        assert exchange.outcome is Outcome.FAILED
    else:
        assert (reply.status, len(exchange.attempts) <= 4) == (200, True)


@pytest.mark.parametrize("accounts", [("ONE",), ("ONE", "TWO")], ids=["one account", "two accounts"])
@pytest.mark.parametrize(
    "scenario",
    [
        *(error(status, message="Internal error") for status in (500, 502, 504)),
        Scenario(fault=faults.refuse()),
        *(Scenario(fault=faults.cut("request", 10, how)) for how in ("fin", "rst")),  # type: ignore[arg-type]
        *(Scenario(fault=faults.cut("head", 0, how)) for how in ("fin", "rst")),  # type: ignore[arg-type]
        Scenario(fault=faults.cut("events", 0)),
        Scenario(fault=faults.cut("events", 1, "rst")),
        Scenario(fault=faults.cut("mid-event", 0)),
        Scenario(fault=faults.stall("head")),
        Scenario("raw", wire=b"hello\r\n\r\n"),
    ],
    ids=lambda one: (
        f"{one.status} {one.fault.kind} {one.fault.where} {one.fault.how}" if one.fault else f"{one.kind} {one.status}"
    ),
)
async def test_what_may_have_been_worked_on_is_never_sent_again(
    simulator: Simulator, tmp_path: Path, scenario: Scenario, accounts: tuple[str, ...]
) -> None:
    simulator.scenario = scenario
    async with queued(tmp_path, simulator, *accounts, response_head_timeout=0.2) as proxy:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # a cut is passed on as a cut
            await call(proxy)
        exchange = await proxy.last()
        await all_is_given_back(proxy)
    assert (len(simulator.requests), len(exchange.attempts)) == (1, 1)


async def test_an_upstream_that_fails_again_and_again_is_left_alone_while_another_is_well(
    simulator: Simulator, other: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_proxy.routing.ejection.SPAN", 0.0)
    simulator.scenario = error(500)
    tables = [table("a", simulator.base_url, "ONE"), table("b", other.base_url, "TWO"), route("a", "b")]
    async with proxy_with(tmp_path, *tables, queue=True) as proxy:
        replies = [await call(proxy, session=f"s{n}") for n in range(9)]
    assert [reply.status for reply in replies] == [500] * 5 + [200] * 4
    assert len(simulator.requests) == 5


# -- clients' own credentials


async def test_without_a_held_key_one_users_used_up_window_stops_nobody_else(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = by_key(alice=used_up())
    async with queued(tmp_path, simulator) as proxy:
        assert [(await call(proxy, key="alice-0001")).status for _ in range(3)] == [429] * 3
        assert [(await call(proxy, key="bob-000002")).status for _ in range(3)] == [200] * 3
    assert len([one for one in bearers(simulator) if "alice" in one]) == 1


async def test_without_a_held_key_each_user_has_a_limit_of_its_own(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = limited(2, good=held_or(FINE))
    async with queued(tmp_path, simulator) as proxy, holding(proxy, simulator, 2, key="alice-0001"):
        blocked = asyncio.ensure_future(call(proxy, key="alice-0001"))
        await waits(proxy, 1)
        assert (await call(proxy, key="bob-000002")).status == 200
        assert not blocked.done()
        simulator.release()
        assert (await blocked).status == 200


# -- count_tokens


async def test_count_tokens_follows_its_session(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = by_key(one=used_up())
    async with queued(tmp_path, simulator, "ONE", "TWO") as proxy:
        await call(proxy, session="s")
        simulator.requests.clear()
        simulator.scenario = None
        for session in ("s", "unknown"):
            assert (await ask(proxy.port, "POST", COUNT, fields(session=session), body())).status == 200
    assert bearers(simulator) == ["Bearer sk-two-000", "Bearer sk-one-000"]


# -- a reload while somebody waits


async def while_waiting(proxy: RunningProxy, simulator: Simulator, folder: Path, *tables: str, **more: str) -> Reply:
    """The answer to a call that waits for the account "one" while a reload puts `tables` in force."""
    async with holding(proxy, simulator, 2):
        asking = asyncio.ensure_future(call(proxy, "main", **more))
        await waits(proxy, 1)
        (folder / "claude-proxy.toml").write_text("".join(tables))
        await proxy.reload()
        try:
            return await asyncio.wait_for(asking, 5)
        finally:
            simulator.release()


async def test_who_waits_for_an_account_that_is_removed_goes_to_another_one(
    simulator: Simulator, other: Simulator, tmp_path: Path
) -> None:
    simulator.scenario = held_or(FINE)
    async with queued(tmp_path, simulator, "ONE") as proxy:
        reply = await while_waiting(proxy, simulator, tmp_path, table("other", other.base_url, "TWO", provider="zai"))
        await all_is_given_back(proxy)
    assert (reply.status, bearers(other)) == (200, ["Bearer sk-two-000"])
    assert len(simulator.requests) == 2


async def test_but_only_where_a_new_request_like_it_would_go(simulator: Simulator, other: Simulator, tmp_path: Path) -> None:
    """Model names and thinking signatures do not transfer between providers."""
    simulator.scenario = held_or(FINE)
    first = table("glm", other.base_url, "TWO", provider="zai", models=["glm-*"])
    second = table("claude", simulator.base_url, "OTHER", provider="anthropic", models=["claude-*"])
    async with queued(tmp_path, simulator, "ONE") as proxy:
        reply = await while_waiting(proxy, simulator, tmp_path, second, first, model="glm-5.3")
    assert (reply.status, models(other), bearers(other)) == (200, ["glm-5.3"], ["Bearer sk-two-000"])


async def test_who_waits_for_a_model_that_is_not_served_any_more_is_told(
    simulator: Simulator, other: Simulator, tmp_path: Path
) -> None:
    simulator.scenario = held_or(FINE)
    async with queued(tmp_path, simulator, "ONE") as proxy:
        tables = table("claude", other.base_url, "OTHER", provider="anthropic", models=["claude-*"])
        reply = await while_waiting(proxy, simulator, tmp_path, tables, model="glm-5.3")
    assert (reply.status, reply.get("x-claude-proxy-error"), other.requests) == (429, "account_gone", [])


async def test_who_waits_for_an_account_whose_key_is_replaced_is_sent_with_the_new_one(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.scenario = held_or(FINE)
    changed = table("zai", simulator.base_url, provider="zai") + '[[upstream.account]]\nname = "one"\nkey_env = "TWO"\n'
    async with queued(tmp_path, simulator, "ONE") as proxy, holding(proxy, simulator, 2):
        asking = asyncio.ensure_future(call(proxy, "main"))
        await waits(proxy, 1)
        (tmp_path / "claude-proxy.toml").write_text(changed)
        await proxy.reload()
        simulator.release()
        assert (await asking).status == 200
    assert bearers(simulator)[-1] == "Bearer sk-two-000"


async def test_a_reload_that_changes_nothing_leaves_those_who_wait_where_they_are(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = held_or(FINE)
    async with queued(tmp_path, simulator) as proxy, holding(proxy, simulator, 2, key="mine-00001"):
        asking = asyncio.ensure_future(call(proxy, "main", key="mine-00001"))
        await waits(proxy, 1)
        await proxy.reload()
        await waits(proxy, 1)
        simulator.release()
        assert (await asking).status == 200


# -- a body that is still being sent


@pytest.mark.parametrize("size", [1_000, 200_000, 900_000])
async def test_a_refusal_before_all_of_the_body_is_sent_starts_the_next_try_from_its_first_byte(
    simulator: Simulator, tmp_path: Path, size: int
) -> None:
    early = error(429, message="[1302][usage][1]", fault=faults.early(10))
    simulator.scenario = by_key(one=early)
    async with queued(tmp_path, simulator, "ONE", "TWO") as proxy:
        reply = await call(proxy, text="x" * size)
        exchange = await proxy.last()
    assert (reply.status, [one.account for one in exchange.attempts]) == (200, ["one", "two"])
    assert simulator.requests[-1].body_size == len(body(text="x" * size))
