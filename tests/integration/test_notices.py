"""Notices of a real `serve`: incidents outlive a restart, a kill is told, several workers tell once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from claude_proxy.ledger.options import Sample
from claude_proxy.ledger.prices.quota import Meter, Window
from claude_proxy.parts import make_notifier, make_quota_poll, make_upstream
from claude_proxy.settings import Settings
from claude_proxy.simulator import Scenario, Simulator, faults
from claude_proxy.web.api import models
from tests.integration.booked import TOKENS, booked, fill, written
from tests.integration.messages import JSON, MESSAGES, body
from tests.integration.served import Served, served
from tests.integration.wire import ask
from tests.ledger.waiting import until
from tests.notify.fake_ntfy import FakeNtfy

pytestmark = pytest.mark.system  # each starts the proxy several times

KINDS_OF_WINDOWS = (("5h", Meter.CREDITS), ("month", Meter.TOOL_CALLS), ("week", Meter.OTHER))


def environ(ntfy: FakeNtfy | None, **more: str) -> dict[str, str]:
    notices = {} if ntfy is None else {"NTFY_TOPIC": "t", "NTFY_SERVER": ntfy.url}
    return {"LEDGER": "on", "QUEUE": "off", "UPSTREAM_API_KEY": "sk-held-key", **notices, **more}


async def incidents(process: Served) -> list[dict[str, Any]]:
    """What the API lists, once the books are open."""
    found: list[dict[str, Any]] = []
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}/api/v1", timeout=30) as client:
        while not found:
            answer = await client.get("/incidents")
            models.Incidents.model_validate_json(answer.content, strict=True)
            found = answer.json()["items"]
    return found


def books(folder: Path) -> int:
    """How many runs the books have begun."""
    try:
        with contextlib.closing(sqlite3.connect(folder / "ledger.db")) as connection:
            return int(connection.execute("SELECT count(*) FROM run").fetchone()[0])
    except sqlite3.OperationalError:  # not there yet
        return 0


def is_delivered(folder: Path) -> bool:
    """Whether nothing waits any more, as far as the next start will know."""
    files = list((folder / "notices").glob("*.json"))
    return bool(files) and all(json.loads(path.read_bytes())["queue"] == [] for path in files)


async def fail(simulator: Simulator, process: Served, status: int) -> None:
    simulator.scenario = Scenario(fault=faults.status(status))
    reply = await ask(process.port, "POST", MESSAGES, [JSON], body())
    assert reply.status == status


async def test_incidents_and_what_was_pushed_outlive_a_restart(simulator: Simulator, tmp_path: Path) -> None:
    async with FakeNtfy() as ntfy:
        async with served(simulator.base_url, tmp_path, **environ(ntfy)) as process:
            await fail(simulator, process, 429)
            (held,) = await incidents(process)
            assert (held["code"], held["failing"], held["told"], held["pushed"]) == ("rate_limit_error", True, False, [])
            await fail(simulator, process, 401)
            await ntfy.until(1)
        async with served(simulator.base_url, tmp_path, **environ(ntfy)) as process:
            simulator.scenario = Scenario()
            for _ in range(2):
                assert (await ask(process.port, "POST", MESSAGES, [JSON], body())).status == 200
            await ntfy.until(2)
        async with served(simulator.base_url, tmp_path, **environ(None)) as process:
            told, was_held = await incidents(process)
    assert was_held["id"] == held["id"]
    assert (was_held["told"], was_held["failing"]) == (False, False)
    assert (told["code"], told["told"], told["failing"]) == ("authentication_error", True, False)
    titles = ["upstream: API key refused", "upstream: works again"]
    assert [push["title"] for push in told["pushed"]] == titles
    assert [message["title"] for message in ntfy.messages] == titles
    assert len({message["sequence_id"] for message in ntfy.messages}) == 1


async def test_a_kill_is_told_at_the_next_start_and_the_incident_goes_on(simulator: Simulator, tmp_path: Path) -> None:
    async with FakeNtfy() as ntfy:
        async with served(simulator.base_url, tmp_path, returncode=-signal.SIGKILL, **environ(ntfy)) as process:
            await fail(simulator, process, 401)
            await ntfy.until(1)
            await asyncio.to_thread(until, lambda: is_delivered(tmp_path))
            await asyncio.to_thread(until, lambda: books(tmp_path) == 1)
            os.kill(process.pid, signal.SIGKILL)
        async with served(simulator.base_url, tmp_path, **environ(ntfy)) as process:
            await fail(simulator, process, 401)
            await ntfy.until(2)
            codes = {item["code"]: item["failing"] for item in await incidents(process)}
    assert codes == {"crashed": False, "authentication_error": True}
    assert [message["title"] for message in ntfy.messages] == [
        "upstream: API key refused",
        "claude-proxy: was killed and has started again",
    ]


async def test_the_daily_summary_has_the_figures_of_the_books(simulator: Simulator, tmp_path: Path) -> None:
    async with booked(simulator, tmp_path, ntfy_topic="t", ntfy_server="http://127.0.0.1:9") as proxy:
        await written(proxy, await fill(proxy, simulator))
        totals = (await proxy.app.state.reader.ask(lambda books: books.usage()))["totals"]
        notifier = make_notifier(proxy.app.state.settings, reader=lambda: proxy.app.state.reader)
        assert notifier is not None
        now = time.time()
        figures = await notifier._around.figures(now - 3600, now)
    assert (figures.exchanges, figures.failed, figures.cost_usd) == (totals["exchanges"], totals["failed"], totals["cost_usd"])
    assert figures.tokens == sum(totals[name] for name in TOKENS)


async def test_what_the_quota_poll_hears_is_told(simulator: Simulator, tmp_path: Path) -> None:
    """Also where no books are kept. Only the plan's own windows count, not the calls of its tools."""
    windows = [Window(name, meter, "", None, None, None, 0.97, None, None) for name, meter in KINDS_OF_WINDOWS]
    async with FakeNtfy() as ntfy:
        settings = Settings(ntfy_topic="t", ntfy_server=ntfy.url, data_dir=tmp_path)
        notifier = make_notifier(settings)
        assert notifier is not None
        await notifier.start()
        poll = make_quota_poll(settings, (make_upstream(settings),), None, notifier=notifier)
        assert poll is not None
        poll._keep(Sample(0, "default", None, tuple(windows)))
        await notifier.aclose()
    assert [message["title"] for message in ntfy.messages] == ["z.ai: 95 % of the 5-hour quota used"]


async def test_several_workers_tell_an_incident_once(simulator: Simulator, tmp_path: Path) -> None:
    async with FakeNtfy() as ntfy, served(simulator.base_url, tmp_path, **environ(ntfy, WEB_CONCURRENCY="3")) as process:
        await asyncio.gather(*(fail(simulator, process, 401) for _ in range(30)))
        await ntfy.until(1)
    assert [message["title"] for message in ntfy.messages] == ["upstream: API key refused"]
