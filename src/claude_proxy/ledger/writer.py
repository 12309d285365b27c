"""The writer: one thread per process that takes finished exchanges off a bounded queue and writes them in batches.

The path only appends. Whatever happens to the database costs rows at most, and those are counted: the queue keeps 10,000, and
what does not fit is lost.
"""

from __future__ import annotations

import contextlib
import enum
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from claude_proxy.ledger.options import Entry, IncidentRow, LedgerOff, Sample, Say, Store, Trouble
from claude_proxy.ledger.record import UNKNOWN, Charge, Record

QUEUE = 10_000
BATCH = 200
DELAY = 1.0  # seconds that the first row of a batch waits for others
IDLE = 60.0
RETRY = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)  # seconds after the first failure, the second ...
RETRY_AT_STOP = 0.05
SAMPLES = 100  # quota samples and incidents that wait: beyond, the oldest is dropped
HOPELESS = 3  # tries of a batch that the database refuses for what is in it
_NEVER = 2**62


class State(enum.StrEnum):
    """How the writer is."""

    STARTING = "starting"  # the database is not open yet; rows wait
    WRITING = "writing"
    FAILING = "failing"  # rows wait, then they are lost; it tries again
    OFF = "off"  # no ledger in this process: rows are not even taken
    STOPPED = "stopped"


class Writer:
    """Writes records to a store that it opens in its own thread.

    Args:
        open_store: called in the thread, again after trouble that needs it.
        price: what a record cost; called in the thread, once per record.
        say: the log; called in the thread.
        on_loss: told once, when rows begin to be lost, how many so far; called in the thread.
        on_batch: sees each batch once, priced, before it is written (metrics); called in the thread.

    Attributes:
        state: see `State`; `reason` says why, for FAILING and OFF.
        lost: rows that did not fit.
        written: rows that are in the database.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        *,
        say: Say,
        price: Callable[[Record], Charge] = lambda _: UNKNOWN,
        on_loss: Callable[[int], None] | None = None,
        on_batch: Callable[[Sequence[Entry]], None] | None = None,
        limit: int = QUEUE,
        size: int = BATCH,
        delay: float = DELAY,
        retry: Sequence[float] = RETRY,
    ) -> None:
        self._open_store = open_store
        self._price = price
        self._say = say
        self._on_loss = on_loss
        self._on_batch = on_batch
        self._limit = limit
        self._size = size
        self._delay = delay
        self._retry = retry
        self._queue: deque[Record] = deque()
        self._samples: deque[Sample | IncidentRow] = deque(maxlen=SAMPLES)
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._wanted = _NEVER  # rows at which the thread wants to be woken
        self._batch: list[Entry] = []
        self._store: Store | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._deadline = 0.0
        self._failures = 0  # in a row
        self._refused = 0  # of this batch, for what is in it
        self._chores_at = 0.0
        self._losing = False
        self._told_lost = 0
        self._told_price = False
        self.state = State.STARTING
        self.reason = ""
        self.lost = 0
        self.written = 0

    @property
    def accepting(self) -> bool:
        """Whether a record is worth making."""
        return self.state is not State.OFF

    @property
    def waiting(self) -> int:
        """Rows that are not in the database yet."""
        return len(self._queue) + len(self._batch)

    def put(self, record: Record) -> None:
        """Take a record. Never waits; a thread other than the writer's may call it."""
        rows = self._queue
        if len(rows) >= self._limit:
            if self.state is not State.OFF:
                self.lost += 1
            return
        rows.append(record)
        if len(rows) >= self._wanted:
            self._wanted = _NEVER
            self._wake.put(None)

    def put_sample(self, sample: Sample | IncidentRow) -> None:
        """Take a quota sample, or what is known of an incident by now. Never waits."""
        if self.state not in (State.OFF, State.STOPPED):
            self._samples.append(sample)
            self._wake.put(None)

    def start(self) -> None:
        """Start the thread. It is no reason for the process to stay."""
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def begin_stop(self, timeout: float) -> None:
        """Write what waits, for at most `timeout` seconds, and end the thread."""
        self._deadline = time.monotonic() + timeout
        self._stopping = True
        self._wake.put(None)

    def join(self, timeout: float) -> bool:
        """Wait for the thread; whether it has ended."""
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # -- the thread

    def _run(self) -> None:
        try:
            while self._more():
                self._turn()
        except LedgerOff as off:
            self.state, self.reason = State.OFF, str(off)
            self._limit = 0
            self._queue.clear()
            self._batch = []
            self._say("error", "the ledger is off", reason=self.reason)
            return
        self._end()

    def _more(self) -> bool:
        if not self._stopping:
            return True
        return self.waiting > 0 and time.monotonic() < self._deadline

    def _turn(self) -> None:
        """Collect a batch, write it; or do a chore; or find out that neither can be done now, and pause."""
        try:
            if self._store is None:
                self._open()
            self._write_next()
            self._write_samples()
            if time.monotonic() >= self._chores_at and self._store is not None:
                self._chores_at = time.monotonic() + self._store.chores()
        except LedgerOff:
            raise
        except Trouble as error:
            self._failed(error)
        except Exception as error:  # a bug of ours must not end the thread
            self._failed(Trouble(f"{type(error).__name__}: {error}"[:200], hopeless=True, reopen=True))

    def _open(self) -> None:
        self._store = self._open_store()
        self._chores_at = time.monotonic()
        if not self._batch:
            self._recovered()

    def _write_next(self) -> None:
        if not self._batch:
            self._collect()
        if self._batch and self._store is not None:
            self._store.write(self._batch, self.lost)
            self.written += len(self._batch)
            self._batch = []
            self._refused = 0
            self._recovered()

    def _write_samples(self) -> None:
        while self._samples and self._store is not None:
            sample = self._samples.popleft()
            try:
                self._store.sample(sample)
            except Trouble as error:
                if not error.hopeless:
                    self._samples.appendleft(sample)
                raise
            self._recovered()

    def _collect(self) -> None:
        """Take the next batch, once it is full or has waited long enough; none if a chore or a sample is due first."""
        patience = 0.0 if self._samples else max(0.0, min(IDLE, self._chores_at - time.monotonic()))
        if not self._sleep(until=1, seconds=patience):
            return
        self._sleep(until=self._size, seconds=self._delay)
        take = min(self._size, len(self._queue))
        self._batch = [self._entry(self._queue.popleft()) for _ in range(take)]
        if self._on_batch is not None and self._batch:
            try:
                self._on_batch(self._batch)
            except Exception as error:
                self._say("error", "listener failed", hook="on_batch", reason=repr(error))

    def _sleep(self, *, until: int, seconds: float) -> bool:
        """Wait until so many rows are there, the stop has begun, or the time is over; whether there is a row."""
        self._wanted = until  # before looking: a row that comes between wakes us
        if len(self._queue) < until and not self._stopping and seconds > 0:
            self._pause(seconds)
        self._wanted = _NEVER
        return bool(self._queue)

    def _pause(self, seconds: float) -> None:
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=seconds)

    def _entry(self, record: Record) -> Entry:
        try:
            return Entry(record, self._price(record))
        except Exception as error:  # the row matters more than its price
            if not self._told_price:
                self._told_price = True
                self._say("error", "an exchange could not be priced", model=record.model, reason=repr(error))
            return Entry(record, UNKNOWN)

    def _failed(self, error: Trouble) -> None:
        """Note it once, drop rows that are refused for what is in them, and pause longer each time."""
        if self._failures == 0:
            self._say("warning", "the ledger cannot be written; proxying goes on", reason=error.reason, waiting=self.waiting)
        self.state, self.reason = State.FAILING, error.reason
        pause = self._retry[min(self._failures, len(self._retry) - 1)]
        self._failures += 1
        if error.reopen:
            self._close_store(None)
        if error.hopeless and self._batch:
            self._refused += 1
            if self._refused >= HOPELESS:
                self._drop(error)
        self._tell_loss()
        self._rest(pause)

    def _rest(self, seconds: float) -> None:
        """Pause whatever comes; a stop shortens it."""
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            self._pause(left)
        if self._stopping:
            time.sleep(RETRY_AT_STOP)

    def _drop(self, error: Trouble) -> None:
        self.lost += len(self._batch)
        self._say("error", "the database refuses rows; they are lost", rows=len(self._batch), reason=error.reason)
        self._batch = []
        self._refused = 0

    def _tell_loss(self) -> None:
        """Once, until the queue is half empty again."""
        if self.lost > self._told_lost and not self._losing:
            self._losing = True
            self._say("error", "the ledger loses exchanges: its queue is full", lost=self.lost, reason=self.reason)
            if self._on_loss is not None:
                with contextlib.suppress(Exception):
                    self._on_loss(self.lost)
        elif self._losing and len(self._queue) <= self._limit // 2:
            self._losing = False
            self._told_lost = self.lost

    def _recovered(self) -> None:
        if self._failures:
            self._say("info", "the ledger is written again", lost=self.lost, waiting=self.waiting)
        self._failures = 0
        self.state, self.reason = State.WRITING, ""
        self._tell_loss()

    def _close_store(self, lost: int | None) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close(lost)

    def _end(self) -> None:
        self._limit = 0
        left = self.waiting
        self.lost += left
        self._queue.clear()
        self._batch = []
        self.state = State.STOPPED
        if left:
            self._say("error", "exchanges were lost at the stop", rows=left, reason=self.reason or "no time was left")
        self._close_store(self.lost)
