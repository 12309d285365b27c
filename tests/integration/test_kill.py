"""`kill -9` of a real proxy under load, again and again: no exchange is there twice, at most the last second is missing."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from claude_proxy.ledger.writer import DELAY
from claude_proxy.simulator import Scenario, Simulator
from claude_proxy.simulator.scenario import Usage
from tests.integration.booked_process import booked_process
from tests.integration.messages import post
from tests.integration.wire import connect
from tests.ledger.books import assert_books_balance, names, rows, snapshot
from tests.ledger.places import Place, cluster, database

log = logging.getLogger(__name__)
CLIENTS = 8
SLACK = 2.0  # seconds that a busy machine may take for a write, beside the flush interval
pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]  # a minute or two


@dataclass
class Life:
    """One process, from its start to its kill.

    Attributes:
        sent: the numbers of its exchanges.
        answered: when each whole answer was here, in monotonic seconds, by number.
    """

    name: str
    sent: set[int] = field(default_factory=set)
    answered: dict[int, float] = field(default_factory=dict)
    killed_at: float = 0.0
    log: str = ""

    def loss(self, found: set[int]) -> float:
        """Seconds before the kill at which the first of the answers that are missing was whole; 0 if none is missing."""
        missing = [at for number, at in self.answered.items() if number not in found]
        return self.killed_at - min(missing) if missing else 0.0


async def lived(place: Place, base_url: str, name: str, numbers: Iterator[int], answers: int, *, old: bool) -> Life:
    """Start a proxy, send it exchanges over several connections, and kill it in the midst of them.

    Args:
        answers: how many it gives, at least.
        old: it gives so many once some of its exchanges are in the ledger.
    """
    life = Life(name)
    port = 0

    async def client() -> None:
        async with connect(port) as wire:
            while True:
                number = next(numbers)
                life.sent.add(number)
                headers = [(b"x-number", b"%d" % number), (b"x-claude-code-session-id", name.encode())]
                wire.send(post(headers=headers, stream=bool(number % 2)))
                if not (await wire.reply()).whole:
                    return
                life.answered[number] = time.monotonic()

    async with booked_process(place, base_url) as proxy:
        program, port = proxy.program, proxy.port
        clients = [asyncio.create_task(client()) for _ in range(CLIENTS)]

        async def is_old() -> bool:
            return await asyncio.to_thread(is_booked, place.engine(), name)

        if old:
            await program.until(is_old)
        aim = len(life.answered) + answers

        async def is_enough() -> bool:
            return len(life.answered) >= aim

        await program.until(is_enough)
        life.killed_at = time.monotonic()
        os.killpg(program.process.pid, signal.SIGKILL)
        program.process.wait()
        await asyncio.gather(*clients, return_exceptions=True)
        life.log = program.output
    return life


def is_booked(engine: Engine, name: str) -> bool:
    """Whether any exchange of that life is recorded. Asked while the proxy writes, so it must not hold the database long."""
    query = "SELECT 1 FROM exchange JOIN name ON name.id = exchange.session WHERE name.text = :name LIMIT 1"
    with engine.connect() as connection:
        return connection.execute(text(query), {"name": name}).first() is not None


def booked(engine: Engine) -> dict[str, list[int]]:
    """The numbers of the recorded exchanges, by the life that they belong to."""
    found: dict[str, list[int]] = {}
    with snapshot(engine) as connection:
        texts = names(connection)
        for row in rows(connection):
            if row["input"] is not None:  # the killed client's last one may have no usage
                found.setdefault(texts[row["session"]], []).append(row["input"])
    return found


def deaths_told(log: str) -> int:
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return sum("was killed" in line["event"] for line in lines)


def numbered(asked: Any) -> Scenario:
    """An answer whose input tokens are the number of its exchange."""
    return Scenario("text", usage=Usage(int(asked.header("x-number")), 1, 0, 0))


async def killed_again_and_again(simulator: Simulator, place: Place, kills: int) -> None:
    simulator.scenario = numbered
    numbers = itertools.count(1)
    place.store().close(0)  # the tables are there
    lives: list[Life] = []
    losses: list[float] = []
    for kill in range(kills):
        # Some die with their first batch on its way, some in the middle of many.
        life = await lived(place, simulator.base_url, f"life-{kill}", numbers, 1 + 37 * kill, old=kill % 4 != 1)
        assert_books_balance(place.engine())
        found = booked(place.engine()).get(life.name, [])
        assert len(found) == len(set(found)), "an exchange is there twice"
        assert set(found) <= life.sent
        losses.append(life.loss(set(found)))
        assert losses[-1] < DELAY + SLACK
        lives.append(life)
    # One that was killed before its ledger was open has left no trace.
    with place.engine().connect() as connection:
        begun = len(rows(connection, "run")) - 1
    told = sum(deaths_told(life.log) for life in lives)
    async with booked_process(place, simulator.base_url) as last:
        await last.until_said("was killed", begun - told)
    assert deaths_told(last.program.output) == begun - told
    assert begun > kills // 2
    log.info("lost at most %.2f s: %s", max(losses), " ".join(f"{loss:.2f}" for loss in losses))


async def test_a_kill_costs_the_last_second_and_nothing_else(simulator: Simulator, tmp_path: Path) -> None:
    await killed_again_and_again(simulator, Place(tmp_path), 20)
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_kill_costs_no_more_with_postgresql(simulator: Simulator, tmp_path: Path) -> None:
    with cluster() as server:
        await killed_again_and_again(simulator, Place(tmp_path, database(server)), 8)
