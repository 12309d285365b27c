"""The writer: one thread per process that takes finished exchanges off a bounded queue and writes them in batches.

The path only appends. Trouble with the database costs nothing but rows, and those are counted: the queue holds 10,000, and what
does not fit is lost.
"""

from __future__ import annotations

import contextlib
import enum
import time
from collections import deque
from collections.abc import Callable, Sequence

from claude_proxy.ledger.background import IDLE, RETRY, Background
from claude_proxy.ledger.options import Entry, IncidentRow, LedgerOff, Sample, Say, Store, Trouble
from claude_proxy.ledger.record import UNKNOWN, Charge, Record

QUEUE = 10_000
# Rows that are worth a transaction, and the most of one. With 200, the thread's turns cost the event loop a tenth of its time.
BATCH = 1000
DELAY = 1.0  # seconds that the first row of a batch waits for others
RETRY_AT_STOP = 0.05  # seconds between two tries while the process stops
SAMPLES = 100  # waiting quota samples and incidents; then the oldest is dropped
HOPELESS = 3  # tries of a batch whose rows the database rejects


class State(enum.StrEnum):
    """The writer's state."""

    STARTING = "starting"  # the database is not open yet; rows wait
    WRITING = "writing"
    FAILING = "failing"  # rows wait, then they are lost; it tries again
    OFF = "off"  # no ledger in this process: no rows are taken
    STOPPED = "stopped"


OFF = State.OFF  # see `exchange.py`: it is asked for with each exchange


class Writer(Background[Record]):
    """Writes records to a store that it opens in its own thread.

    Args:
        open_store: called in the thread; again if the store has to be reopened.
        price: what a record cost; called in the thread, once per record.
        say: the log; called in the thread.
        on_loss: called once when rows begin to be lost, with their number so far; in the thread.
        on_batch: sees each batch once, priced, before it is written (metrics); called in the thread.

    Attributes:
        state: see `State`; `reason` says why, for FAILING and OFF.
        written: rows that are in the database.
        delay: seconds that the first row of a batch waits for others.
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
        super().__init__("ledger", limit=limit, retry=retry)
        self._open_store = open_store
        self._price = price
        self._say = say
        self._on_loss = on_loss
        self._on_batch = on_batch
        self._size = size
        self.delay = delay
        self._samples: deque[Sample | IncidentRow] = deque(maxlen=SAMPLES)
        self._batch: list[Entry] = []
        self._store: Store | None = None
        self._refused = 0  # times that the database rejected this batch
        self._chores_at = 0.0
        self._losing = False
        self._told_lost = 0
        self._told_price = False
        self.state = State.STARTING
        self.reason = ""
        self.written = 0

    @property
    def accepting(self) -> bool:
        """Whether records are taken at all."""
        return self.state is not OFF

    @property
    def waiting(self) -> int:
        """Rows that are not in the database yet."""
        return len(self._queue) + len(self._batch)

    def put_sample(self, sample: Sample | IncidentRow) -> None:
        """Take a quota sample, or the present state of an incident. Never waits."""
        if self.state not in (State.OFF, State.STOPPED):
            self._samples.append(sample)
            self._wake.put(None)

    # -- the thread

    def _run(self) -> None:
        try:
            while self._more():
                self._turn()
        except LedgerOff as off:
            self.state, self.reason = State.OFF, str(off)
            self._refuse(counting=False)
            self._queue.clear()
            self._batch = []
            self._say("error", "the ledger is off", reason=self.reason)
            return
        self._end()

    def _more(self) -> bool:
        return not self._stopping or (self.waiting > 0 and self._time_left)

    def _turn(self) -> None:
        """Collect a batch and write it, then do a chore that is due. On trouble, pause."""
        try:
            if self._store is None:
                self._open()
            self._write_next()
            self._write_samples()
            self._do_chores()
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
        """Take the next batch once it is full or has waited long enough; nothing if a chore or a sample is due first."""
        patience = 0.0 if self._samples else max(0.0, min(IDLE, self._chores_at - time.monotonic()))
        if not self._wait(until=1, seconds=patience):
            return
        self._fill()
        take = min(max(self._size, BATCH), len(self._queue))
        self._batch = [self._entry(self._queue.popleft()) for _ in range(take)]
        if self._on_batch is not None and self._batch:
            try:
                self._on_batch(self._batch)
            except Exception as error:
                self._say("error", "listener failed", hook="on_batch", reason=repr(error))

    def _fill(self) -> None:
        """Wait until the batch is full or its first row has waited long enough, and do the chores that are due meanwhile.

        With a chore only between two batches, retention would do one step per second under steady traffic.
        """
        end = time.monotonic() + self.delay
        while len(self._queue) < self._size and not self._stopping and (left := end - time.monotonic()) > 0:
            self._wait(until=self._size, seconds=min(left, self._chores_at - time.monotonic()))
            self._do_chores()

    def _do_chores(self) -> None:
        if time.monotonic() >= self._chores_at and self._store is not None:
            self._chores_at = time.monotonic() + self._store.chores()

    def _entry(self, record: Record) -> Entry:
        try:
            return Entry(record, self._price(record))
        except Exception as error:  # a row without a price is better than none
            if not self._told_price:
                self._told_price = True
                self._say("error", "an exchange could not be priced", model=record.model, reason=repr(error))
            return Entry(record, UNKNOWN)

    def _failed(self, error: Trouble) -> None:
        """Log it once, drop rows that the database keeps rejecting, and pause longer each time."""
        if self._failures == 0:
            self._say("warning", "the ledger cannot be written; proxying goes on", reason=error.reason, waiting=self.waiting)
        self.state, self.reason = State.FAILING, error.reason
        pause = self._back_off()
        if error.reopen:
            self._close_store(None)
        if error.hopeless and self._batch:
            self._refused += 1
            if self._refused >= HOPELESS:
                self._drop(error)
        self._tell_loss()
        self._rest(pause)
        if self._stopping:
            # The next try comes soon, as the deadline does; nothing wakes a thread that stops.
            time.sleep(RETRY_AT_STOP)

    def _drop(self, error: Trouble) -> None:
        self._dropped += len(self._batch)
        self._say("error", "the database refuses rows; they are lost", rows=len(self._batch), reason=error.reason)
        self._batch = []
        self._refused = 0

    def _tell_loss(self) -> None:
        """Log the loss once, until the queue is half empty again."""
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
        self._refuse()
        left = self.waiting
        self._dropped += left
        self._queue.clear()
        self._batch = []
        self.state = State.STOPPED
        if left:
            self._say("error", "exchanges were lost at the stop", rows=left, reason=self.reason or "no time was left")
        self._close_store(self.lost)
