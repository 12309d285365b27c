"""What is recorded, and so told to people, of requests that the queue sent again or refused in the proxy's own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_proxy.proxy.accounts import Account, Upstream
from claude_proxy.proxy.turns import Choice, Turn, Turns
from claude_proxy.routing.classes import Urgency
from claude_proxy.routing.ticket import Reason, Refuse
from claude_proxy.simulator import Scenario, Simulator, error, faults
from claude_proxy.upstream.dial import parse_origin
from claude_proxy.upstream.pool import Pool
from tests.integration.queued import call, hurry, queued, turns_of

REJECTED = (("anthropic-ratelimit-unified-status", "rejected"), ("anthropic-ratelimit-unified-reset", "4070908800"))


async def test_a_used_up_window_that_only_headers_tell_is_recorded_as_one(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = error(429, "rate_limit_error", "Error", headers=REJECTED)
    async with queued(tmp_path, simulator, "ONE", provider="anthropic") as proxy:
        reply = await call(proxy)
        (exchange,) = await proxy.recorder.wait_for(1)
    assert exchange.failure is not None
    assert (exchange.failure.provider_code, exchange.failure.provider) == ("plan_window", "anthropic")
    assert (reply.status, reply.get("x-should-retry")) == (429, "false")


@pytest.mark.parametrize(
    ("refused", "kind", "code"),
    [
        (error(429, message="[1302][High concurrency usage][1]", error_code="1302"), "rate_limit_error", "1302"),
        (error(429, message="[1308][Usage limit reached for 5 hour][1]", error_code="1308"), "rate_limit_error", "1308"),
        (error(529, "overloaded_error", "[1305][Overloaded][1]", error_code="1305"), "overloaded_error", "1305"),
        (error(529, "overloaded_error", "Overloaded", encoding="gzip"), "overloaded_error", None),
        (Scenario(fault=faults.error_event(0, error_type="overloaded_error", message="Overloaded")), "overloaded_error", None),
    ],
    ids=["concurrency", "window", "overload", "compressed", "in a stream"],
)
async def test_an_attempt_that_another_one_follows_is_recorded_with_what_the_upstream_said(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Scenario, kind: str, code: str | None
) -> None:
    hurry(monkeypatch)
    answers = iter((refused, Scenario()))
    simulator.scenario = lambda _: next(answers)
    async with queued(tmp_path, simulator, "ONE", "TWO") as proxy:
        reply = await call(proxy)
        (exchange,) = await proxy.recorder.wait_for(1)
    first, last = exchange.attempts
    assert first.failure is not None
    assert (first.failure.kind, first.failure.provider_code, first.failure.side) == (kind, code, "upstream")
    assert (reply.status, last.failure, exchange.failure) == (200, None, None)


@pytest.mark.parametrize("scenario", [
    error(401, "authentication_error", "invalid key"),
    Scenario(fault=faults.error_event(0, error_type="authentication_error", message="[1000][invalid key][1]")),
])  # fmt: skip
async def test_a_refusal_of_the_queue_names_the_account_that_was_waited_for(
    simulator: Simulator, tmp_path: Path, scenario: Scenario
) -> None:
    simulator.scenario = scenario
    async with queued(tmp_path, simulator, "ONE") as proxy:
        await call(proxy)
        refused = await call(proxy)
        exchange = (await proxy.recorder.wait_for(2))[-1]
    assert refused.get("x-claude-proxy-error") == "account_out"
    assert (exchange.upstream, exchange.account, exchange.attempts) == ("zai", "one", [])


def turn_at(turns: Turns, *accounts: Account) -> Turn:
    return Turn("session", Urgency.MAIN, Choice([[(turns._lane(one), one) for one in accounts]]), 60.0)


def test_a_request_that_a_reload_moved_is_refused_for_the_account_that_it_waits_for_now() -> None:
    turns = Turns()
    pool = Pool(parse_origin("http://127.0.0.1:1"), connect_timeout=1, expiry=1, limit=1)
    upstream = Upstream("zai", pool)
    old, new = (upstream.hold(name, (b"x-api-key", b"k")) for name in ("old", "new"))
    turn = turn_at(turns, new)
    turn.lane = turn_at(turns, old).candidates.lanes[0]  # which has refused it before
    assert turns._accounts(turn, Refuse(turn, Reason.DEADLINE)) == (new,)


async def test_a_fault_of_the_queue_at_the_end_does_not_cost_the_record(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ValueError("a fault")

    async with queued(tmp_path, simulator, "ONE") as proxy:
        monkeypatch.setattr(turns_of(proxy).queue, "ended", fails)
        reply = await call(proxy)
        (exchange,) = await proxy.recorder.wait_for(1)
        errors = proxy.app.state.listeners.errors
    assert (reply.status, exchange.status, exchange.ended is not None, errors) == (200, 200, True, 1)
