"""A ledger in trouble behind a real proxy: requests are answered as quickly as before, the loss is counted, writing resumes."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_proxy import ids
from claude_proxy.ledger.writer import QUEUE
from claude_proxy.simulator import Simulator
from tests.integration import stepping_clock
from tests.integration.booked_process import Booked, booked_process
from tests.ledger.books import assert_books_balance, rows
from tests.ledger.places import Place

pytestmark = [pytest.mark.system, pytest.mark.timeout(280)]
BUSY = 1.0  # seconds that SQLite waits for a lock: a request that waited for the ledger would take longer


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "data").mkdir()
    return Place(tmp_path / "data")


def mount(folder: Path, *options: str) -> None:
    if os.getuid() != 0:
        pytest.skip("mounting a small file system takes root")
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small(place: Place) -> Iterator[Place]:
    """A ledger on a file system of 4 MB."""
    mount(place.folder, "-t", "tmpfs", "-o", "size=4m", "tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place.folder)], check=True)


def booked(place: Place) -> int:
    with contextlib.closing(sqlite3.connect(place.folder / "ledger.db", timeout=10)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM exchange").fetchone()[0])
        except sqlite3.DatabaseError:  # damaged, or just begun
            return 0


async def until_booked(proxy: Booked, place: Place, count: int) -> None:
    async def ready() -> bool:
        return booked(place) >= count

    await proxy.program.until(ready)


def assert_untouched(during: list[float], before: list[float]) -> None:
    """The path did not wait for the ledger. The bounds are wide: the machine has other work."""
    assert during[len(during) // 2] <= 3 * before[len(before) // 2] + 0.01
    assert during[-1] < BUSY


async def test_a_full_disk(simulator: Simulator, small: Place) -> None:
    ballast = small.folder / "ballast"
    async with booked_process(small, simulator.base_url) as proxy:
        before = await proxy.exchanges(300)
        await until_booked(proxy, small, 300)
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        sent = 300
        while not await proxy.metric("claude_proxy_ledger_lost_total"):
            during = await proxy.exchanges(2000)
            sent += len(during)
            assert_untouched(during, before)
            assert sent < 4 * QUEUE
        assert proxy.said("cannot be written")[0]["reason"] == "the disk is full"
        await proxy.until_said("the ledger loses exchanges")  # with the next try
        ballast.unlink()
        assert len(proxy.said("loses exchanges")) == 1
        lost = int(await proxy.metric("claude_proxy_ledger_lost_total"))
        await until_booked(proxy, small, sent - lost)
        assert_untouched(await proxy.exchanges(300), before)
        await until_booked(proxy, small, sent - lost + 300)
    assert booked(small) == sent + 300 - lost
    assert_books_balance(small.engine())
    with small.engine().connect() as connection:
        assert [(row["clean"], row["lost"]) for row in rows(connection, "run")] == [(1, lost)]


@pytest.mark.parametrize("seconds", [3, 30])
async def test_a_locked_database(simulator: Simulator, place: Place, seconds: int) -> None:
    async with booked_process(place, simulator.base_url) as proxy:
        before = await proxy.exchanges(300)
        await until_booked(proxy, place, 300)
        with contextlib.closing(sqlite3.connect(place.folder / "ledger.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            during = await proxy.exchanges(100 * seconds, seconds=seconds)
            assert time.monotonic() - began >= seconds
            other.execute("ROLLBACK")
        assert_untouched(during, before)
        assert proxy.said("cannot be written")[0]["reason"] == "the database is locked by another program"
        await until_booked(proxy, place, 300 + len(during))
        assert await proxy.metric("claude_proxy_ledger_lost_total") == 0
    assert booked(place) == 300 + len(during)
    assert_books_balance(place.engine())


async def test_a_file_that_became_read_only(simulator: Simulator, small: Place) -> None:
    async with booked_process(small, simulator.base_url) as proxy:
        before = await proxy.exchanges(300)
        await until_booked(proxy, small, 300)
    mount(small.folder, "-o", "remount,ro")
    async with booked_process(small, simulator.base_url) as proxy:
        said = await proxy.until_said("ledger")
        assert_untouched(await proxy.exchanges(300), before)
        assert "memory" in str(said) or "read-only" in str(said)
        mount(small.folder, "-o", "remount,rw")
    assert booked(small) >= 300


async def test_a_file_that_was_damaged(simulator: Simulator, place: Place) -> None:
    async with booked_process(place, simulator.base_url) as proxy:
        before = await proxy.exchanges(300)
        await until_booked(proxy, place, 300)
    file = place.folder / "ledger.db"
    with file.open("r+b") as opened:
        opened.seek(100)
        opened.write(os.urandom(8000))
    async with booked_process(place, simulator.base_url) as proxy:
        await proxy.until_said("damaged")
        assert_untouched(await proxy.exchanges(300), before)
        await until_booked(proxy, place, 300)
    (aside,) = place.folder.glob("ledger.db.damaged-*")
    assert aside.stat().st_size >= 8100
    assert booked(place) == 300
    assert_books_balance(place.engine())


async def test_a_newer_schema(simulator: Simulator, place: Place) -> None:
    async with booked_process(place, simulator.base_url) as proxy:
        before = await proxy.exchanges(300)
        await until_booked(proxy, place, 300)
    with contextlib.closing(sqlite3.connect(place.folder / "ledger.db", isolation_level=None)) as connection:
        connection.execute("UPDATE ledger_version SET version_num = '9999'")
    async with booked_process(place, simulator.base_url) as proxy:
        (line,) = await proxy.until_said("the ledger is off")
        assert_untouched(await proxy.exchanges(300), before)
        assert "9999" in line["reason"]
        answer = await proxy.get("/api/v1/exchanges")
        assert answer.status_code == 503
        assert "The ledger is off" in answer.json()["error"]["message"]
    assert booked(place) == 300


async def test_a_clock_that_steps_back_an_hour(simulator: Simulator, place: Place) -> None:
    program = (Path(stepping_clock.__file__),)
    async with booked_process(place, simulator.base_url, program=program) as proxy:
        before = await proxy.exchanges(300)
        await until_booked(proxy, place, 300)
        os.kill(proxy.program.process.pid, signal.SIGUSR1)
        assert_untouched(await proxy.exchanges(300), before)
        await until_booked(proxy, place, 600)
        newest = (await proxy.get("/api/v1/exchanges?limit=300")).json()["items"]
        assert (await proxy.get("/api/v1/usage?by=day&since=2d")).json()["totals"]["exchanges"] == 600
    numbers = [ids.decode(item["id"]) for item in newest]
    assert numbers == sorted(numbers, reverse=True)
    assert min(numbers) > ids.first_of(int((time.time() - 600) * 1000))  # as if the clock had not moved
    assert_books_balance(place.engine())
