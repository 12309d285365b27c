"""What runs now, and who watches: the exchanges of this process, and readers that are told when one starts or ends.

On the path an exchange costs one entry in a dictionary; with readers, an append for each of them. What is shown of an exchange is
read from it when a reader takes the event, never on the path. A reader that does not keep up loses the oldest events and is told
how many.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from claude_proxy.exchange import Exchange, Listener, Outcome, Usage

QUEUE = 256  # events that wait for one reader
MAX_WATCHERS = 50
_NO_USAGE = Usage()


class What(enum.StrEnum):
    """What an event says."""

    STARTED = "started"
    ENDED = "ended"
    LOST = "lost"
    HEARTBEAT = "heartbeat"


class Event(NamedTuple):
    """One event; `data` is JSON."""

    what: What
    data: dict[str, Any]


class Full(Exception):
    """There are as many watchers as there may be."""


class Watcher:
    """One reader of events: `next` in a loop, until it gives None. Used on the event loop."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._waiting: deque[tuple[What, Exchange]] = deque()
        self._lost = 0
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._ended = False

    def put(self, what: What, exchange: Exchange) -> None:
        """Take an event; never waits."""
        if len(self._waiting) >= self._limit:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append((what, exchange))
        self._wake.set()

    def end(self) -> None:
        """The process stops: what waits is still given out, then None."""
        self._ended = True
        self._wake.set()
        self._stop.set()

    def take_ended(self) -> list[Exchange]:
        """The exchanges that ended since the last call, for a reader that looks now and then and does not use `next`."""
        waiting, self._waiting, self._lost = self._waiting, deque(), 0
        return [exchange for what, exchange in waiting if what is What.ENDED]

    async def rest(self, seconds: float) -> bool:
        """Wait; returns False at once when the process stops."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return True
        return False

    async def next(self, patience: float) -> Event | None:
        """The next event; a heartbeat when there is none for `patience` seconds; None at the end."""
        while not self._waiting and not self._ended:
            self._wake.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._wake.wait()
            except TimeoutError:
                return Event(What.HEARTBEAT, {"at": _rfc3339(time.time())})
        if self._lost:
            lost, self._lost = self._lost, 0
            return Event(What.LOST, {"events": lost})
        if not self._waiting:
            return None
        what, exchange = self._waiting.popleft()
        return Event(what, item(exchange, self._clock()))


class Live(Listener):
    """The listener that knows what runs.

    Args:
        clock: event-loop seconds, as the exchanges' own times are.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._running: dict[str, Exchange] = {}
        self._watchers: set[Watcher] = set()
        self._states: dict[str, str] = {}
        self._ended = False

    def on_exchange_start(self, exchange: Exchange) -> None:
        self._running[exchange.id] = exchange
        for watcher in self._watchers:
            watcher.put(What.STARTED, exchange)

    def on_exchange_end(self, exchange: Exchange) -> None:
        self._running.pop(exchange.id, None)
        for watcher in self._watchers:
            watcher.put(What.ENDED, exchange)

    def on_upstream_state(self, upstream: str, state: str) -> None:
        self._states[upstream] = state

    async def aclose(self) -> None:
        self.end()

    def end(self) -> None:
        """The process stops: readers get what waits, and are let go. Called on the event loop."""
        self._ended = True
        for watcher in self._watchers:
            watcher.end()

    def running(self) -> list[dict[str, Any]]:
        """The exchanges that run, the oldest first, brought up to date."""
        now = self._clock()
        return [item(exchange, now) for exchange in list(self._running.values())]

    @property
    def exchanges(self) -> list[Exchange]:
        """The exchanges that run, the oldest first, as they are."""
        return list(self._running.values())

    def of_upstream(self, upstream: str) -> tuple[int, str]:
        """How many exchanges run at an upstream, and the state it is in (`up` as long as nobody said otherwise)."""
        count = sum(exchange.upstream == upstream for exchange in self._running.values())
        return count, self._states.get(upstream, "up")

    def watch(self, limit: int = QUEUE) -> Watcher:
        """A reader of what starts and ends from now on; `unwatch` it.

        Raises:
            Full: there are too many.
        """
        if len(self._watchers) >= MAX_WATCHERS:
            raise Full
        watcher = Watcher(limit, self._clock)
        if self._ended:
            watcher.end()
        self._watchers.add(watcher)
        return watcher

    def unwatched(self) -> Watcher:
        """A watcher for one look, who is not told of anything."""
        return Watcher(1, self._clock)

    def unwatch(self, watcher: Watcher) -> None:
        """The reader is gone."""
        self._watchers.discard(watcher)

    @property
    def watchers(self) -> int:
        """How many readers there are."""
        return len(self._watchers)


def item(exchange: Exchange, now: float) -> dict[str, Any]:
    """An exchange, running or over, as the API shows it.

    Args:
        now: event-loop seconds.
    """
    if exchange.ended is None:
        exchange.refresh()
    usage = exchange.usage or _NO_USAGE
    end = now if exchange.ended is None else exchange.ended
    silent = None if exchange.ended is not None or exchange.heard_at is None else _ms(now - exchange.heard_at)
    return {
        "id": exchange.id,
        "started_at": _rfc3339(exchange.started_at),
        "state": exchange.state.value if exchange.ended is None else "ended",
        "kind": exchange.kind.value,
        "session": exchange.session,
        "agent": exchange.agent,
        "class": exchange.request_class,
        "client": exchange.key or exchange.client,
        "upstream": exchange.upstream or None,
        "model": exchange.model,
        "stream": exchange.stream,
        "status": exchange.status or None,
        "outcome": exchange.outcome.value if isinstance(exchange.outcome, Outcome) else None,
        "attempts": len(exchange.attempts),
        "bytes_in": exchange.bytes_in,
        "bytes_out": exchange.bytes_out,
        "usage": {
            "input_tokens": usage.input,
            "output_tokens": usage.output,
            "cache_read_input_tokens": usage.cache_read,
            "cache_creation_input_tokens": usage.cache_write,
        },
        "first_byte_ms": None if exchange.first_byte is None else _ms(exchange.first_byte),
        "duration_ms": _ms(end - exchange.started),
        "silent_ms": silent,
    }


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
