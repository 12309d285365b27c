"""Several processes on one ledger, and what a kill leaves."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

from sqlalchemy import Engine

from tests.architecture.source import ROOT
from tests.ledger.books import assert_books_balance, names, rows
from tests.ledger.places import Place


class Child:
    """A process that writes until it is killed."""

    def __init__(self, place: Place, name: str) -> None:
        command = [sys.executable, "-m", "tests.ledger.child", place.argument, name]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.name = name
        self.log: list[str] = []
        self.written = 0

    def until_written(self, count: int) -> None:
        for line in self._lines():
            if line.startswith("written") and self.written >= count:
                return
        raise AssertionError(f"it ended: {self.log}")

    def kill(self) -> None:
        self.process.kill()
        for _ in self._lines():  # what it had still said
            pass
        self.process.wait()

    def end(self) -> str:
        last = list(self._lines())[-1]
        self.process.wait()
        return last

    def _lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "written":
                self.written = int(rest)
            elif word == "log":
                self.log.append(rest)
            yield line.strip()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def sent(engine: Engine) -> dict[str, list[int]]:
    """The numbers of the rows that are kept, by the process that made them."""
    found: dict[str, list[int]] = {}
    with engine.connect() as connection:
        texts = names(connection)
        for row in rows(connection):
            found.setdefault(texts[row["session"]].partition("-")[0], []).append(row["input"])
    return {name: sorted(numbers) for name, numbers in found.items()}


def assert_whole(engine: Engine, children: list[Child]) -> None:
    """No row twice, none missing that was called written, none missing between two that are there."""
    assert_books_balance(engine)
    found = sent(engine)
    for child in children:
        numbers = found[child.name]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= child.written


def test_a_kill_costs_nothing_that_was_written_and_doubles_nothing(place: Place) -> None:
    children = []
    for turn in range(3):
        with Child(place, f"turn{turn}") as child:
            child.until_written(300)
            child.kill()
            children.append(child)
        assert_whole(place.engine(), children)
        assert len([line for line in child.log if "was killed" in line]) == (1 if turn else 0)
    with place.engine().connect() as connection:
        assert [row["clean"] for row in rows(connection, "run")] == [0, 0, None]


def test_processes_that_write_at_once_and_are_killed_lose_nothing_written(place: Place) -> None:
    with ExitStack() as stack:
        children = [stack.enter_context(Child(place, name)) for name in ("one", "two", "three")]
        for child in children:
            child.until_written(400)
        children[0].kill()
        children[1].until_written(children[1].written + 200)
        for child in children[1:]:
            child.kill()
    assert_whole(place.engine(), children)
    with place.engine().connect() as connection:
        workers = Counter(row["id"] >> 12 & 1023 for row in rows(connection))
        assert {row["worker"] for row in rows(connection, "run")} >= {0, 1, 2}
    assert len(workers) >= 3


def test_a_process_that_ends_in_order_loses_nothing(place: Place) -> None:
    with Child(place, "stop") as child:
        assert child.end() == "stopped 500 0"
    assert_whole(place.engine(), [child])
    with place.engine().connect() as connection:
        assert [(row["clean"], row["lost"]) for row in rows(connection, "run")] == [(1, 0)]
