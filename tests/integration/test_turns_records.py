"""What is recorded, and so told to people, of requests that the queue sent again or refused in the proxy's own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_proxy.proxy.accounts import Account, Upstream
from claude_proxy.proxy.turns import Choice, Turn, Turns
from claude_proxy.routing.classes import Urgency
from claude_proxy.simulator import Scenario, Simulator, error, faults
from claude_proxy.upstream.dial import parse_origin
from claude_proxy.upstream.pool import Pool
from tests.integration.queued import call, queued

REJECTED = (("anthropic-ratelimit-unified-status", "rejected"), ("anthropic-ratelimit-unified-reset", "4070908800"))


async def test_a_used_up_window_that_only_headers_tell_is_recorded_as_one(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = error(429, "rate_limit_error", "Error", headers=REJECTED)
    async with queued(tmp_path, simulator, "ONE", provider="anthropic") as proxy:
        reply = await call(proxy)
        (exchange,) = await proxy.recorder.wait_for(1)
    assert exchange.failure is not None
    assert (exchange.failure.provider_code, exchange.failure.provider) == ("plan_window", "anthropic")
    assert (reply.status, reply.get("x-should-retry")) == (429, "false")


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
    assert turns._account(turn) is new
