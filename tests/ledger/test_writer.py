"""The writer's thread: batches, trouble, loss that is counted and said once, and the stop."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from claude_proxy.ledger.options import Entry, LedgerOff, Sample, Trouble
from claude_proxy.ledger.record import UNKNOWN, Charge, Record
from claude_proxy.ledger.writer import BATCH, State, Writer
from tests.ledger.books import Log, records

PATIENCE = 20.0  # seconds until a test that hangs fails


class FakeStore:
    """Keeps batches; fails while `trouble` is set, waits while `gate` is closed."""

    def __init__(self) -> None:
        self.in_memory = False
        self.batches: list[list[Entry]] = []
        self.trouble: Exception | None = None
        self.opening: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.changed = threading.Condition()
        self.opened = self.tries = 0
        self.chore = 60.0
        self.chores_done = 0
        self.closed: list[int | None] = []
        self.samples: list[Sample] = []

    def open(self) -> "FakeStore":
        self._note("opened")
        if self.opening is not None:
            raise self.opening
        return self

    def write(self, batch: Sequence[Entry], lost: int) -> None:
        self._note("tries")
        self.gate.wait(PATIENCE)
        if self.trouble is not None:
            raise self.trouble
        with self.changed:
            self.batches.append(list(batch))
            self.changed.notify_all()

    def sample(self, taken: Sample) -> None:
        self._note("tries")
        if self.trouble is not None:
            raise self.trouble
        with self.changed:
            self.samples.append(taken)
            self.changed.notify_all()

    def chores(self) -> float:
        self._note("chores_done")
        return self.chore

    def close(self, lost: int | None) -> None:
        with self.changed:
            self.closed.append(lost)
            self.changed.notify_all()

    def _note(self, name: str) -> None:
        with self.changed:
            setattr(self, name, getattr(self, name) + 1)
            self.changed.notify_all()

    @property
    def written(self) -> list[Record]:
        return [entry.record for batch in self.batches for entry in batch]

    def until(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def log() -> Log:
    return Log()


@contextlib.contextmanager
def running(store: FakeStore, log: Log, *, start: bool = True, **options: Any) -> Iterator[Writer]:
    defaults: dict[str, Any] = {"say": log, "delay": 0.01, "retry": (0.01,)}
    writer = Writer(store.open, **(defaults | options))
    if start:
        writer.start()
    try:
        yield writer
    finally:
        store.gate.set()
        stop(writer)


def stop(writer: Writer, timeout: float = 2.0) -> None:
    writer.begin_stop(timeout)
    assert writer.join(PATIENCE)


def put_all(writer: Writer, rows: Sequence[Record]) -> None:
    for row in rows:
        writer.put(row)


def test_rows_are_written_in_order(store: FakeStore, log: Log) -> None:
    rows = records(450)
    with running(store, log) as writer:
        put_all(writer, rows)
        store.until(lambda: len(store.written) == 450)
    assert store.written == rows
    assert writer.written == 450
    assert writer.lost == 0


def test_a_full_batch_does_not_wait(store: FakeStore, log: Log) -> None:
    with running(store, log, delay=PATIENCE * 10) as writer:
        put_all(writer, records(BATCH))
        store.until(lambda: len(store.batches) == 1)
    assert len(store.batches[0]) == BATCH


def test_a_single_row_waits_no_longer_than_its_delay(store: FakeStore, log: Log) -> None:
    with running(store, log, delay=0.05) as writer:
        store.until(lambda: store.chores_done >= 1)
        started = time.monotonic()
        writer.put(records(1)[0])
        store.until(lambda: len(store.batches) == 1)
        assert time.monotonic() - started >= 0.05


def test_what_waits_longer_than_a_batch_goes_in_several(store: FakeStore, log: Log) -> None:
    store.gate.clear()
    with running(store, log) as writer:
        writer.put(records(1)[0])
        store.until(lambda: store.tries >= 1)
        put_all(writer, records(2500))
        store.gate.set()
        store.until(lambda: len(store.written) == 2501)
    assert [len(batch) for batch in store.batches] == [1, 1000, 1000, 500]


def test_rows_of_several_threads_are_all_written(store: FakeStore, log: Log) -> None:
    with running(store, log) as writer:
        parts = [records(500) for _ in range(4)]
        threads = [threading.Thread(target=put_all, args=(writer, part)) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        store.until(lambda: len(store.written) == 2000)
    assert sorted(row.id for row in store.written) == sorted(row.id for part in parts for row in part)


def test_rows_that_came_before_the_start_are_written(store: FakeStore, log: Log) -> None:
    rows = records(3)
    with running(store, log, start=False) as writer:
        assert writer.state is State.STARTING
        put_all(writer, rows)
        writer.start()
        store.until(lambda: len(store.written) == 3)


# -- trouble


@pytest.mark.parametrize("reopen", [False, True])
def test_a_batch_that_failed_is_tried_again_whole(store: FakeStore, log: Log, reopen: bool) -> None:
    rows = records(3)
    store.trouble = Trouble("the disk is full", reopen=reopen)
    with running(store, log) as writer:
        put_all(writer, rows)
        store.until(lambda: store.tries >= 3)
        assert (writer.state, writer.reason) == (State.FAILING, "the disk is full")
        store.trouble = None
        store.until(lambda: len(store.written) == 3)
    assert store.written == rows
    assert writer.lost == 0
    assert store.closed == ([None] * (store.opened - 1) if reopen else []) + [0]
    assert [(level, event) for level, event, _ in log.lines] == [
        ("warning", "the ledger cannot be written; proxying goes on"),
        ("info", "the ledger is written again"),
    ]


def test_a_store_that_cannot_be_opened_is_tried_again(store: FakeStore, log: Log) -> None:
    store.opening = Trouble("the database is locked")
    with running(store, log) as writer:
        put_all(writer, records(3))
        store.until(lambda: store.opened >= 3)
        store.opening = None
        store.until(lambda: len(store.written) == 3)
        assert writer.lost == 0


def test_pauses_grow_and_a_good_write_resets_them(store: FakeStore, log: Log) -> None:
    pauses: list[float] = []

    class Watched(Writer):
        def _rest(self, seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 5:
                store.trouble = None

    store.trouble = Trouble("locked")
    writer = Watched(store.open, say=log, delay=0.01, retry=(1, 2, 4))
    writer.start()
    writer.put(records(1)[0])
    store.until(lambda: len(store.written) == 1)
    assert pauses == [1, 2, 4, 4, 4]
    pauses.append(0)
    store.trouble = Trouble("locked")
    writer.put(records(1)[0])
    store.until(lambda: store.tries >= 8)
    store.trouble = None
    assert pauses[6] == 1
    stop(writer)


def test_rows_that_do_not_fit_are_lost_counted_and_told_once(store: FakeStore, log: Log) -> None:
    told: list[int] = []
    store.trouble = Trouble("the disk is full")
    with running(store, log, limit=50, on_loss=told.append) as writer:
        writer.put(records(1)[0])
        store.until(lambda: store.tries >= 1)
        put_all(writer, records(110))
        tries = store.tries
        store.until(lambda: store.tries >= tries + 5)
        assert writer.lost == 60
        store.trouble = None
        store.until(lambda: len(store.written) == 51)
        put_all(writer, records(1))
        store.until(lambda: len(store.written) == 52)
    assert told == [60]
    assert log.said("loses exchanges") == [{"lost": 60, "reason": "the disk is full"}]
    assert log.said("written again")[0]["lost"] == 60


def test_a_loss_after_a_recovery_is_told_again(store: FakeStore, log: Log) -> None:
    told: list[int] = []
    with running(store, log, limit=50, on_loss=told.append) as writer:
        for turn in (1, 2):
            store.trouble = Trouble("the disk is full")
            writer.put(records(1)[0])
            tries = store.tries
            store.until(lambda tries=tries: store.tries > tries)  # type: ignore[misc]
            put_all(writer, records(60))
            store.until(lambda turn=turn: len(told) == turn)  # type: ignore[misc]
            store.trouble = None
            store.until(lambda turn=turn: len(store.written) == 51 * turn)  # type: ignore[misc]
    assert told == [10, 20]


def test_a_store_that_is_only_slow_loses_and_tells_too(store: FakeStore, log: Log) -> None:
    told = threading.Event()
    store.gate.clear()
    with running(store, log, limit=50, on_loss=lambda _: told.set()) as writer:
        writer.put(records(1)[0])
        store.until(lambda: store.tries >= 1)
        put_all(writer, records(60))
        store.gate.set()
        assert told.wait(PATIENCE)


def test_a_listener_that_fails_costs_nothing(store: FakeStore, log: Log) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("no")

    with running(store, log, limit=5, on_loss=fail, on_batch=fail) as writer:
        store.gate.clear()
        writer.put(records(1)[0])
        store.until(lambda: store.tries >= 1)
        put_all(writer, records(10))
        store.gate.set()
        store.until(lambda: len(store.written) == 6)
    assert log.said("listener failed")


def test_rows_that_the_database_refuses_do_not_stop_the_others(store: FakeStore, log: Log) -> None:
    store.trouble = Trouble("value out of range", hopeless=True)
    with running(store, log) as writer:
        put_all(writer, records(4))
        store.until(lambda: store.tries >= 3)
        store.trouble = None
        later = records(2)
        put_all(writer, later)
        store.until(lambda: len(store.written) == 2)
        assert store.written == later
        assert writer.lost == 4
    assert log.said("refuses rows") == [{"rows": 4, "reason": "value out of range"}]


def test_a_bug_in_the_store_does_not_end_the_thread(store: FakeStore, log: Log) -> None:
    store.trouble = KeyError("what")
    with running(store, log) as writer:
        put_all(writer, records(4))
        store.until(lambda: store.tries >= 3)
        store.trouble = None
        put_all(writer, records(2))
        store.until(lambda: len(store.written) == 2)
        assert writer.state is State.WRITING


def test_without_a_ledger_rows_are_not_even_taken(store: FakeStore, log: Log) -> None:
    store.opening = LedgerOff("The ledger was written by a newer claude-proxy.")
    with running(store, log) as writer:
        put_all(writer, records(1))
        assert writer.join(PATIENCE)
        put_all(writer, records(1))
        assert not writer.accepting
        assert (writer.state, writer.lost, writer.waiting) == (State.OFF, 0, 0)
    assert log.lines == [("error", "the ledger is off", {"reason": "The ledger was written by a newer claude-proxy."})]


# -- prices and chores


def test_each_row_is_priced_once_whatever_the_retries(store: FakeStore, log: Log) -> None:
    priced: list[int] = []

    def price(record: Record) -> Charge:
        priced.append(record.id)
        return Charge(7, None, "p")

    rows = records(3)
    store.trouble = Trouble("locked")
    with running(store, log, price=price) as writer:
        put_all(writer, rows)
        store.until(lambda: store.tries >= 3)
        store.trouble = None
        store.until(lambda: len(store.written) == 3)
    assert priced == [row.id for row in rows]
    assert {entry.charge for batch in store.batches for entry in batch} == {Charge(7, None, "p")}


def test_a_row_that_cannot_be_priced_is_kept_unpriced_and_said_once(store: FakeStore, log: Log) -> None:
    def price(record: Record) -> Charge:
        raise KeyError(record.model)

    with running(store, log, price=price) as writer:
        put_all(writer, records(3))
        store.until(lambda: len(store.written) == 3)
    assert {entry.charge for batch in store.batches for entry in batch} == {UNKNOWN}
    assert len(log.said("could not be priced")) == 1


def test_each_batch_is_shown_once(store: FakeStore, log: Log) -> None:
    seen: list[int] = []
    rows = records(450)
    store.trouble = Trouble("locked")
    with running(store, log, on_batch=lambda batch: seen.extend(entry.record.id for entry in batch)) as writer:
        put_all(writer, rows)
        store.until(lambda: store.tries >= 3)
        store.trouble = None
        store.until(lambda: len(store.written) == 450)
    assert seen == [row.id for row in rows]


def test_chores_are_done_when_they_are_due_and_between_batches(store: FakeStore, log: Log) -> None:
    store.chore = 0.005
    with running(store, log) as writer:
        store.until(lambda: store.chores_done >= 5)
        put_all(writer, records(300))
        store.until(lambda: len(store.written) == 300)
        done = store.chores_done
        store.until(lambda: store.chores_done >= done + 3)


# -- the stop


def test_a_stop_writes_what_waits(store: FakeStore, log: Log) -> None:
    rows = records(700)
    with running(store, log, delay=PATIENCE * 10) as writer:
        put_all(writer, rows)
        stop(writer)
    assert store.written == rows
    assert writer.state is State.STOPPED
    assert store.closed == [0]


def test_a_stop_ends_a_pause(store: FakeStore, log: Log) -> None:
    store.trouble = Trouble("locked")
    with running(store, log, retry=(PATIENCE * 10,)) as writer:
        writer.put(records(1)[0])
        store.until(lambda: store.tries >= 1)
        store.trouble = None
        stop(writer)
    assert len(store.written) == 1


def test_a_stop_gives_up_in_time_and_counts_what_is_left(store: FakeStore, log: Log) -> None:
    store.trouble = Trouble("the disk is full")
    with running(store, log) as writer:
        put_all(writer, records(7))
        store.until(lambda: store.tries >= 1)
        started = time.monotonic()
        stop(writer, timeout=0.2)
        assert time.monotonic() - started < 2
        assert writer.lost == 7
        assert store.closed == [7]
    assert log.said("lost at the stop") == [{"rows": 7, "reason": "the disk is full"}]


def test_a_row_that_comes_after_the_stop_counts_as_lost(store: FakeStore, log: Log) -> None:
    with running(store, log) as writer:
        stop(writer)
        writer.put(records(1)[0])
        assert writer.lost == 1


def test_a_writer_that_never_started_stops() -> None:
    store, log = FakeStore(), Log()
    with running(store, log, start=False) as writer:
        assert writer.waiting == 0
    assert store.opened == 0


# -- quota samples


def sample(at: int) -> Sample:
    return Sample(at, "default", None, ())


def test_a_sample_is_written_without_any_exchange(store: FakeStore, log: Log) -> None:
    with running(store, log) as writer:
        store.until(lambda: store.chores_done == 1)
        writer.put_sample(sample(1))
        store.until(lambda: len(store.samples) == 1)
        writer.put_sample(sample(2))
        store.until(lambda: len(store.samples) == 2)
    assert [taken.at for taken in store.samples] == [1, 2]


def test_a_sample_waits_for_a_database_that_is_locked(store: FakeStore, log: Log) -> None:
    store.trouble = Trouble("locked")
    with running(store, log) as writer:
        writer.put_sample(sample(1))
        store.until(lambda: store.tries >= 3)
        assert writer.state is State.FAILING
        store.trouble = None
        store.until(lambda: len(store.samples) == 1)
        writer.put_sample(sample(2))
        store.until(lambda: len(store.samples) == 2)
        assert writer.state is State.WRITING
    assert log.said("the ledger is written again")


def test_a_sample_that_is_refused_is_dropped_and_rows_go_on(store: FakeStore, log: Log) -> None:
    store.trouble = Trouble("no such column", hopeless=True, reopen=True)
    with running(store, log) as writer:
        writer.put_sample(sample(1))
        store.until(lambda: store.tries >= 1 and store.opened >= 1 and bool(store.closed))
        store.trouble = None
        for record in records(3):
            writer.put(record)
        store.until(lambda: len(store.written) == 3)
    assert store.samples == []


def test_without_a_ledger_no_sample_is_kept(store: FakeStore, log: Log) -> None:
    store.opening = LedgerOff("newer")
    with running(store, log) as writer:
        store.until(lambda: store.opened == 1)
        writer.join(PATIENCE)
        writer.put_sample(sample(1))
        assert not writer._samples


def test_chores_are_done_while_a_batch_fills(store: FakeStore, log: Log) -> None:
    """Under steady traffic a batch always waits for more: retention must not wait for it."""
    store.chore = 0.001
    with running(store, log, delay=PATIENCE, size=1000) as writer:
        put_all(writer, records(1))
        before = store.chores_done
        store.until(lambda: store.chores_done >= before + 20)
        assert writer.written == 0


def test_a_chore_that_fails_while_a_batch_fills_loses_no_row(store: FakeStore, log: Log) -> None:
    failing = [Trouble("locked"), Trouble("locked")]
    real = store.chores

    def chores() -> float:
        if failing and store.tries == 0 and store.chores_done > 2:
            raise failing.pop()
        return real()

    store.chores = chores  # type: ignore[method-assign]
    store.chore = 0.001
    with running(store, log, delay=0.2) as writer:
        put_all(writer, records(5))
        store.until(lambda: len(store.written) == 5)
        assert writer.lost == 0
    assert failing == []
