"""When an account may be asked again: pauses after refusals, one careful request after them, a cap on starts per minute. Pure."""

from __future__ import annotations

from collections import deque
from random import Random

from claude_proxy.routing.limit import Lease

PAUSE = 1.0  # seconds after a concurrency refusal
BRIEF = 0.1  # seconds; the first pause if a slot that was given back late explains the refusal
PAUSE_MOST = 30.0
JITTER = 0.2
CAREFUL = 1.0  # seconds without a refusal after which a request sent after a pause counts as accepted
WINDOW = 60.0  # seconds over which starts are counted
CAP_UP = 300.0  # seconds until the cap is raised by one
DRY = 2  # refusals in a row with nothing in flight, from which on
YIELDS = 5  # a request that has been refused so often lets others go first
MOST_STARTS = 1000  # starts that are remembered; a cap is below


class Pace:
    """The pauses of one account.

    Attributes:
        calm: nothing is in the way: no pause, no careful request, no cap. Checked for each request, so it is kept.
        until: end of the pause.
        cap: how many requests may start within 60 s; None if there is no such bound.
    """

    __slots__ = (
        "_began", "_careful", "_dry", "_late", "_raise_at", "_rate_run", "_rng", "_starts", "_trial", "calm", "cap", "until",
    )  # fmt: skip

    def __init__(self, rng: Random) -> None:
        self.calm = True
        self.until = 0.0
        self.cap: int | None = None
        self._began = float("-inf")
        self._careful = False
        self._trial: Lease | None = None
        self._dry = 0  # concurrency refusals in a row with nothing in flight
        self._late = 0  # doublings of the brief pause: one more for each refusal, two less when a request is accepted
        self._rate_run = 0  # rate refusals in a row
        self._raise_at = 0.0
        self._starts: deque[float] = deque(maxlen=MOST_STARTS)
        self._rng = rng

    def opens_at(self, now: float) -> float | None:
        """When the next request may be sent; None if at once."""
        if self.calm:
            return None
        if now < self.until:
            return self.until
        if self._careful and self._trial is not None and self._trial.undecided:
            decided = self._trial.sent_at + CAREFUL
            if now < decided:
                return decided
            self._careful = False
        if self.cap is not None:
            return self._cap_opens_at(now)
        self.calm = not self._careful
        return None

    @property
    def in_trouble(self) -> bool:
        """Whether nothing has been accepted since the last refusal."""
        return self._careful

    def is_fresh(self, lease: Lease) -> bool:
        """Whether it was sent after the last pause began. What was under way then says nothing new when it is refused too."""
        return lease.sent_at >= self._began

    def send(self, lease: Lease, now: float) -> None:
        """A request is sent."""
        self._starts.append(now)
        if self._careful and (self._trial is None or not self._trial.undecided):
            self._trial = lease

    def head(self, lease: Lease) -> None:
        """The upstream has accepted it."""
        if not self.calm and lease.sent_at >= self.until:
            self._careful = False
            self._dry = self._rate_run = 0
            self._late = max(0, self._late - 2)  # not 0: after several pauses that were too short the next one is longer

    def concurrency(
        self, lease: Lease, now: float, *, alone: bool, retry_after: float | None, delay: float | None = None
    ) -> None:
        """It was refused because too many run.

        Args:
            alone: nothing else of ours was in flight.
            retry_after: what the upstream asks for, in seconds.
            delay: how late the upstream gives slots back, if that explains the refusal; None if not.
        """
        if self.is_fresh(lease):
            self._pause(now, self._seconds(alone, delay) * self._rng.uniform(1 - JITTER, 1 + JITTER))
        if retry_after is not None:
            self._pause(now, retry_after)

    def _seconds(self, alone: bool, delay: float | None) -> float:
        """How long to pause: briefly at first if only a slot is late, and ever longer while nothing of ours can be the reason."""
        if delay is not None:
            brief = max(BRIEF, delay) * 2.0**self._late
            if brief < PAUSE:
                self._late += 1
                return brief
        if not alone:
            return PAUSE
        self._dry += 1
        return min(PAUSE_MOST, PAUSE * 2.0 ** (self._dry - 1))

    def yields(self, refusals: int) -> float:
        """For how many seconds a request lets others go first that has been refused so often before.

        If requests are refused with nothing in flight, it may be only this one, whatever runs beside it. As the oldest it would
        be sent first after each pause, and hold up all others.
        """
        if self._dry < DRY or refusals < YIELDS:
            return 0.0
        return min(PAUSE_MOST, PAUSE * 2.0 ** (refusals - YIELDS))

    def rate(self, lease: Lease, now: float, retry_after: float | None) -> None:
        """It was refused because too many started in a while. Without a `retry-after` the starts per minute are capped."""
        if retry_after is not None:
            self._pause(now, retry_after)
        elif self.is_fresh(lease):
            self._rate_run += 1
            seconds = min(PAUSE_MOST, PAUSE * 2.0 ** (self._rate_run - 1))
            self._pause(now, seconds * self._rng.uniform(1 - JITTER, 1 + JITTER))
            self.cap, self._raise_at = max(1, self.starts(now) - 1), now + CAP_UP

    def starts(self, now: float) -> int:
        """How many requests have started within the last 60 s, refused ones included."""
        while self._starts and self._starts[0] + WINDOW <= now:
            self._starts.popleft()
        return len(self._starts)

    def _pause(self, now: float, seconds: float) -> None:
        self.until = max(self.until, now + seconds)
        self._began, self._careful, self._trial, self.calm = now, True, None, False

    def _cap_opens_at(self, now: float) -> float | None:
        assert self.cap is not None
        while self._raise_at <= now:
            self.cap, self._raise_at = self.cap + 1, self._raise_at + CAP_UP
        if self.cap >= MOST_STARTS:
            self.cap = None
            return None
        started = self.starts(now)
        return None if started < self.cap else self._starts[started - self.cap] + WINDOW
