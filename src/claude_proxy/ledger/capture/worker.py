"""The thread that prepares and writes captured exchanges. What it cannot keep up with is dropped, counted and logged."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from claude_proxy.ledger.background import IDLE, RETRY, Background
from claude_proxy.ledger.capture.options import MAX_WAITING, Parcel
from claude_proxy.ledger.capture.preparing import Transcript
from claude_proxy.ledger.capture.store import CaptureOff, Store
from claude_proxy.ledger.options import Say, Trouble

T = TypeVar("T")
PATIENT = 3  # failures in a row after which nothing is taken until a write succeeds
HOPELESS = 3  # tries of an exchange that the file rejects


class Worker(Background[Parcel]):
    """Takes parcels off a queue, prepares them and writes them.

    Args:
        open_store: called in the thread; again if the store has to be reopened.
        prepare: cuts and redacts; called in the thread.
        say: the log; called in the thread.
        retry: seconds of pause after each failure in a row.

    Attributes:
        written: exchanges that were stored.
        given_back: bytes of parcels that are finished.
        failing: whether the file cannot be written just now.
        off: whether it never can; `reason` says why.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        prepare: Callable[[Parcel], Transcript],
        *,
        say: Say,
        retry: Sequence[float] = RETRY,
    ) -> None:
        super().__init__("capture", limit=MAX_WAITING, retry=retry)
        self._open_store = open_store
        self._prepare = prepare
        self._say = say
        self._store: Store | None = None
        self._chores_at = 0.0
        self._told = 0  # losses that were logged
        self._losing = False
        self._said_bug = False
        self.written = 0
        self.given_back = 0
        self.failing = False
        self.off = False
        self.reason = ""

    @property
    def accepting(self) -> bool:
        """Whether exchanges can be stored at present."""
        return not self.failing and not self.off

    @property
    def waiting(self) -> int:
        """Exchanges in the queue."""
        return len(self._queue)

    def lose_one(self) -> None:
        """Count an exchange that could not even be put."""
        self._turned_away += 1
        if self.lost == self._told + 1:
            self._wake.put(None)  # so that the thread logs it now

    # -- the thread

    def _run(self) -> None:
        try:
            while self._more():
                self._turn()
        except CaptureOff as off:
            self.off, self.reason = True, str(off)
            self._say("error", "capture is off", reason=self.reason)
        self._end()

    def _more(self) -> bool:
        return not self._stopping or (self.waiting > 0 and self._time_left)

    def _turn(self) -> None:
        parcel = self._next()
        try:
            if parcel is not None:
                self._keep(parcel)
        finally:
            if parcel is not None:
                self.given_back += parcel.held
        self._tell_loss()
        if time.monotonic() >= self._chores_at and not self._stopping:
            self._do_chores()

    def _next(self) -> Parcel | None:
        wait = min(IDLE, self._chores_at - time.monotonic())
        return self._queue.popleft() if self._wait(until=1, seconds=wait) else None

    def _keep(self, parcel: Parcel) -> None:
        try:
            transcript = self._prepare(parcel)
        except Exception as error:  # a bug of ours costs this exchange only
            self._dropped += 1
            if not self._said_bug:
                self._said_bug = True
                self._say("error", "an exchange could not be captured", request=parcel.exchange.id, reason=repr(error))
            return
        refused = 0
        while True:
            try:
                self._write(transcript)
            except Trouble as error:
                refused += error.hopeless
                if self._failed(error) or refused >= HOPELESS:
                    self._dropped += 1
                    return
            else:
                self.written += 1
                self._recovered()
                return

    def _do_chores(self) -> None:
        try:
            self._chores_at = time.monotonic() + self._guarded(lambda: self._opened().chores())
        except Trouble as error:
            self._chores_at = time.monotonic() + IDLE
            self._failed(error)
        else:
            self._recovered()

    def _write(self, transcript: Transcript) -> None:
        self._guarded(lambda: self._opened().write(transcript))
        if self._opened().crowded:
            self._chores_at = min(self._chores_at, time.monotonic())

    def _guarded(self, work: Callable[[], T]) -> T:
        """The result of `work`. An unexpected exception becomes Trouble, so that it does not end the thread."""
        try:
            return work()
        except (Trouble, CaptureOff):
            raise
        except Exception as error:  # a bug of ours: the file is opened again, and capture goes on
            raise Trouble(f"{type(error).__name__}: {error}"[:200], hopeless=True, reopen=True) from error

    def _opened(self) -> Store:
        if self._store is None:
            self._store = self._open_store()
            for note in self._store.notes:
                self._say("error", note)
        return self._store

    def _failed(self, error: Trouble) -> bool:
        """Log it once, and pause longer each time; returns whether there is no time for another try."""
        if self._failures == 0:
            self._say("warning", "capture cannot write; proxying and the ledger go on", reason=error.reason)
        self.reason = error.reason
        pause = self._back_off()
        self.failing = self._failures >= PATIENT
        if error.reopen:
            self._close()
        self._tell_loss()
        self._rest(pause)
        return self._stopping

    def _recovered(self) -> None:
        if self._failures:
            self._say("info", "capture writes again", lost=self.lost)
        self._failures, self.failing, self.reason = 0, False, ""

    def _tell_loss(self) -> None:
        """Log a loss once, until the queue has run empty without another."""
        lost = self.lost
        if lost > self._told and not self._losing:
            self._losing = True
            self._say(
                "warning",
                "capture loses exchanges; the ledger has them all the same",
                lost=lost,
                reason=self.reason or "too much at once",
            )
        elif self._losing and lost == self._told and not self._queue and not self.failing:
            self._losing = False
        self._told = lost

    def _close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _end(self) -> None:
        self._refuse()
        left = len(self._queue)
        while self._queue:
            self.given_back += self._queue.popleft().held
        self._dropped += left
        if left:
            self._say(
                "warning", "captured exchanges were lost at the stop", exchanges=left, reason=self.reason or "no time was left"
            )
        self._close()
