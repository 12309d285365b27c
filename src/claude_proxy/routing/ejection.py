"""Which account is out of rotation for a while because it fails, and how many hidden retries it may cost. Pure."""

from __future__ import annotations

from random import Random

FAILURES = 5  # in a row
SPAN = 2.0  # seconds between the first and the last of them: many parallel ones are one event
OUT = 10.0  # seconds, times the number of ejections
OUT_MOST = 300.0
JITTER = 0.1
QUIET = 60.0  # seconds without a failure that take one ejection back


class Ejection:
    """The failures of one account. Refusals, client mistakes and cancels must not be counted here.

    Attributes:
        until: end of the last time out.
        times: ejections that count, which is what the next time out is multiplied by.
        returning: it was out and has not succeeded since.
        row: failures in a row.
    """

    __slots__ = ("_ejected_at", "_failed_at", "_first", "_rng", "returning", "row", "times", "until")

    def __init__(self, rng: Random) -> None:
        self.until = 0.0
        self.times = 0
        self.returning = False
        self.row = 0
        self._first = 0.0
        self._failed_at = float("-inf")
        self._ejected_at = float("-inf")
        self._rng = rng

    def failure(self, sent_at: float, now: float) -> bool:
        """A request that was sent at `sent_at` has failed; returns whether that ejects the account.

        What was under way at an ejection says nothing new when it fails as well.
        """
        if sent_at < self._ejected_at:
            return False
        self._forgive(now)
        self._failed_at = now
        self.row += 1
        if self.row == 1:
            self._first = now
        probe_failed = self.returning and sent_at >= self.until
        if probe_failed or (self.row >= FAILURES and now - self._first >= SPAN):
            self._eject(now)
            return True
        return False

    def success(self, sent_at: float) -> None:
        """A request has been answered."""
        self.row = 0
        if self.returning and sent_at >= self._ejected_at:
            self.returning, self.until = False, 0.0

    def _eject(self, now: float) -> None:
        self.times += 1
        out = min(OUT_MOST, OUT * self.times) * self._rng.uniform(1 - JITTER, 1 + JITTER)
        self.until = max(self.until, now + out)  # a longer time out is never shortened
        self._ejected_at, self.row, self.returning = now, 0, True

    def _forgive(self, now: float) -> None:
        quiet = now - max(self._failed_at, self.until)
        if self.times and quiet >= QUIET:
            self.times = max(0, self.times - int(quiet // QUIET))


class Bucket:
    """Bounds the hidden retries of one account: a retry storm must not double the load of an upstream in trouble.

    Attributes:
        full: whether another success changes nothing.
    """

    __slots__ = ("full", "tokens")

    FULL = 10.0
    CLOSED = 5.0
    SUCCESS = 0.1

    def __init__(self) -> None:
        self.tokens = self.FULL
        self.full = True

    @property
    def open(self) -> bool:
        """Whether another hidden retry is allowed."""
        return self.tokens > self.CLOSED

    def take(self) -> None:
        """A request is sent again."""
        self.tokens = max(0.0, self.tokens - 1)
        self.full = False

    def success(self) -> None:
        """A request has been answered."""
        self.tokens = min(self.FULL, self.tokens + self.SUCCESS)
        self.full = self.tokens >= self.FULL
