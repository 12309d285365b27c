"""A z.ai plan behind a real proxy: its own count and ours, by the formula of docs/prices.md, and what was spent elsewhere."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest

from claude_proxy.simulator import Recorded, Scenario, Simulator, Usage, faults
from tests.integration.booked import written
from tests.integration.proxy import RunningProxy
from tests.integration.test_accounts import post, proxy_with, table

QUOTA = "/api/monitor/usage/quota/limit"
HERE = '[provider.zai]\nhosts = ["127.0.0.1"]\n'  # an own prices.toml: the z.ai of this test
USED = 1438
COEFFICIENTS = {"glm-5.3": (6.9, 1.7, 24), "glm-5-turbo": (5.7, 1.5, 21), "glm-4.7": (4.6, 1.2, 16)}
BEIJING = timezone(timedelta(hours=8))
ASKED: list[tuple[str, bool, Usage]] = [
    ("glm-5.3", True, Usage(1000, 500, 0, 20_000)),
    ("glm-5.3", False, Usage(20, 3, 4000, 100, 1000)),  # written to the cache: as input
    ("glm-4.7", True, Usage(7, 11)),
    ("glm-5-turbo", False, Usage(123_457, 1, 0, 1)),
]


def credits_of(item: dict[str, Any]) -> float:
    """The credits of an exchange: (input * a + cached * b + output * c) / 10,000, and half of it outside peak hours."""
    new, cached, out = COEFFICIENTS[item["model"]]
    usage = item["usage"]
    asked = datetime.fromisoformat(item["started_at"]).astimezone(BEIJING)
    peak = asked.weekday() < 5 and 14 <= asked.hour < 18
    tokens = usage["input_tokens"] + usage["cache_creation_input_tokens"]
    found = tokens * new + usage["cache_read_input_tokens"] * cached + usage["output_tokens"] * out
    return round(found / 10_000 * (1 if peak else 0.5), 6)


class Plan:
    """z.ai: answers with the usage that is `next`, and tells the quota once the simulator's `release` is set."""

    def __init__(self) -> None:
        self.next = Usage(1, 1)
        reset = int((time.time() + 3600) * 1000)
        limit = {"type": "CREDIT_LIMIT", "unit": 3, "number": 5, "usage": 12_000, "currentValue": USED, "nextResetTime": reset}
        body = json.dumps({"code": 200, "success": True, "data": {"level": "pro", "limits": [limit]}}).encode()
        self._quota = Scenario("raw", body=body, fault=faults.stall("head", until="release"))

    def __call__(self, asked: Recorded) -> Scenario:
        return self._quota if asked.path == QUOTA else Scenario("text", usage=self.next)


@pytest.fixture
async def plan(simulator: Simulator) -> Plan:
    simulator.scenario = made = Plan()
    return made


@pytest.fixture
async def proxy(plan: Plan, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningProxy]:
    """A proxy with the key of one account of a z.ai plan."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "claude-proxy").mkdir()
    (tmp_path / "claude-proxy/prices.toml").write_text(HERE)
    upstream = table("plan", simulator.base_url, "ONE", provider="zai")
    async with proxy_with(tmp_path, upstream, ledger="on", queue="on", quota_poll=True) as running:
        yield running


async def ask_all(proxy: RunningProxy, plan: Plan, asked: list[tuple[str, bool, Usage]]) -> None:
    for model, stream, plan.next in asked:
        assert (await post(proxy, model=model, stream=stream)).status == 200
    await written(proxy, len(asked))


async def the_plan(proxy: RunningProxy, simulator: Simulator, client: httpx.AsyncClient) -> dict[str, Any]:
    """The plan, once its provider has told the quota."""
    simulator.release.set()
    async with asyncio.timeout(20):
        while not (found := (await client.get("/api/v1/quota")).json()["items"]):
            pass
    plan: dict[str, Any] = found[0]
    return plan


async def test_credits_are_what_the_formula_gives(proxy: RunningProxy, simulator: Simulator, plan: Plan) -> None:
    await ask_all(proxy, plan, ASKED)
    async with httpx.AsyncClient(base_url=proxy.origin, timeout=30) as client:
        found = await the_plan(proxy, simulator, client)
        items = (await client.get("/api/v1/exchanges")).json()["items"]
        sums = (await client.get("/api/v1/usage?by=account")).json()
        metrics = (await client.get("/metrics")).text
    assert [item["credits"] for item in items] == [credits_of(item) for item in items]
    total = round(sum(item["credits"] for item in items), 6)
    assert total > 0
    assert (found["upstream"], found["account"]) == ("plan", "one")
    (window,) = found["windows"]
    assert (window["used"], window["computed_credits"], window["uncredited_exchanges"]) == (USED, total, 0)
    assert window["spent_outside"] == pytest.approx(USED - total)
    assert found["burn_rate"] == pytest.approx(2 * total)  # in half an hour
    assert sums["totals"]["credits"] == total
    assert [(group["key"], group["credits"]) for group in sums["groups"]] == [("one", total)]
    lines = [line for line in metrics.splitlines() if line.startswith("claude_proxy_credits_total{")]
    assert sum(float(line.split()[-1]) for line in lines) == pytest.approx(total)
    (quota,) = [one for one in simulator.requests if one.path == QUOTA]
    assert quota.header("authorization") == "sk-one-000"


async def test_unknown_credits_are_not_taken_for_none(proxy: RunningProxy, simulator: Simulator, plan: Plan) -> None:
    """No coefficients are known for glm-5.4: so nothing can be said about what was spent elsewhere."""
    await ask_all(proxy, plan, [("glm-5.4", False, Usage(1000, 10))])
    async with httpx.AsyncClient(base_url=proxy.origin, timeout=30) as client:
        found = await the_plan(proxy, simulator, client)
        sums = (await client.get("/api/v1/usage")).json()["totals"]
    (window,) = found["windows"]
    assert (window["used"], window["computed_credits"], window["spent_outside"]) == (USED, None, None)
    assert window["uncredited_exchanges"] == 1
    assert (found["burn_rate"], found["time_to_empty"], sums["credits"]) == (None, None, None)
    assert datetime.fromisoformat(found["sampled_at"]) <= datetime.now(UTC)
