"""A thread that takes what the event loop hands it off a bounded queue: the base of the ledger's writer and of capture's worker.

The event loop never waits: what does not fit the queue is counted and dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
IDLE = 60.0
RETRY = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)  # seconds of pause after the first failure, the second ...
_NEVER = 2**62


class Background(ABC, Generic[T]):
    """The thread and its queue. `put`, `begin_stop` and `join` are the event loop's, the rest is the thread's.

    Args:
        name: of the thread.
        limit: items that may wait.
        retry: seconds of pause after each failure in a row.
    """

    def __init__(self, name: str, *, limit: int, retry: Sequence[float] = RETRY) -> None:
        self._name = name
        self._limit = limit
        self._retry = retry
        self._queue: deque[T] = deque()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._wanted = _NEVER  # items at which the thread wants to be woken
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._deadline = 0.0
        self._failures = 0  # in a row
        self._turned_away = 0  # counted by the threads that put
        self._counts = 1  # what each of these adds
        self._dropped = 0  # counted by this one

    @property
    def lost(self) -> int:
        """Items that were not kept."""
        return self._turned_away + self._dropped

    def put(self, item: T) -> bool:
        """Take an item; whether it fitted. Never waits; any thread may call it."""
        items = self._queue
        if len(items) >= self._limit:
            self._turned_away += self._counts
            return False
        items.append(item)
        if len(items) >= self._wanted:
            self._wanted = _NEVER
            self._wake.put(None)
        return True

    def start(self) -> None:
        """Start the thread. It does not keep the process alive."""
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def begin_stop(self, timeout: float) -> None:
        """Work off what waits, for at most `timeout` seconds, and end the thread."""
        self._deadline = time.monotonic() + timeout
        self._stopping = True
        self._wake.put(None)

    def join(self, timeout: float) -> bool:
        """Wait for the thread; whether it has ended."""
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    async def stop(self, timeout: float) -> bool:
        """Work off what waits, for at most `timeout` seconds, and wait for the thread; whether it has ended."""
        self.begin_stop(timeout)
        ended = await asyncio.to_thread(self.join, timeout + 1.0)
        await asyncio.sleep(0)  # runs the thread's last log calls, which are queued on this loop
        return ended

    # -- the thread

    @abstractmethod
    def _run(self) -> None:
        """The thread's work, until it is told to stop."""

    @property
    def _time_left(self) -> bool:
        """Whether another try may be made: always before a stop, then until its deadline."""
        return not self._stopping or time.monotonic() < self._deadline

    def _wait(self, *, until: int, seconds: float) -> bool:
        """Wait until so many items are there, the stop has begun, something woke us, or the time is over.

        Returns:
            Whether there is an item.
        """
        self._wanted = until  # before looking: an item that comes in between wakes us
        if len(self._queue) < until and not self._stopping and seconds > 0:
            self._pause(seconds)
        self._wanted = _NEVER
        return bool(self._queue)

    def _pause(self, seconds: float) -> None:
        """Wait until something wakes us, or the time is over."""
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=seconds)

    def _rest(self, seconds: float) -> None:
        """Wait whatever wakes us; only a stop ends it before its time."""
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            self._pause(left)

    def _back_off(self) -> float:
        """Count a failure; seconds to rest before the next try."""
        pause = self._retry[min(self._failures, len(self._retry) - 1)]
        self._failures += 1
        return pause

    def _refuse(self, *, counting: bool = True) -> None:
        """Take nothing any more.

        Args:
            counting: whether what comes is lost; otherwise nobody wants it.
        """
        self._counts = int(counting)
        self._limit = 0
