"""Ten thousand exchanges of random usage through a real proxy: every reader says what the upstream reported."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from claude_proxy.exchange import Outcome
from claude_proxy.ledger.groups import BY
from claude_proxy.simulator import Simulator
from tests.architecture.source import ROOT
from tests.integration.booked_process import Booked, booked_process
from tests.integration.served import SOURCE
from tests.integration.traffic import mixed_traffic
from tests.ledger.books import assert_books_balance
from tests.ledger.places import Place, cluster, database
from tests.observe.finished import samples

COUNT = 10_000
KINDS = {"input": "input_tokens", "output": "output_tokens", "cache_read": "cache_read_input_tokens"}
KINDS |= {"cache_write": "cache_creation_input_tokens"}
PRICES = """
[provider.simulator]
hosts = ["127.0.0.1"]

[[price]]
provider = "simulator"
model = "glm-5.3"
input = 0.6
output = 2.2
cache_read = 0.11
"""  # the other model stays without a price
SQL = """
SELECT count(*) AS exchanges, sum(input) AS input_tokens, sum(output) AS output_tokens,
       sum(cache_read) AS cache_read_input_tokens,
       sum(coalesce(cache_write_5m, 0) + coalesce(cache_write_1h, 0)) AS cache_creation_input_tokens,
       sum(coalesce(cost_nano, 0)) AS cost_nano
FROM exchange
"""
# Exchanges that the queue sent again after a refusal, and that were answered then.
SENT_AGAIN = """
SELECT count(*) FROM exchange JOIN attempt ON attempt.exchange = exchange.id AND attempt.status IN (429, 529)
WHERE exchange.status = 200
"""
pytestmark = [pytest.mark.system, pytest.mark.timeout(290)]


@asynccontextmanager
async def place_of(kind: str, folder: Path) -> AsyncIterator[Place]:
    if kind == "sqlite":
        yield Place(folder)
        return
    with cluster() as server:
        yield Place(folder, database(server))


def expected(simulator: Simulator, seen: Counter[str]) -> dict[str, int]:
    """What the simulator reported, and how the exchanges ended, in the API's names."""
    usage = simulator.reported
    tokens = {name: getattr(usage, name) for name in KINDS.values()}
    return {"exchanges": seen.total(), "cancelled": seen[Outcome.CANCELLED], **tokens}


def part(sums: dict[str, Any], names: dict[str, int]) -> dict[str, Any]:
    return {name: sums[name] for name in names}


async def stats(place: Place, by: str) -> dict[str, Any]:
    """What the command prints."""
    folder = str(place.folder)
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{SOURCE}:{ROOT}", "HOME": folder, "DATA_DIR": folder}
    environ |= {} if place.url is None else {"DATABASE_URL": place.url}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "claude_proxy", "stats", "--by", by, "--format", "json",
        env=environ, cwd=place.folder, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(said)
    return found


async def scraped(proxy: Booked) -> dict[str, int]:
    """The sums of /metrics, in the API's names."""
    found: Counter[str] = Counter()
    for (series, labels), value in samples((await proxy.get("/metrics")).content).items():
        if series == "claude_proxy_tokens_total":
            found[KINDS[dict(labels)["kind"]]] += int(value)
        elif series == "claude_proxy_exchanges_total":
            found["exchanges"] += int(value)
            found["cancelled"] += int(value) if dict(labels)["outcome"] == "cancelled" else 0
        elif series == "claude_proxy_cost_usd_total":
            found["cost_nano"] += round(value * 10**9)
    return dict(found)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_all_readers_say_what_the_upstream_reported(simulator: Simulator, tmp_path: Path, kind: str, workers: int) -> None:
    own = tmp_path / ".config/claude-proxy/prices.toml"
    own.parent.mkdir(parents=True)
    own.write_text(PRICES)
    async with place_of(kind, tmp_path) as place:
        async with booked_process(place, simulator.base_url, WEB_CONCURRENCY=str(workers)) as proxy:
            seen = await mixed_traffic(simulator, proxy.port, COUNT)
            await simulator.wait_for(lambda sim: all(asked.outcome for asked in sim.requests))
            wanted = expected(simulator, seen)

            async def complete() -> bool:
                totals = (await proxy.get("/api/v1/usage")).json()["totals"]
                return totals["exchanges"] == COUNT and (await scraped(proxy))["exchanges"] == COUNT

            await proxy.program.until(complete)
            metrics = await scraped(proxy)
            assert part(metrics, wanted) == wanted
            of_api = {by: (await proxy.get(f"/api/v1/usage?by={by}&breakdown=true")).json() for by in BY}
        with place.engine().connect() as connection:
            assert connection.execute(text(SENT_AGAIN)).scalar_one() > COUNT // 200
            rows = {name: int(value) for name, value in connection.execute(text(SQL)).one()._mapping.items()}
        assert part(rows, {name: wanted[name] for name in wanted if name != "cancelled"}) == {
            name: value for name, value in wanted.items() if name != "cancelled"
        }
        assert rows["cost_nano"] == metrics["cost_nano"] > 0
        for by, report in of_api.items():
            assert_adds_up(report, wanted, rows["cost_nano"], by)
        for by in ("day", "session", "model"):
            report = await stats(place, by)
            assert report["totals"] == of_api[by]["totals"]
            assert_adds_up(report, wanted, rows["cost_nano"], by)
        assert_books_balance(place.engine())


def assert_adds_up(report: dict[str, Any], wanted: dict[str, int], cost_nano: int, by: str) -> None:
    """The totals are what they have to be, and those of the groups, and the groups those of their models."""
    totals = report["totals"]
    assert part(totals, wanted) == wanted, by
    assert round(totals["cost_usd"] * 10**9) == cost_nano, by
    names = [*wanted, "failed", "unpriced_exchanges"]
    for name in names:
        assert sum(group[name] for group in report["groups"]) == totals[name], (by, name)
        for group in report["groups"]:
            if "breakdown" in group:
                assert sum(model[name] for model in group["breakdown"]) == group[name], (by, name, group["key"])
