"""The listener: what the path pays for it, what it pulls from other rooms, and that nothing of it can hurt."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from claude_proxy import __version__, logs
from claude_proxy.exchange import Exchange, Usage
from claude_proxy.observe import metrics as m
from claude_proxy.observe.metrics import BATCH, Metrics
from claude_proxy.observe.sources import QuotaWindow, Sources
from tests.integration.leftovers import Leftovers
from tests.observe.finished import failed, finished, read, samples

OF = {"upstream": "default", "model": "glm-5.3"}
GOOD = {**OF, "outcome": "completed", "status_class": "2xx"}
EXCHANGES = "claude_proxy_exchanges_total"


def broken() -> Any:
    raise RuntimeError("of another room")


class Priced:
    """Prices exchanges, and says how many it was asked for."""

    def __init__(self) -> None:
        self.asked = 0
        self.full = asyncio.Event()

    def __call__(self, exchange: Exchange) -> int:
        self.asked += 1
        self.full.set()
        return 5


async def test_the_path_only_leaves_an_exchange_to_be_counted_later() -> None:
    price = Priced()
    metrics = Metrics(Sources(price=price))
    for _ in range(BATCH - 1):
        metrics.on_exchange_end(finished())
    assert price.asked == 0
    metrics.on_exchange_end(finished())
    assert price.asked == BATCH
    await metrics.aclose()


async def test_a_scrape_counts_what_waits() -> None:
    metrics = Metrics()
    metrics.on_exchange_end(finished())
    assert await read(metrics, EXCHANGES, **GOOD) == 1
    metrics.on_exchange_end(finished())
    assert await read(metrics, EXCHANGES, **GOOD) == 2
    assert await read(metrics, EXCHANGES, **GOOD) == 2


async def test_without_a_scrape_they_are_counted_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a quiet proxy keeps no finished exchange in memory."""
    monkeypatch.setattr(m, "PERIOD", 0.001)
    price = Priced()
    metrics = Metrics(Sources(price=price))
    for count in (1, 2):
        price.full.clear()
        metrics.on_exchange_end(finished())
        async with asyncio.timeout(5):
            await price.full.wait()
        assert price.asked == count


async def test_the_end_counts_the_rest() -> None:
    price = Priced()
    metrics = Metrics(Sources(price=price))
    await metrics.start()
    metrics.on_exchange_end(finished())
    await metrics.aclose()
    assert price.asked == 1


async def test_an_exchange_that_cannot_be_counted_costs_no_other() -> None:
    def price(exchange: Exchange) -> int:
        return 7 if exchange.usage is not None and exchange.usage.input == 10 else broken()

    metrics = Metrics(Sources(price=price))
    for exchange in (finished(), finished(usage=Usage(input=1)), finished()):
        metrics.on_exchange_end(exchange)
    assert await read(metrics, "claude_proxy_cost_usd_total", **OF) == 14 / 10**9
    assert await read(metrics, "claude_proxy_listener_errors_total") == 1


# -- what other rooms count


async def test_counts_of_other_rooms_are_what_they_say_at_each_scrape() -> None:
    counts = {"n": 3}
    metrics = Metrics(
        Sources(
            listener_errors=lambda: counts["n"],
            log_lines_lost=lambda: counts["n"],
            ledger_lost=lambda: counts["n"],
            notices=lambda: {"sent": counts["n"], "lost": 0},
        )
    )
    for number in (3, 3, 10):
        counts["n"] = number
        found = samples(await metrics.text())
        for name in ("listener_errors", "log_lines_lost", "ledger_lost"):
            assert found[f"claude_proxy_{name}_total", frozenset()] == number
        assert found["claude_proxy_notices_total", frozenset({("result", "sent")})] == number
        assert found["claude_proxy_notices_total", frozenset({("result", "lost")})] == 0


async def test_a_count_that_begins_anew_never_makes_a_counter_fall() -> None:
    counts = iter((5, 2, 4))
    metrics = Metrics(Sources(ledger_lost=lambda: next(counts)))
    assert [await read(metrics, "claude_proxy_ledger_lost_total") for _ in range(3)] == [5, 5, 7]


async def test_gauges_of_other_rooms() -> None:
    windows = [QuotaWindow("5h", 0.25, 3600.0), QuotaWindow("week", None, -5.0), QuotaWindow("month", 1.2, None)]
    windows = [window._replace(upstream="zai", account="work") for window in windows]
    windows.append(QuotaWindow("5h", 0.5, 60.0, "zai", "home"))
    metrics = Metrics(Sources(in_flight=lambda: 4, ledger_queue=lambda: 9, quota=lambda: windows))
    assert await read(metrics, "claude_proxy_in_flight") == 4
    assert await read(metrics, "claude_proxy_ledger_queue") == 9
    assert await read(metrics, "claude_proxy_quota_used_ratio", upstream="zai", account="work", window="5h") == 0.25
    assert await read(metrics, "claude_proxy_quota_used_ratio", upstream="zai", account="work", window="month") == 1.2
    assert await read(metrics, "claude_proxy_quota_used_ratio", upstream="zai", account="work", window="week") is None
    assert await read(metrics, "claude_proxy_quota_reset_seconds", upstream="zai", account="work", window="5h") == 3600
    assert await read(metrics, "claude_proxy_quota_reset_seconds", upstream="zai", account="work", window="week") == 0
    assert await read(metrics, "claude_proxy_quota_reset_seconds", upstream="zai", account="work", window="month") is None
    assert await read(metrics, "claude_proxy_quota_used_ratio", upstream="zai", account="home", window="5h") == 0.5


async def test_an_upstream_is_up_until_it_is_ejected_and_again_when_it_is_back() -> None:
    metrics = Metrics(Sources(upstreams=lambda: ("default", "second")))
    up = []
    for state in (None, "ejected", "ejected", "back"):
        if state is not None:
            metrics.on_upstream_state("default", state)
        up.append([await read(metrics, "claude_proxy_upstream_up", upstream=name) for name in ("default", "second")])
    assert up == [[1, 1], [0, 1], [0, 1], [1, 1]]


@pytest.mark.parametrize(
    "source",
    [
        "upstreams",
        "in_flight",
        "listener_errors",
        "log_lines_lost",
        "ledger_lost",
        "ledger_queue",
        "notices",
        "quota",
        "price",
        "credits",
    ],
)
async def test_a_room_that_fails_costs_its_own_numbers_only(source: str) -> None:
    fails: Callable[..., Any] = lambda *_: broken()  # noqa: E731
    metrics = Metrics(Sources(**{source: fails}))
    metrics.on_exchange_end(finished())
    metrics.on_exchange_end(failed())
    found = samples(await metrics.text())
    assert found[EXCHANGES, frozenset(GOOD.items())] == 1
    assert found["claude_proxy_workers", frozenset()] == 1
    found = samples(await metrics.text())
    if source != "listener_errors":
        assert found["claude_proxy_listener_errors_total", frozenset()] >= 1


async def test_a_failing_room_is_logged_once(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = Metrics(Sources(in_flight=broken))
    for _ in range(3):
        await metrics.text()
    assert capsys.readouterr().out.count("metrics failed") == 1


async def test_log_lines_that_cannot_be_written() -> None:
    stream = io.TextIOWrapper(io.BytesIO())
    logs.configure("info", "json", stream)
    metrics = Metrics(Sources(log_lines_lost=logs.lines_lost))
    before = await read(metrics, "claude_proxy_log_lines_lost_total")
    stream.close()
    for _ in range(3):
        logs.line("info", "exchange", {})
    assert before is not None
    assert await read(metrics, "claude_proxy_log_lines_lost_total") == before + 3


# -- the process


async def test_what_runs_and_what_it_takes() -> None:
    found = samples(await Metrics().text())
    by_name = {name: value for (name, _), value in found.items()}
    (labels,) = [dict(labels) for name, labels in found if name == "claude_proxy_build_info"]
    assert labels["version"] == __version__
    assert by_name["process_cpu_seconds_total"] > 0
    assert 0 < by_name["process_start_time_seconds"] <= time.time()
    if sys.platform == "linux":
        assert 10e6 < by_name["process_resident_memory_bytes"] < 10e9
        assert 3 <= by_name["process_open_fds"] <= by_name["process_max_fds"]


async def test_without_proc_the_rest_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("claude_proxy.observe.process._PROC", tmp_path)
    found = {name for name, _ in samples(await Metrics().text())}
    assert "process_resident_memory_bytes" not in found
    assert "process_cpu_seconds_total" in found


# -- alone or not


@pytest.mark.parametrize(("group", "shared"), [(None, []), ("a1", ["workers"])])
async def test_a_single_process_leaves_nothing_in_the_data_folder(group: str | None, shared: list[str], tmp_path: Path) -> None:
    metrics = Metrics(data_dir=tmp_path, group=lambda: group)
    await metrics.start()
    assert os.listdir(tmp_path) == shared  # noqa: PTH208
    await metrics.aclose()


@pytest.mark.parametrize("group", [None, "a1"])
async def test_the_end_leaves_nothing_running(group: str | None, tmp_path: Path) -> None:
    before = Leftovers()
    workers = [Metrics(data_dir=tmp_path, group=lambda: group) for _ in range(2)]
    for worker in workers:
        await worker.start()
        worker.on_exchange_end(finished())
        await worker.text()
    await close(workers)
    await before.gone()


async def test_workers_answer_with_one_anothers_exchanges(tmp_path: Path) -> None:
    workers = [Metrics(Sources(in_flight=lambda: 2), data_dir=tmp_path, group=lambda: "a1") for _ in range(3)]
    for number, worker in enumerate(workers):
        await worker.start()
        for _ in range(number + 1):
            worker.on_exchange_end(finished())
    for worker in workers:  # each reports when it is asked
        await worker.text()
    assert [await read(worker, EXCHANGES, **GOOD) for worker in workers] == [6, 6, 6]
    assert [await read(worker, "claude_proxy_in_flight") for worker in workers] == [6, 6, 6]
    assert await read(workers[0], "claude_proxy_workers") == 3
    await close(workers)


async def close(workers: Iterable[Metrics]) -> None:
    for worker in reversed(list(workers)):
        await worker.aclose()
