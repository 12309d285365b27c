"""Whether an upstream answers unusually slowly, compared with itself. Pure: time is an argument."""

from __future__ import annotations

from collections import deque
from statistics import median

RECENT = 600.0  # seconds
ENOUGH_RECENT = 8  # answers
ENOUGH_BEFORE = 50  # answers before them: fewer do not show what is usual
SLOW = 10.0  # seconds: less is never worth a notice
TIMES = 4.0  # the usual
BACK = 2.0  # times the usual: below that it is over
MAX_BEFORE = 500
MAX_RECENT = 200


class Latency:
    """The time until an upstream's response head, lately and before."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque(maxlen=MAX_RECENT)
        self._before: deque[float] = deque(maxlen=MAX_BEFORE)
        self.slow = False

    def add(self, seconds: float, now: float) -> None:
        """Count an answer."""
        if len(self._recent) == MAX_RECENT:
            self._retire(self._recent.popleft()[1])
        self._recent.append((now, seconds))

    def judge(self, now: float) -> tuple[float, float] | None:
        """Bring `slow` up to date; returns the median lately and the usual one where that changed or it is slow."""
        while self._recent and now - self._recent[0][0] > RECENT:
            self._retire(self._recent.popleft()[1])
        was = self.slow
        if len(self._before) < ENOUGH_BEFORE or len(self._recent) < ENOUGH_RECENT:
            self.slow = self.slow and bool(self._recent)
            return (0.0, 0.0) if was and not self.slow else None
        lately, usual = median(seconds for _, seconds in self._recent), median(self._before)
        self.slow = lately >= max(SLOW, TIMES * usual) or (was and lately > BACK * usual)
        return (lately, usual) if self.slow or was else None

    def _retire(self, seconds: float) -> None:
        """An answer of a slow time is not usual."""
        if not self.slow:
            self._before.append(seconds)
