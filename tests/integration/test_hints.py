"""`x-should-retry` where the upstream gave no hint and we know the answer; nothing else is touched (docs/facts.md)."""

from __future__ import annotations

import pytest

from claude_proxy.simulator import Scenario, Simulator, error, named
from tests.integration.messages import JSON, MESSAGES, body
from tests.integration.proxy import running_proxy
from tests.integration.wire import Reply, ask


async def through(simulator: Simulator, scenario: Scenario, **settings: bool) -> Reply:
    """The answer to a Messages request."""
    simulator.scenario = scenario
    async with running_proxy(simulator.base_url, **settings) as proxy:
        return await ask(proxy.port, "POST", MESSAGES, [JSON], body())


@pytest.mark.parametrize("code", ["1113", "1308", "1309", "1310", "1313"])
async def test_what_lasts_is_not_to_be_tried_again(simulator: Simulator, code: str) -> None:
    reply = await through(simulator, named(f"zai-{code}"))
    assert (reply.status, reply.all("x-should-retry")) == (429, ["false"])
    assert f"[{code}]".encode() in reply.body


@pytest.mark.parametrize("name", ["zai-1302", "zai-1303", "zai-1305", "overloaded", "unauthorized", "gateway-html", "no-credit"])
async def test_what_may_pass_or_is_not_known_is_left_to_the_client(simulator: Simulator, name: str) -> None:
    reply = await through(simulator, named(name))
    assert reply.status >= 400
    assert reply.get("x-should-retry") is None


@pytest.mark.parametrize("hint", [("x-should-retry", "true"), ("retry-after", "3600")])
async def test_a_hint_of_the_upstreams_stands_alone(simulator: Simulator, hint: tuple[str, str]) -> None:
    reply = await through(simulator, named("zai-1308").but(headers=(hint,)))
    assert reply.get(hint[0]) == hint[1]
    assert len(reply.all("x-should-retry") + reply.all("retry-after")) == 1


async def test_hints_can_be_switched_off(simulator: Simulator) -> None:
    reply = await through(simulator, named("zai-1308"), retry_hints=False)
    assert (reply.status, reply.get("x-should-retry")) == (429, None)


async def test_hints_of_our_own_errors_too(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url, proxy_api_key="k", retry_hints=False) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body())
    assert (reply.status, reply.get("x-should-retry")) == (401, None)


async def test_a_good_answer_gets_no_hint(simulator: Simulator) -> None:
    reply = await through(simulator, Scenario("text", text="[1308][Usage limit reached][x]"))
    assert (reply.status, reply.get("x-should-retry")) == (200, None)


async def test_a_compressed_error_passes_raw_and_is_still_recorded(simulator: Simulator) -> None:
    simulator.scenario = error(429, "rate_limit_error", "[1308][Usage limit reached][x]", encoding="gzip")
    async with running_proxy(simulator.base_url) as proxy:
        reply = await ask(proxy.port, "POST", MESSAGES, [JSON], body())
        (exchange,) = await proxy.recorder.wait_for(1)
    assert (reply.get("content-encoding"), reply.body[:2]) == ("gzip", b"\x1f\x8b")
    assert exchange.failure is not None
    assert exchange.failure.provider_code == "1308"
