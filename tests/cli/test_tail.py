"""`tail`: each exchange once, when it has ended, whenever it began."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from claude_proxy import ids
from claude_proxy.cli.tail import Watch, ended, fits
from claude_proxy.exchange import Outcome
from claude_proxy.ledger.queries import Books
from tests.cli.conftest import Invoke, process_environ
from tests.cli.ledgers import HOUR, a_day, fill
from tests.ledger.books import NOW, WALL, entry
from tests.ledger.places import Place

PATIENCE = 30.0


def test_the_last_ones_are_shown_oldest_first(invoke: Invoke, tmp_path: Path) -> None:
    made = a_day(tmp_path)
    lines = invoke("tail", "--data-dir", str(tmp_path), "--no-follow", "-n", "3").stdout.splitlines()
    assert [line.split()[1] for line in lines] == made[2:]
    assert "1,234,567 in, 8 out, - cached  unpriced" in lines[0]
    assert "429  glm-5.3" in lines[1]
    assert "rate_limit_error: Too many concurrent requests" in lines[1]
    assert "cancelled" in lines[2]
    assert "$0.0042" in lines[2]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--session", "old"], [0]),
        (["--session", ""], [3]),
        (["--model", "nobody-knows-it"], [2]),
        (["--status", "failed"], [3]),
        (["--status", "4xx"], [3, 4]),
        (["--status", "499"], [4]),
        (["-n", "0"], []),
    ],
    ids=str,
)
def test_filters(invoke: Invoke, tmp_path: Path, words: list[str], found: list[int]) -> None:
    made = a_day(tmp_path)
    lines = invoke("tail", "--data-dir", str(tmp_path), "--no-follow", "--json", *words).stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [made[number] for number in found]


def test_a_wrong_status_gets_a_sentence(invoke: Invoke, tmp_path: Path) -> None:
    a_day(tmp_path)
    result = invoke("tail", "--data-dir", str(tmp_path), "--status", "bad")
    assert (result.exit_code, "expected a number such as 429" in result.stderr) == (2, True)


@pytest.mark.parametrize("status", [None, "failed", "429", "4xx", "499", "200", "2xx", "5xx"])
@pytest.mark.parametrize(("name", "text"), [("session", None), ("session", "old"), ("session", ""), ("model", "glm-5.3")])
def test_what_comes_is_chosen_as_what_was_there(tmp_path: Path, status: str | None, name: str, text: str | None) -> None:
    a_day(tmp_path)
    books = Books(Place(tmp_path).engine(reading=True), timeout=20)
    wanted: dict[str, Any] = {"session": None, "model": None, "status": status} | {name: text}
    chosen = books.exchanges(1000, **wanted)["items"]
    assert [item for item in books.exchanges(1000)["items"] if fits(item, wanted)] == chosen


def test_an_exchange_is_seen_once_and_when_it_has_ended(tmp_path: Path) -> None:
    """A long one has an older id than those that were seen before it."""
    store = Place(tmp_path).store()
    books = Books(Place(tmp_path).engine(reading=True), timeout=20)
    watch = Watch(WALL)
    before, first, long = entry(NOW - HOUR), entry(NOW), entry(NOW - HOUR, ended=50.0 + 3605)
    store.write([before, first], 0)
    assert [item["started_at"] for item in watch.new(books)] == ["2026-09-21T14:13:20.000Z"]
    assert watch.new(books) == []
    store.write([long], 0)
    assert [ended(item) for item in watch.new(books)] == [WALL + 5]
    late = entry(NOW + 60_000, ended=52.0)
    store.write([entry(NOW + 100_000), entry(NOW + 110_000)], 0)
    assert len(watch.new(books)) == 2
    store.write([late], 0)
    assert len(watch.new(books)) == 1, "its row came late"
    assert watch.new(books) == []
    store.close(0)


class Busy(Books):
    """Books of a ledger in which an exchange is recorded after each query; `made` are their ids."""

    def __init__(self, place: Place) -> None:
        super().__init__(place.engine(reading=True), timeout=20)
        self._store = place.store()
        self.made: list[str] = []

    def _record(self) -> None:
        one = entry(NOW + len(self.made))
        self._store.write([one], 0)
        self.made.append(ids.encode(one.record.id))

    def exchanges(self, *args: Any, **filters: Any) -> dict[str, Any]:
        found = super().exchanges(*args, **filters)
        self._record()
        return found

    def ended_since(self, *args: Any) -> list[dict[str, Any]]:
        found = super().ended_since(*args)
        self._record()
        return found


@pytest.mark.parametrize("count", [0, 1, 5])
def test_what_is_recorded_while_it_begins_is_shown_once(tmp_path: Path, count: int) -> None:
    books = Busy(Place(tmp_path))
    books._record()
    watch = Watch(WALL)
    shown = [item["id"] for item in watch.earlier(books, count, {})]
    assert shown == books.made[2 - min(count, 2) : 2]
    for _ in range(3):
        shown += [item["id"] for item in watch.new(books)]
    first = 0 if count > 1 else 1  # the older one is not among the last
    assert shown == books.made[first : len(shown) + first]
    assert len(shown) == len(books.made) - 1 - first


@contextmanager
def tailing(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], queue.Queue[str]]]:
    """A running `tail`, and its lines."""
    command = [sys.executable, "-u", "-m", "claude_proxy", "tail", "--data-dir", str(folder), *words]
    with subprocess.Popen(command, env=process_environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        reader = threading.Thread(target=lambda out=process.stdout: [lines.put(line) for line in out], daemon=True)
        reader.start()
        try:
            yield process, lines
        finally:
            process.kill()
            process.wait()
            reader.join(PATIENCE)


def test_it_follows_a_ledger_that_is_written(tmp_path: Path) -> None:
    (there,) = fill(tmp_path, entry(NOW))
    with tailing(tmp_path, "--json") as (process, lines):
        assert json.loads(lines.get(timeout=PATIENCE))["id"] == there
        now = int(time.time() * 1000)
        (came,) = fill(tmp_path, entry(now - 2500))
        assert json.loads(lines.get(timeout=PATIENCE))["id"] == came
        (failed,) = fill(tmp_path, entry(now - 2400, status=502, outcome=Outcome.FAILED))
        assert json.loads(lines.get(timeout=PATIENCE))["id"] == failed
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""
