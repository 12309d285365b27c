"""The books equal what the upstream reported: rows, rollups and readers, after mixed traffic with faults and leaving clients."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.exchange import Outcome
from claude_proxy.ledger.groups import BY
from claude_proxy.ledger.options import Options
from claude_proxy.ledger.queries import Books
from claude_proxy.simulator import Simulator, Usage
from tests.integration.proxy import running_proxy
from tests.integration.traffic import mixed_traffic

pytestmark = pytest.mark.timeout(300)
SUMS = "SELECT sum(input), sum(output), sum(coalesce(cache_write_5m, 0) + coalesce(cache_write_1h, 0)), sum(cache_read)"


def same(usage: Usage, totals: dict[str, Any]) -> bool:
    """Whether totals of a reader are what the simulator counted."""
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_creation_input_tokens,
        usage.cache_read_input_tokens,
    ) == tuple(
        totals[name] for name in ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    )


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.system)])
async def test_every_reader_says_what_the_upstream_reported(simulator: Simulator, tmp_path: Path, count: int) -> None:
    async with running_proxy(simulator.base_url, ledger="on", queue="on", data_dir=tmp_path) as proxy:
        seen = await mixed_traffic(simulator, proxy.port, count)
        await proxy.recorder.wait_for(count, 120)
        await simulator.wait_for(lambda sim: all(asked.outcome for asked in sim.requests))
    # The stop of the proxy has written what was waiting.
    books = Books.open(Options(tmp_path))
    reported = simulator.reported
    with sqlite3.connect(tmp_path / "ledger.db") as rows:
        (counted,) = rows.execute("SELECT count(*) FROM exchange").fetchone()
        sums = rows.execute(SUMS + " FROM exchange").fetchone()
    assert counted == count
    assert sums == (
        reported.input_tokens,
        reported.output_tokens,
        reported.cache_creation_input_tokens,
        reported.cache_read_input_tokens,
    )
    for by in BY:
        answer = books.usage(by)
        totals = answer["totals"]
        assert same(reported, totals), by
        assert totals["exchanges"] == count
        assert totals["cancelled"] == seen[Outcome.CANCELLED]
        for name in ("exchanges", "input_tokens", "output_tokens", "failed", "cancelled"):
            assert sum(group[name] for group in answer["groups"]) == totals[name], (by, name)
