"""What the queue shows of itself while it works: the API, the metrics and the page's items."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.simulator import Scenario, Simulator, error
from tests.integration.proxy import RunningProxy
from tests.integration.queued import call, calls, held_or, holding, hurry, queued, turns_of, waits
from tests.integration.wire import ask

HTML = (b"accept", b"text/html")
AWAY = "Your limit will reset at 2099-01-01 00:00:00"


async def shown(proxy: RunningProxy, what: str) -> list[dict[str, Any]]:
    reply = await ask(proxy.port, "GET", f"/api/v1/{what}", [])
    assert reply.status == 200, reply.body
    found: list[dict[str, Any]] = json.loads(reply.body)["items"]
    return found


async def metric(proxy: RunningProxy, name: str) -> str | None:
    text = (await ask(proxy.port, "GET", "/metrics", [])).body.decode()
    return next(
        (line.split()[-1] for line in text.splitlines() if line.startswith(f'claude_proxy_{name}{{upstream="zai"}}')), None
    )


def accounts(upstream: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in upstream["accounts"]}


async def test_who_waits_is_shown_with_its_place(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = held_or(Scenario("text"))
    async with queued(tmp_path, simulator, "ONE") as proxy:
        turns_of(proxy).queue.lane("zai/one", start=1, ceiling=1)
        async with holding(proxy, simulator):
            tasks = calls(proxy, ["main"] * 3)
            await waits(proxy, 3)
            places = [(one["state"], one["place"]) for one in await shown(proxy, "live")]
            (upstream,) = await shown(proxy, "upstreams")
            numbers = [await metric(proxy, name) for name in ("queue_waiting", "queue_sent", "queue_limit", "upstream_up")]
            simulator.release()
        await asyncio.gather(*tasks)
        after = await metric(proxy, "queue_waiting")
    assert sorted(places[1:]) == [("waiting", 1), ("waiting", 2), ("waiting", 3)]
    assert places[0][1] is None
    assert (upstream["state"], upstream["waiting"]) == ("up", 3)
    assert accounts(upstream)["one"] | {"name": "one", "limit": 1, "running": 1, "waiting": 3} == accounts(upstream)["one"]
    assert [float(number or -1) for number in (*numbers, after)] == [3, 1, 1, 1, 0]


@pytest.mark.parametrize("message", ["[1308][Usage limit reached][1]", f"[1113][{AWAY}][1]"])
@pytest.mark.parametrize("keys", [("ONE",), ("ONE", "TWO")])
async def test_an_upstream_is_out_when_its_last_account_is(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, ...], message: str
) -> None:
    hurry(monkeypatch)
    simulator.scenario = error(429, message=message)
    async with queued(tmp_path, simulator, *keys) as proxy:
        (before,) = await shown(proxy, "upstreams")
        await call(proxy)
        (upstream,) = await shown(proxy, "upstreams")
        up = await metric(proxy, "upstream_up")
    assert [before["state"], *(one["state"] for one in before["accounts"])] == ["up"] * (1 + len(keys))
    assert [upstream["state"], *(one["state"] for one in upstream["accounts"])] == ["out"] * (1 + len(keys))
    assert {one["reason"] for one in upstream["accounts"]} == {message[1:5]}
    assert float(up or -1) == 0


async def test_an_upstream_is_up_while_one_account_is(simulator: Simulator, tmp_path: Path) -> None:
    async with queued(tmp_path, simulator, "ONE", "TWO") as proxy:
        lane = turns_of(proxy).queue.lane("zai/one")
        lane.take_out(0.0, asyncio.get_running_loop().time() + 3600, "1308")
        (upstream,) = await shown(proxy, "upstreams")
        up = await metric(proxy, "upstream_up")
    assert (upstream["state"], upstream["back_at"], float(up or -1)) == ("up", None, 1)
    assert accounts(upstream)["one"]["state"] == "out"
    assert accounts(upstream)["one"]["back_at"].endswith("Z")
    assert accounts(upstream)["two"]["state"] == "up"


async def test_the_pages_show_it(simulator: Simulator, tmp_path: Path) -> None:
    simulator.scenario = held_or(Scenario("text"))
    async with queued(tmp_path, simulator, "ONE", "TWO") as proxy:
        queue = turns_of(proxy).queue
        queue.lane("zai/one", start=1, ceiling=1)
        queue.lane("zai/two").take_out(0.0, asyncio.get_running_loop().time() + 3600, "1308")
        async with holding(proxy, simulator):
            tasks = calls(proxy, ["main"])
            await waits(proxy, 1)
            upstreams = (await ask(proxy.port, "GET", "/upstreams", [HTML])).body.decode()
            now = (await ask(proxy.port, "GET", "/", [HTML])).body.decode()
            simulator.release()
        await asyncio.gather(*tasks)
    assert "one: 1 of 1 at once, 1 waiting" in upstreams
    assert "two: out of use (1308), until" in upstreams
    assert "no. 1 in the queue" in now


async def test_without_a_queue_there_is_nothing_to_show(simulator: Simulator, tmp_path: Path) -> None:
    async with queued(tmp_path, simulator, "ONE", queue=False) as proxy:
        (upstream,) = await shown(proxy, "upstreams")
        assert await metric(proxy, "queue_waiting") is None
    assert (upstream["state"], upstream["waiting"], upstream["back_at"]) == ("up", 0, None)
