"""A batch's `results_url` leads back to us while we hold the credential, and is the upstream's own where we do not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from claude_proxy.simulator import Scenario, Simulator, faults, raw
from tests.integration.messages import BATCHES, JSON
from tests.integration.proxy import RunningProxy, running_proxy
from tests.integration.wire import Reply, ask, connect, request

REQUESTS = [{"custom_id": "a", "params": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}}]


async def create(proxy: RunningProxy) -> str:
    """A batch's id."""
    reply = await ask(proxy.port, "POST", BATCHES, [JSON], json.dumps({"requests": REQUESTS}).encode())
    name: str = json.loads(reply.body)["id"]
    return name


def batch(reply: Reply) -> Any:
    """What a reply says of a batch."""
    assert reply.whole
    assert reply.get("content-length") in (None, str(len(reply.body)))
    return json.loads(reply.body)


async def test_it_leads_back_to_us_and_there_to_the_results(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url, upstream_api_key="held") as proxy:
        name = await create(proxy)
        reply = await ask(proxy.port, "GET", f"{BATCHES}/{name}")
        url = batch(reply)["results_url"]
        results = await ask(proxy.port, "GET", url.removeprefix("http://localhost"))
        listed = batch(await ask(proxy.port, "GET", BATCHES))["data"]
    assert url == f"http://localhost{BATCHES}/{name}/results"  # under the name by which the client called
    assert json.loads(results.body)["custom_id"] == "a"
    assert [one["results_url"] for one in listed] == [url]


async def test_nothing_else_of_the_answer_changes(simulator: Simulator) -> None:
    theirs = rb'{ "id":"b", "results_url" :  "https:\/\/api.z.ai\/api\/anthropic\/v1\/messages\/batches\/b\/r", "x":1.10}'
    simulator.scenario = Scenario("raw", body=theirs, headers=(("x-extra", "1"),))
    async with running_proxy(simulator.base_url, upstream_api_key="held") as proxy:
        reply = await ask(proxy.port, "GET", BATCHES + "/b")
    ours = theirs.replace(rb"https:\/\/api.z.ai\/api\/anthropic", b"http://localhost/api/anthropic")
    assert (reply.body, reply.get("x-extra"), reply.all("content-length")) == (ours, "1", [str(len(ours))])


@pytest.mark.parametrize("settings", [{}, {"upstream_api_key": "held", "rewrite_results_url": False}])
async def test_it_stays_the_upstreams_without_a_held_credential_or_when_switched_off(
    simulator: Simulator, settings: dict[str, Any]
) -> None:
    async with running_proxy(simulator.base_url, **settings) as proxy:
        name = await create(proxy)
        url = batch(await ask(proxy.port, "GET", f"{BATCHES}/{name}"))["results_url"]
    assert url == f"{simulator.base_url}/v1/messages/batches/{name}/results"


@pytest.mark.parametrize("null", [b'{"id":"b","results_url":null}', b'{"id":"b","results_url":""}', b'{"id":"b"}', b"{", b""])
async def test_an_answer_without_one_passes_as_it_is(simulator: Simulator, null: bytes) -> None:
    simulator.scenario = Scenario("raw", body=null)
    async with running_proxy(simulator.base_url, upstream_api_key="held") as proxy:
        reply = await ask(proxy.port, "GET", BATCHES + "/b")
    assert (reply.body, reply.whole) == (null, True)


async def test_a_compressed_answer_passes_raw(simulator: Simulator) -> None:
    simulator.scenario = Scenario("raw", body=b'{"results_url":"https://x/v1/messages/batches/b/results"}', encoding="gzip")
    async with running_proxy(simulator.base_url, upstream_api_key="held") as proxy:
        reply = await ask(proxy.port, "GET", BATCHES + "/b")
    assert reply.body[:2] == b"\x1f\x8b"


@pytest.mark.parametrize("framing", [b"Content-Length: 200\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_an_answer_that_breaks_off_is_still_a_cut(simulator: Simulator, framing: bytes) -> None:
    half = b'5\r\n{"id"\r\n' if b"chunked" in framing else b'{"id"'
    simulator.scenario = raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + framing + b"\r\n" + half)
    async with running_proxy(simulator.base_url, upstream_api_key="held") as proxy:
        reply = await ask(proxy.port, "GET", BATCHES + "/b")
        (exchange,) = await proxy.recorder.wait_for(1)
    assert (reply.body, reply.whole, exchange.outcome) == (b'{"id"', False, "cut")


async def test_a_large_list_passes_as_it_is(simulator: Simulator) -> None:
    large = b'{"results_url":"https://x/v1/messages/batches/b/results"}' + b" " * 9 * 1024 * 1024
    simulator.scenario = Scenario("raw", body=large)
    async with running_proxy(simulator.base_url, upstream_api_key="held") as proxy:
        reply = await ask(proxy.port, "GET", BATCHES)
    assert reply.body == large


async def test_results_are_neither_held_back_nor_searched(simulator: Simulator) -> None:
    line = b'{"custom_id":"a","results_url":"https://elsewhere.example/v1/messages/batches/b/results"}\n'
    fault = faults.stall("mid-event", 0, until="release")
    simulator.scenario = Scenario("raw", content_type="application/x-jsonl", body=line * 50, fault=fault)
    async with running_proxy(simulator.base_url, upstream_api_key="held") as proxy, connect(proxy.port) as wire:
        wire.send(request("GET", BATCHES + "/b/results"))
        status, headers = await wire.head()  # while the rest is still to come
        simulator.release()
        got = await wire.reader.readexactly(len(line) * 50)
    assert (status, got) == (200, line * 50)
    assert (b"content-length", b"%d" % len(got)) in headers


async def test_a_head_request_keeps_its_length(simulator: Simulator) -> None:
    simulator.scenario = Scenario("raw", body=b'{"results_url":null}')
    async with running_proxy(simulator.base_url, upstream_api_key="held") as proxy:
        reply = await ask(proxy.port, "HEAD", BATCHES + "/b")
    assert (reply.status, reply.get("content-length")) == (200, "20")
