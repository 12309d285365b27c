"""The limit of requests at once that a provider sets on each key. Pure: time is an argument."""

from __future__ import annotations

from collections import defaultdict


class Limiter:
    """Counts requests per key and refuses those above the limit.

    A slot is not free at once when its answer has ended, but ``lag`` seconds later: providers count on their own side, and
    lag behind what the client sees.

    Attributes:
        limit: requests at once per key; None is unlimited.
        lag: seconds for which a slot stays taken after its answer.
        most: the most requests that were in progress at once under one key.
    """

    def __init__(self, limit: int | None = None, lag: float = 0.0) -> None:
        self.limit = limit
        self.lag = lag
        self.most = 0
        self._running: defaultdict[str, set[int]] = defaultdict(set)
        self._ended: defaultdict[str, list[float]] = defaultdict(list)

    def enter(self, key: str, request: int, now: float) -> bool:
        """Take a slot for a request; False if there is none, and nothing is taken."""
        running = self._running[key]
        self._ended[key] = [ended for ended in self._ended[key] if now - ended < self.lag]
        if self.limit is not None and len(running) + len(self._ended[key]) >= self.limit:
            return False
        running.add(request)
        self.most = max(self.most, len(running))
        return True

    def leave(self, key: str, request: int, now: float) -> None:
        """Give the slot of a request back; a request that has none changes nothing."""
        if request in self._running[key]:
            self._running[key].discard(request)
            self._ended[key].append(now)
