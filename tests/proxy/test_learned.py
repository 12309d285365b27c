"""Learned limits over a restart, in real files."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs

from claude_proxy.proxy import learned
from claude_proxy.proxy.learned import LearnedLimits
from claude_proxy.routing.queue import Queue


def queue_with(**limits: int | None) -> Queue:
    """A queue whose accounts have learned these limits."""
    queue = Queue(Random(1))
    for name, value in limits.items():
        queue.lane(name, start=2).limit.value = value
    return queue


async def saved(queue: Queue, folder: Path) -> list[Any]:
    """Start and stop; what was logged."""
    with capture_logs() as logged:
        limits = LearnedLimits(queue, folder)
        await limits.start()
        await limits.aclose()
    return logged


def names(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir()]


async def test_what_was_learned_is_there_after_a_restart(tmp_path: Path) -> None:
    before = queue_with(a=1, b=5)
    before.lanes["b"].limit.delay = 1.25
    await saved(before, tmp_path)
    after = Queue(Random(2))
    await saved(after, tmp_path)
    assert (after.lane("a", start=2).limit.value, after.lane("b", start=2).limit.value) == (1, 5)
    assert after.lanes["b"].limit.delay == 1.25
    assert after.lane("new", start=2).limit.value == 2


async def test_accounts_that_are_there_before_the_start_get_it_too(tmp_path: Path) -> None:
    await saved(queue_with(a=1), tmp_path)
    after = queue_with(a=2)
    await saved(after, tmp_path)
    assert after.lanes["a"].limit.value == 1


async def test_an_account_that_does_not_come_by_is_still_known_after_the_next_restart(tmp_path: Path) -> None:
    await saved(queue_with(rare=7), tmp_path)
    await saved(queue_with(common=3), tmp_path)
    after = Queue(Random(2))
    await saved(after, tmp_path)
    assert after.lane("rare", start=2).limit.value == 7


async def test_a_ceiling_in_the_settings_outranks_what_was_learned(tmp_path: Path) -> None:
    await saved(queue_with(a=7), tmp_path)
    after = Queue(Random(2))
    await saved(after, tmp_path)
    assert after.lane("a", start=2, ceiling=3).limit.value == 3


DAMAGED = {
    "empty": b"",
    "cut": b'{"a":{"limit":',
    "another form": b'{"a":[1,2]}',
    "a list": b"[]",
    "no JSON": b"\x00\xff\xfe",
    "a string for a limit": b'{"a":{"limit":"3"}}',
    "very long": b'{"a":{"limit":3}' + b" " * (2 << 20) + b"}",
}


@pytest.mark.parametrize("how", DAMAGED)
async def test_a_damaged_file_is_reported_once_and_replaced(tmp_path: Path, how: str) -> None:
    (tmp_path / learned.NAME).write_bytes(DAMAGED[how])
    queue = queue_with(a=4)
    (line,) = await saved(queue, tmp_path)
    assert (line["log_level"], learned.NAME in line["problem"]) == ("warning", True)
    assert queue.lanes["a"].limit.value == 4
    assert json.loads((tmp_path / learned.NAME).read_bytes()) == {"a": {"limit": 4, "delay": 0.0}}


@pytest.mark.parametrize(
    "values",
    [
        {"limit": 0},
        {"limit": -3},
        {"limit": 2.5},
        {"limit": 1e400},
        {"delay": -1},
        {"delay": 1e9},
        {"limit": None},
        {"zzz": 1},
        {},
    ],
)
async def test_values_that_make_no_sense_are_ignored(tmp_path: Path, values: dict[str, Any]) -> None:
    (tmp_path / learned.NAME).write_text(json.dumps({"a": values}).replace("Infinity", "1e400"))
    queue = queue_with(a=4)
    await saved(queue, tmp_path)
    assert (queue.lanes["a"].limit.value, queue.lanes["a"].limit.delay) == (4, 0.0)


async def test_a_folder_that_cannot_be_written_costs_a_line_and_nothing_else(tmp_path: Path) -> None:
    """A file stands where the folder should be: also root cannot write there."""
    place = tmp_path / "data"
    place.write_text("not a folder")
    logged = await saved(queue_with(a=4), place)
    assert [line["log_level"] for line in logged] == ["warning", "warning"]
    assert "cannot be written" in logged[1]["problem"]


async def test_a_folder_that_is_not_there_yet_is_made(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "data"
    assert await saved(queue_with(a=4), place) == []
    assert (place / learned.NAME).exists()


async def test_nothing_is_written_where_nothing_has_changed(tmp_path: Path) -> None:
    await saved(queue_with(a=4), tmp_path)
    before = (tmp_path / learned.NAME).stat()
    await saved(queue_with(a=4), tmp_path)
    assert (tmp_path / learned.NAME).stat().st_ino == before.st_ino


async def test_nothing_learned_is_no_file(tmp_path: Path) -> None:
    assert await saved(Queue(Random(1)), tmp_path) == []
    assert names(tmp_path) == []


async def test_the_file_stays_small_however_many_clients_have_come_by(tmp_path: Path) -> None:
    await saved(queue_with(**{f"client-{number:012}": 3 for number in range(20_000)}), tmp_path)
    assert (tmp_path / learned.NAME).stat().st_size < learned.MOST_BYTES
    after = queue_with(a=4)
    assert await saved(after, tmp_path) == []
    assert after.lane("client-000000019999", start=2).limit.value == 3
    assert json.loads((tmp_path / learned.NAME).read_bytes())["a"] == {"limit": 4, "delay": 0.0}


async def test_the_last_saving_waits_for_one_that_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the older one would be written over it, or both into one file at once."""
    begun, go_on, write_bytes = threading.Event(), threading.Event(), Path.write_bytes

    def slow(path: Path, data: bytes) -> int:
        if not begun.is_set():
            begun.set()
            go_on.wait(5)
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", slow)
    monkeypatch.setattr(learned, "EVERY", 0.0)
    queue = queue_with(a=4)
    limits = LearnedLimits(queue, tmp_path)
    with capture_logs() as logged:
        await limits.start()
        await asyncio.to_thread(begun.wait, 5)
        queue.lanes["a"].limit.value = 9
        closing = asyncio.ensure_future(limits.aclose())
        done, _ = await asyncio.wait([closing], timeout=0.1)
        go_on.set()
        await closing
    assert (done, logged) == (set(), [])
    assert json.loads((tmp_path / learned.NAME).read_bytes())["a"]["limit"] == 9
    assert names(tmp_path) == [learned.NAME]
