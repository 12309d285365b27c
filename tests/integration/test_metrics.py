"""`/metrics` of a real proxy in front of the simulator: the sums are those that the upstream reported, to the last token."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from claude_proxy.simulator import Scenario, Simulator, faults
from claude_proxy.simulator.scenario import Usage
from tests.integration.messages import COUNT, JSON, MESSAGES, MODELS, body, post
from tests.integration.proxy import RunningProxy, running_proxy
from tests.integration.wire import ask, connect
from tests.observe.finished import samples

GOOD = {"upstream": "default", "model": "glm-5.3", "outcome": "completed", "status_class": "2xx"}


async def scrape(proxy: RunningProxy) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{proxy.origin}/metrics")
    assert answer.status_code == 200, answer.text
    return samples(answer.content)


def sums(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, label: str) -> dict[str, float]:
    """The series of one metric, added up by one label."""
    totals: dict[str, float] = {}
    for (series, labels), value in found.items():
        if series == name:
            value_of = dict(labels)[label]
            totals[value_of] = totals.get(value_of, 0) + value
    return totals


async def test_tokens_are_what_the_upstream_reported(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        for number in range(1, 21):
            usage = Usage(number * 7, number * 11, number * 13, number * 17)
            encoding = "gzip" if number % 3 == 0 else None
            simulator.scenario = Scenario("text", usage=usage, encoding=encoding)
            await ask(proxy.port, "POST", MESSAGES, [JSON], body(stream=bool(number % 2)))
        await proxy.recorder.wait_for(20)
        found = await scrape(proxy)
    reported = simulator.reported
    assert sums(found, "claude_proxy_tokens_total", "kind") == {
        "input": reported.input_tokens,
        "output": reported.output_tokens,
        "cache_read": reported.cache_read_input_tokens,
        "cache_write": reported.cache_creation_input_tokens,
    }
    assert found["claude_proxy_exchanges_total", frozenset(GOOD.items())] == 20
    assert found["claude_proxy_first_byte_seconds_count", frozenset({("upstream", "default"), ("model", "glm-5.3")})] == 20


async def test_each_ending_is_counted_once(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        for scenario in (None, Scenario(fault=faults.status(429)), Scenario(fault=faults.cut("events", 3))):
            simulator.scenario = scenario
            await ask(proxy.port, "POST", MESSAGES, [JSON], body())
        simulator.scenario = Scenario(fault=faults.stall("events", 2))
        async with connect(proxy.port) as wire:
            wire.send(post())
            async with asyncio.timeout(10):
                await simulator.hold.wait()
            running = await scrape(proxy)
        simulator.scenario = None
        await ask(proxy.port, "POST", COUNT, [JSON], body())
        await ask(proxy.port, "GET", MODELS)
        await proxy.recorder.wait_for(6)
        found = await scrape(proxy)
    assert running["claude_proxy_in_flight", frozenset()] == 1
    assert found["claude_proxy_in_flight", frozenset()] == 0
    assert sums(found, "claude_proxy_exchanges_total", "outcome") == {"completed": 2, "cut": 1, "cancelled": 1}
    assert sums(found, "claude_proxy_exchanges_total", "status_class") == {"2xx": 2, "4xx": 2}
    assert sums(found, "claude_proxy_other_exchanges_total", "kind") == {"count_tokens": 1, "other": 1}
    assert sums(found, "claude_proxy_failures_total", "side") == {"upstream": 2}


async def test_a_made_up_model_gets_no_series(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        simulator.scenario = Scenario(fault=faults.status(404))
        await ask(proxy.port, "POST", MESSAGES, [JSON], body(model="nobody-has-this"))
        await proxy.recorder.wait_for(1)
        assert sums(await scrape(proxy), "claude_proxy_exchanges_total", "model") == {"other": 1}


@pytest.mark.parametrize(
    "secrets", [{"upstream_api_key": "sk-secret-1", "proxy_api_key": "sk-secret-2", "admin_token": "sk-secret-3"}]
)
async def test_no_secret_and_no_session_is_in_it(simulator: Simulator, secrets: dict[str, str]) -> None:
    async with running_proxy(simulator.base_url, **secrets) as proxy:
        fields = [JSON, (b"x-api-key", b"sk-secret-2"), (b"x-claude-code-session-id", b"sk-secret-4")]
        await ask(proxy.port, "POST", MESSAGES, fields, body())
        await ask(proxy.port, "POST", MESSAGES, [JSON, (b"x-api-key", b"sk-secret-5")], body())
        await proxy.recorder.wait_for(2)
        async with httpx.AsyncClient(headers={"authorization": "Bearer sk-secret-3"}) as client:
            text = (await client.get(f"{proxy.origin}/metrics")).text
    assert "exchanges_total" in text
    assert "secret" not in text


async def test_a_web_page_cannot_read_it_through_the_users_browser(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url) as proxy, httpx.AsyncClient() as client:
        for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}, {"sec-fetch-site": "cross-site"}):
            assert (await client.get(f"{proxy.origin}/metrics", headers=headers)).status_code == 403


async def test_faults_of_listeners_are_in_it(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url) as proxy:
        proxy.app.state.listeners.contain("test", RuntimeError())
        assert (await scrape(proxy))["claude_proxy_listener_errors_total", frozenset()] == 1
