"""The thread and what feeds it: what does not fit or cannot be written is lost, counted and told; nothing waits for it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from claude_proxy import ids
from claude_proxy.exchange import Exchange, Failure, Outcome
from claude_proxy.ledger.capture.capture import Capture
from claude_proxy.ledger.capture.database import open_to_read
from claude_proxy.ledger.capture.options import MAX_BODY, MAX_WAITING, CaptureOptions
from claude_proxy.ledger.capture.preparing import Preparer, Transcript
from claude_proxy.ledger.capture.retention import used_bytes
from claude_proxy.ledger.capture.store import CaptureOff, Opener
from claude_proxy.ledger.capture.tap import CHUNK, STEP
from claude_proxy.ledger.capture.worker import PATIENT, Worker
from claude_proxy.ledger.options import Trouble
from claude_proxy.ledger.record import record
from tests.ledger.books import Log, exchange_of
from tests.ledger.capture.captured import WALL, kept, only, parcel, turn
from tests.ledger.waiting import until


class FakeStore:
    """Fails as often as it is told to."""

    notes = ("it was opened",)
    crowded = False

    def __init__(self, faults: list[Exception]) -> None:
        self.faults = faults
        self.written: list[Transcript] = []
        self.opened = self.closed = 0

    def __call__(self) -> Any:
        self.opened += 1
        return self

    def write(self, transcript: Transcript) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.written.append(transcript)

    def chores(self) -> float:
        return 60.0

    def close(self) -> None:
        self.closed += 1


def worker_on(store: Any, log: Log, prepare: Callable[..., Any] | None = None) -> Worker:
    return Worker(store, prepare or Preparer(), say=log, retry=(0.001,))


def parcels(count: int) -> list[Any]:
    return [parcel({"messages": [turn("a")]}) for _ in range(count)]


def run(worker: Worker, items: list[Any]) -> None:
    """Let it take these, and stop it."""
    for one in items:
        worker.put(one)
    worker.start()
    until(lambda: worker.written + worker.lost >= len(items) or worker.off)
    worker.begin_stop(10)
    assert worker.join(10)


def test_trouble_that_passes_loses_nothing_and_is_said_once() -> None:
    store, log = FakeStore([Trouble("the disk is full", reopen=True)] * 5), Log()
    worker = worker_on(store, log)
    run(worker, parcels(3))
    assert (worker.written, worker.lost, len(store.written)) == (3, 0, 3)
    assert store.opened == 6
    assert [event for _, event, _ in log.lines if "opened" not in event] == [
        "capture cannot write; proxying and the ledger go on",
        "capture writes again",
    ]


def test_an_exchange_that_the_file_refuses_is_lost_and_the_next_is_written() -> None:
    store, log = FakeStore([Trouble("too big", hopeless=True)] * 3), Log()
    worker = worker_on(store, log)
    run(worker, parcels(2))
    assert (worker.written, worker.lost) == (1, 1)
    assert len(log.said("capture loses exchanges")) == 1


def test_while_it_cannot_write_nothing_more_is_taken() -> None:
    store, log = FakeStore([Trouble("the disk is full")] * 10**6), Log()
    worker = worker_on(store, log)
    worker.put(parcels(1)[0])
    worker.start()
    until(lambda: worker.failing)
    assert not worker.accepting
    assert worker.reason == "the disk is full"
    worker.lose_one()
    until(lambda: len(log.said("capture loses exchanges")) == 1)
    store.faults.clear()
    until(lambda: worker.written == 1)
    until(lambda: worker.accepting)
    worker.begin_stop(5)
    assert worker.join(5)
    assert PATIENT > 1


def test_a_bug_of_ours_costs_one_exchange() -> None:
    prepare, calls = Preparer(), itertools.count()

    def buggy(one: Any) -> Transcript:
        if next(calls) == 1:
            raise ZeroDivisionError("ours")
        return prepare(one)

    store, log = FakeStore([]), Log()
    worker = worker_on(store, log, buggy)
    run(worker, parcels(3))
    assert (worker.written, worker.lost) == (2, 1)
    assert "ZeroDivisionError" in str(log.said("could not be captured")[0]["reason"])


def test_a_bug_of_the_stores_costs_one_exchange() -> None:
    store, log = FakeStore([ZeroDivisionError("ours")] * 3), Log()
    worker = worker_on(store, log)
    run(worker, parcels(3))
    assert (worker.written, worker.lost) == (2, 1)
    assert "ZeroDivisionError" in str(log.said("capture cannot write")[0]["reason"])


def test_the_file_is_kept_within_its_size_while_it_is_written(tmp_path: Path) -> None:
    dice, log = random.Random(3), Log()
    worker = worker_on(Opener(CaptureOptions(tmp_path, max_bytes=1_000_000, reserve=0), wall=lambda: WALL), log)
    run(worker, [parcel({"messages": [turn(dice.randbytes(40_000).hex())]}, at=WALL + n) for n in range(100)])
    with closing(open_to_read(tmp_path / "capture.db")) as connection:
        assert used_bytes(connection) < 1_200_000
    assert 10 < len(kept(tmp_path)) < 100


def test_capture_that_can_never_be_is_off_and_says_why() -> None:
    def refuse() -> Any:
        raise CaptureOff("the file is newer")

    log = Log()
    worker = worker_on(refuse, log)
    run(worker, parcels(2))
    assert worker.off
    assert not worker.accepting
    assert log.said("capture is off") == [{"reason": "the file is newer"}]


def test_what_no_time_is_left_for_is_counted_and_given_back() -> None:
    log = Log()
    worker = worker_on(FakeStore([]), log)
    waiting = parcels(3)
    for one in waiting:
        worker.put(one)
    worker.begin_stop(0.0)
    worker.start()
    assert worker.join(10)
    assert worker.lost == 3
    assert worker.given_back == sum(one.held for one in waiting)
    assert log.said("lost at the stop")[0]["exchanges"] == 3


# -- what feeds it


def exchange(**fields: Any) -> Exchange:
    return exchange_of(path="/v1/messages", **fields)


def collect(capture: Capture, body: bytes = b"{}", chunks: tuple[bytes, ...] = (), **fields: Any) -> Exchange:
    """One exchange through a tap, as the path does it."""
    one = exchange(**fields)
    tap = capture.tap(one)
    assert tap is not None
    tap.on_request([], body, whole=True)
    tap.on_response(200, [])
    for chunk in chunks:
        tap.on_data(chunk)
    tap.on_end(one)
    return one


def test_beyond_what_may_be_in_flight_an_exchange_is_lost_and_counted(tmp_path: Path) -> None:
    capture = Capture(CaptureOptions(tmp_path), most=1000)
    collect(capture, b"a" * 600)
    lost = collect(capture, b"b" * 600)
    assert (capture.lost, capture.in_flight, lost.transcript) == (1, 600, None)
    collect(capture, b"c" * 300)
    assert (capture.lost, capture.in_flight) == (1, 900)


def test_an_answer_that_outgrows_what_may_be_in_flight_loses_its_exchange(tmp_path: Path) -> None:
    capture = Capture(CaptureOptions(tmp_path), most=3 * STEP)
    lost = collect(capture, b"a" * 100, (b"x" * STEP,) * 4)
    assert (capture.lost, capture.in_flight, capture.worker.waiting, lost.transcript) == (1, 0, 0, None)


def test_many_small_chunks_count_for_what_they_take(tmp_path: Path) -> None:
    capture = Capture(CaptureOptions(tmp_path))
    tap = capture.tap(exchange())
    assert tap is not None
    tap.on_request([], b"{}", whole=True)
    for _ in range(10_000):
        tap.on_data(b"x")
    assert 10_000 * CHUNK <= capture.in_flight <= 10_000 * (CHUNK + 1) + 2 * STEP


def test_an_answer_over_its_limit_is_kept_as_far_as_that(tmp_path: Path) -> None:
    capture = Capture(CaptureOptions(tmp_path), most=10 * MAX_BODY)
    collect(capture, b"{}", (b"x" * (MAX_BODY // 4 - CHUNK),) * 6)
    one = capture.worker._queue.popleft()
    assert one is not None
    assert one.cut
    assert sum(map(len, one.chunks)) <= MAX_BODY


def test_too_many_that_wait_are_lost(tmp_path: Path) -> None:
    capture = Capture(CaptureOptions(tmp_path))
    for _ in range(MAX_WAITING + 5):
        collect(capture)
    assert capture.lost == 5
    assert capture.in_flight == 2 * MAX_WAITING


def test_another_attempt_is_not_kept_again(tmp_path: Path) -> None:
    capture = Capture(CaptureOptions(tmp_path))
    tap = capture.tap(exchange())
    assert tap is not None
    tap.on_request([], b"ab", whole=True)
    tap.on_request([], b"ab", whole=True)
    assert capture.in_flight == 2


def test_an_exchange_of_which_nothing_was_sent_is_not_kept(tmp_path: Path) -> None:
    capture = Capture(CaptureOptions(tmp_path))
    one = exchange(outcome=Outcome.FAILED)
    tap = capture.tap(one)
    assert tap is not None
    tap.on_end(one)
    assert (one.transcript, capture.worker.waiting) == (None, 0)


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("status", [200, 429])
@pytest.mark.parametrize("failure", [None, Failure("upstream", "x", "y")])
def test_errors_means_what_the_ledger_calls_failed(outcome: Outcome, status: int, failure: Failure | None) -> None:
    one = exchange(outcome=outcome, status=status, failure=failure)
    assert one.failed == record(one).failed


async def test_switched_off_again_it_keeps_nothing_new_and_goes_on_deleting(tmp_path: Path) -> None:
    """The exchange in the file is from 2026-09-21, weeks before whatever day it is."""
    first = Capture(CaptureOptions(tmp_path, keep_days=100_000, reserve=0))
    await first.start()
    collect(first, b'{"messages":[]}', id=ids.encode(ids.first_of(10**12)))
    await first.aclose()
    assert only(tmp_path).request == b'{"messages":[]}'

    capture = Capture(CaptureOptions(tmp_path, mode="off", reserve=0))
    assert capture.tap(exchange()) is None
    await capture.start()
    until(lambda: kept(tmp_path) == [])
    await capture.aclose()
