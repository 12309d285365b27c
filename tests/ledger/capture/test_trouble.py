"""What a kill leaves, several processes on one file, and that no trouble of the file's reaches an exchange or the ledger."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from claude_proxy.ledger.capture.store import Opener
from claude_proxy.simulator import Simulator
from tests.architecture.source import ROOT
from tests.integration.messages import MESSAGES, body
from tests.integration.wire import ask
from tests.ledger.capture.captured import capturing, counts, kept
from tests.ledger.waiting import until


@contextmanager
def child(folder: Path) -> Any:
    command = [sys.executable, "-m", "tests.ledger.capture.child", str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def until_written(process: Any, count: int) -> None:
    for line in process.stdout:
        if int(line) >= count:
            return
    raise AssertionError("it ended")


def nothing_dangles(folder: Path) -> None:
    """Each node has its parent and its blob, each blob a node, and each leaf is an exchange's."""
    with closing(sqlite3.connect(folder / "capture.db")) as connection:
        for question in (
            "SELECT count(*) FROM node WHERE parent NOT IN (SELECT id FROM node)",
            "SELECT count(*) FROM node WHERE blob NOT IN (SELECT id FROM blob)",
            "SELECT count(*) FROM blob WHERE id NOT IN (SELECT blob FROM node)",
            "SELECT count(*) FROM node WHERE id NOT IN (SELECT parent FROM node WHERE parent NOT NULL)"
            " AND id NOT IN (SELECT id FROM head)",
            "SELECT count(*) FROM head WHERE id NOT IN (SELECT id FROM node)",
        ):
            assert connection.execute(question).fetchone() == (0,), question
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_kill_leaves_a_file_that_can_be_read_and_written(tmp_path: Path) -> None:
    written = 0
    for _ in range(3):
        with child(tmp_path) as process:
            until_written(process, 60)
            written += 60
        found = kept(tmp_path)
        assert len(found) >= written
        assert all(one.sound and json.loads(one.request or b"") for one in found)
        nothing_dangles(tmp_path)


def test_several_processes_write_one_file(tmp_path: Path) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(child(tmp_path)) for _ in range(3)]
        for process in processes:
            until_written(process, 60)
    assert all(one.sound for one in kept(tmp_path))
    assert counts(tmp_path)["head"] >= 180
    nothing_dangles(tmp_path)


FAULTS = ["full", "locked", "read-only", "damaged", "removed"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_trouble_with_the_file_reaches_neither_an_exchange_nor_the_ledger(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The ledger is in the same folder. Once the trouble is over, capture writes again by itself."""
    trouble = [True]
    real = Opener.__call__

    def opened(self: Opener) -> Any:
        store = real(self)
        if trouble[0] and fault in ("full", "read-only"):
            store._connection.execute("PRAGMA max_page_count=1" if fault == "full" else "PRAGMA query_only=1")
        return store

    monkeypatch.setattr(Opener, "__call__", opened)
    monkeypatch.setattr("claude_proxy.ledger.sqlite.BUSY_SECONDS", 0.01)
    big = random.Random(4).randbytes(30_000).hex()  # does not fit into the pages that are there
    async with capturing(simulator.base_url, tmp_path, ledger="on") as proxy:
        worker = proxy.app.state.capture.worker
        worker._retry = (0.01,)
        until(lambda: worker._chores_at > 0)
        with closing(sqlite3.connect(tmp_path / "capture.db", isolation_level=None)) as other:
            if fault == "locked":
                other.execute("BEGIN IMMEDIATE")
            elif fault == "damaged":
                (tmp_path / "capture.db").write_bytes(b"\xa5" * 20_000)
            elif fault == "removed":
                (tmp_path / "capture.db").unlink()
            for number in range(5):
                assert (await ask(proxy.port, "POST", MESSAGES, body=body(text=f"{number} {big}", stream=False))).status == 200
            if fault not in ("damaged", "removed"):
                until(lambda: worker.failing)
                before = worker.lost  # on a slow machine it may be failing for some while already
                assert (await ask(proxy.port, "POST", MESSAGES, body=body())).status == 200
                until(lambda: worker.lost == before + 1)
            else:
                until(lambda: worker.written > 0)
        trouble[0] = False
        until(lambda: worker.accepting and not worker.waiting and worker.written > 0)
        assert (await ask(proxy.port, "POST", MESSAGES, body=body(text="after"))).status == 200
        exchanges = await proxy.recorder.wait_for(6)
    assert all(one.sound for one in kept(tmp_path))
    assert b"after" in (kept(tmp_path)[-1].request or b"")
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger:
        assert ledger.execute("SELECT count(*) FROM exchange").fetchone() == (len(exchanges),)
