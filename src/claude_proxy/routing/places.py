"""Places in the queue of requests that we have refused for now: the same request, sent again, continues there. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

KEPT = 60.0  # seconds; with our `retry-after` the client is back within 56
MOST = 2000


class Place(NamedTuple):
    """A kept place: seniority, first arrival, and until when it is kept."""

    seq: int
    since: float
    until: float


class Places:
    """The kept places, by what identifies a request."""

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[Hashable, Place] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def keep(self, key: Hashable, seq: int, since: float, now: float) -> None:
        """Keep a place from now on; the oldest are dropped where there are too many."""
        self._by_key.pop(key, None)
        self._by_key[key] = Place(seq, since, now + KEPT)
        while self._by_key:
            oldest = next(iter(self._by_key))
            if len(self._by_key) <= MOST and self._by_key[oldest].until > now:
                break
            del self._by_key[oldest]

    def take(self, key: Hashable, now: float) -> Place | None:
        """The place of a request that has come again; None if there is none, or not any more."""
        place = self._by_key.pop(key, None)
        return place if place is not None and place.until > now else None
