"""Running exchanges, and readers that get an event when one starts or ends.

On the path an exchange costs one entry in a dictionary; with readers, an append for each of them. What is shown of an exchange is
read from it when a reader takes the event, never on the path. A reader that does not keep up loses the oldest events and gets
their count. Events of other workers come in through `pass_on` (machine.py).
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
REMEMBERED = 20  # ended exchanges that are kept for readers that poll
_NO_USAGE = Usage()


class What(enum.StrEnum):
    """The kinds of events."""

    STARTED = "started"
    ENDED = "ended"
    LOST = "lost"
    HEARTBEAT = "heartbeat"


class Event(NamedTuple):
    """One event; `data` is JSON."""

    what: What
    data: dict[str, Any]


class Full(Exception):
    """There are already MAX_WATCHERS readers."""


class Watcher:
    """One reader of events: call `next` until it returns None. Used on the event loop."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._waiting: deque[tuple[What, Exchange | dict[str, Any]]] = deque()
        self._lost = 0
        self._wake = asyncio.Event()
        self._ended = False
        self._cut = False

    def put(self, what: What, exchange: Exchange | dict[str, Any]) -> None:
        """Add an event; never waits.

        Args:
            exchange: of this process, or as another worker described it.
        """
        if len(self._waiting) >= self._limit:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append((what, exchange))
        self._wake.set()

    def lose(self, events: int) -> None:
        """Count events that another worker had to drop."""
        self._lost += events
        self._wake.set()

    def end(self) -> None:
        """The process stops: `next` returns the events that wait, then None."""
        self._ended = True
        self._wake.set()

    def cut(self) -> None:
        """The reader may no longer read: what waits is dropped, and `next` returns None."""
        self._cut = True
        self.end()

    async def next(self, patience: float) -> Event | None:
        """The next event; a heartbeat when there is none for `patience` seconds; None at the end."""
        while not (self._waiting or self._lost or self._ended):
            self._wake.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._wake.wait()
            except TimeoutError:
                return Event(What.HEARTBEAT, {"at": _rfc3339(time.time())})
        if self._cut:
            return None
        if self._lost:
            lost, self._lost = self._lost, 0
            return Event(What.LOST, {"events": lost})
        if not self._waiting:
            return None
        what, exchange = self._waiting.popleft()
        return Event(what, exchange if isinstance(exchange, dict) else item(exchange, self._clock()))


class Live(Listener):
    """The listener that knows the running exchanges.

    Args:
        clock: event-loop seconds, as the exchanges' own times are.

    Attributes:
        on_watched: called with True when the first reader comes, and with False once the last one is gone.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._running: dict[str, Exchange] = {}
        self._watchers: set[Watcher] = set()
        self._siblings: set[Watcher] = set()  # readers in other workers, which get this worker's own events only
        self.on_watched: Callable[[bool], object] = bool
        self._states: dict[str, str] = {}
        self._last: deque[Exchange] = deque(maxlen=REMEMBERED)
        self._ended = False
        self._stop = asyncio.Event()

    def on_exchange_start(self, exchange: Exchange) -> None:
        self._running[exchange.id] = exchange
        if self._watchers or self._siblings:
            self._tell(What.STARTED, exchange)

    def on_exchange_end(self, exchange: Exchange) -> None:
        self._running.pop(exchange.id, None)
        self._last.append(exchange)
        if self._watchers or self._siblings:
            self._tell(What.ENDED, exchange)

    def _tell(self, what: What, exchange: Exchange) -> None:
        for watcher in (*self._watchers, *self._siblings):
            watcher.put(what, exchange)

    def on_upstream_state(self, upstream: str, state: str) -> None:
        self._states[upstream] = state

    async def aclose(self) -> None:
        self.end()

    def end(self) -> None:
        """The process stops: readers get the events that wait, then None. Called on the event loop."""
        self._ended = True
        self._stop.set()
        for watcher in (*self._watchers, *self._siblings):
            watcher.end()

    async def rest(self, seconds: float) -> bool:
        """Sleep; returns False, at once, when the process stops."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return True
        return False

    @property
    def exchanges(self) -> list[Exchange]:
        """The running exchanges, the oldest first, not brought up to date."""
        return list(self._running.values())

    def running(self) -> list[dict[str, Any]]:
        """The running exchanges, the oldest first, brought up to date, as the API shows them."""
        now = self._clock()
        return [item(exchange, now) for exchange in list(self._running.values())]

    def ended_since(self, at: float) -> list[Exchange]:
        """The exchanges that ended since `at`, the oldest first; at most the last REMEMBERED.

        Args:
            at: event-loop seconds.
        """
        return [exchange for exchange in self._last if exchange.ended is not None and exchange.ended >= at]

    def of_upstream(self, upstream: str) -> tuple[int, str]:
        """How many exchanges run at an upstream, and its state (`up` until another one is reported)."""
        count = sum(exchange.upstream == upstream for exchange in self._running.values())
        return count, self._states.get(upstream, "up")

    def watch(self, limit: int = QUEUE) -> Watcher:
        """Return a reader of all events from now on, other workers' included; end it with `unwatch`.

        Raises:
            Full: there are too many.
        """
        if len(self._watchers) >= MAX_WATCHERS:
            raise Full
        watcher = self._made(limit)
        self._watchers.add(watcher)
        if len(self._watchers) == 1:
            self.on_watched(True)
        return watcher

    def watch_own(self, limit: int = QUEUE) -> Watcher:
        """Return a reader for another worker, which gets the events of this one only; end it with `unwatch`."""
        watcher = self._made(limit)
        self._siblings.add(watcher)
        return watcher

    def unwatch(self, watcher: Watcher) -> None:
        """Remove a reader."""
        self._siblings.discard(watcher)
        if watcher in self._watchers:
            self._watchers.discard(watcher)
            if not self._watchers:
                self.on_watched(False)

    def pass_on(self, what: What, data: dict[str, Any]) -> None:
        """Give this worker's readers an event of another worker, as that one's `Watcher.next` returned it."""
        for watcher in self._watchers:
            if what is What.LOST:
                watcher.lose(data["events"])
            elif what is not What.HEARTBEAT:
                watcher.put(what, data)

    def _made(self, limit: int) -> Watcher:
        watcher = Watcher(limit, self._clock)
        if self._ended:
            watcher.end()
        return watcher

    @property
    def watchers(self) -> int:
        """How many readers there are in this process."""
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
        "place": None if exchange.place is None else exchange.place(),
    }


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
