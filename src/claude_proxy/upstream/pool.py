"""A connection pool for one upstream: reuses connections, closes those idle for too long, and limits their number.

Each connection that is open or being opened takes one of `limit` places. A request takes the most recently used idle
connection (so that the others can expire), else a free place in which to open a new one. If there is neither, it joins a
queue. A connection or place that becomes free is handed directly to the first waiter, so that a new request cannot
overtake it. Hence, while any request waits, there is no idle connection and no free place.
"""

from __future__ import annotations

import asyncio
import select
from collections import OrderedDict
from pathlib import Path

from claude_proxy.errors import Unavailable, UpstreamTimeout
from claude_proxy.upstream.connection import Address, Connection
from claude_proxy.upstream.dial import Dialer, Origin
from claude_proxy.upstream.liveness import spare_slow_reader
from claude_proxy.upstream.outbox import Outbox
from claude_proxy.upstream.suspend import SuspendWatch

FRESH = 0.05  # seconds during which an idle connection is reused without checking it


class Pool:
    """Connections to one origin.

    Args:
        origin: the upstream's address.
        ca_file: PEM authorities to trust instead of the system's.
        connect_timeout: seconds to connect, including TLS and the wait for a free place.
        expiry: seconds an idle connection is kept; 0 keeps none.
        limit: the most connections open at once.
        dialer: makes the connections; by default to `origin`, trusting `ca_file`.
        suspend_watch: tells whether the machine was suspended.
    """

    def __init__(
        self,
        origin: Origin,
        ca_file: Path | None = None,
        *,
        connect_timeout: float,
        expiry: float,
        limit: int,
        dialer: Dialer | None = None,
        suspend_watch: SuspendWatch | None = None,
    ) -> None:
        self.origin = origin
        self._dialer = dialer or Dialer(origin, ca_file)
        self._suspend_watch = suspend_watch or SuspendWatch()
        self._connect_timeout = connect_timeout
        self._expiry = expiry
        self._limit = limit
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []  # the most recently used one is last
        self._dialing = 0  # connections being opened
        self._queue: OrderedDict[asyncio.Future[Connection | None], None] = OrderedDict()  # an ordered set, first come first
        self._handed: set[Connection] = set()  # handed to a waiter that has not run yet
        self._outbox: Outbox | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self.own: set[tuple[Address, Address]] = set()  # (local, remote) address of each open connection

    def __len__(self) -> int:
        return len(self._open)

    @property
    def idle(self) -> int:
        """Number of idle connections."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Number of requests waiting for a connection."""
        return len(self._queue)

    # -- called by an attempt

    def take(self, now: float) -> Connection | None:
        """Return a usable idle connection, or None. Does not wait."""
        while self._idle:
            connection = self._idle.pop()
            resting = now - connection.idle_since
            if resting >= FRESH and self._suspend_watch.was_suspended():
                self._drop_idle()
            elif self._is_good(connection, resting):
                return connection
            connection.abort()
        return None

    async def connect(self, loop: asyncio.AbstractEventLoop) -> Connection:
        """Open a new connection; if `limit` are open, wait for one to become free.

        Raises:
            ConnectFailed: it could not be made.
            UpstreamTimeout: connecting took longer than the connect timeout.
            Unavailable: no place became free in time, this machine has no descriptor left, or the pool is closed.
        """
        deadline = loop.time() + self._connect_timeout
        connection = await self._turn(loop, deadline)
        return connection or await self._new(loop, deadline)

    def release(self, connection: Connection, now: float) -> None:
        """Return a connection after its exchange; it is closed if it cannot be reused."""
        connection.idle_since = now
        connection.idle_for = _keep_alive_timeout(connection) if b"keep-alive" in connection.fields else None
        lasts = self._expiry if connection.idle_for is None else self._lifetime(connection)
        if not connection.reusable or self._closing or lasts <= 0:
            connection.abort()
        elif not (self._queue and self._hand_over(connection)):
            self._idle.append(connection)

    def close(self) -> None:
        """Close every connection and open no new ones."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self._open):
            connection.abort()
        while self._hand_over(None):  # waiters wake up and fail
            self._dialing += 1

    def retire(self) -> None:
        """Keep no connection any more: each closes after its exchange. Exchanges that still need the pool can use it."""
        self._expiry = 0.0
        self._drop_idle()

    # -- places and the queue

    async def _turn(self, loop: asyncio.AbstractEventLoop, deadline: float) -> Connection | None:
        """Wait for a connection, or for a place to open one in: then return None, with the place reserved."""
        if not self._queue and len(self._open) + self._dialing < self._limit:
            self._dialing += 1
            return None
        turn = loop.create_future()
        self._queue[turn] = None
        try:
            async with asyncio.timeout_at(deadline):
                connection = await turn
        except BaseException as error:
            self._queue.pop(turn, None)
            if turn.done() and not turn.cancelled():  # handed something just as it gave up
                self._pass_on(turn.result())
            if isinstance(error, TimeoutError):
                raise self._full() from None
            raise
        return connection if connection is not None and self._accept(connection) else None

    def _hand_over(self, connection: Connection | None) -> bool:
        """Give a connection, or a place (None), to the first waiter. Return False if there is none."""
        while self._queue:
            turn, _ = self._queue.popitem(last=False)
            if not turn.done():  # otherwise it was cancelled and removes itself from the queue
                turn.set_result(connection)
                if connection is not None:
                    self._handed.add(connection)
                return True
        return False

    def _accept(self, connection: Connection) -> bool:
        """Whether a handed-over connection is still open. If not, its place stays reserved (see `_closed`)."""
        if connection not in self._handed:
            return False
        self._handed.discard(connection)
        return True

    def _pass_on(self, connection: Connection | None) -> None:
        """Pass on a connection or place that was handed to a waiter which has given up."""
        if connection is not None and self._accept(connection):
            self.release(connection, connection.idle_since)
        else:
            self._dialing -= 1
            self._place_freed()

    def _place_freed(self) -> None:
        if self._hand_over(None):
            self._dialing += 1

    # -- opening and closing

    async def _new(self, loop: asyncio.AbstractEventLoop, deadline: float) -> Connection:
        """Open a connection in the place that `_turn` reserved."""
        connection = None
        try:
            if self._closing:
                raise self._stopping()
            self._outbox = self._outbox or Outbox(loop)
            attempt = Connection(loop, self._closed, self._outbox)
            async with asyncio.timeout_at(deadline):
                await self._dialer.connect(loop, attempt)
            connection = attempt
        except TimeoutError:
            raise self._late() from None
        finally:
            self._dialing -= 1
            if connection is None:
                self._place_freed()
        return self._opened(loop, connection)

    def _opened(self, loop: asyncio.AbstractEventLoop, connection: Connection) -> Connection:
        self._open.add(connection)
        if connection.local is not None and connection.peer is not None:
            self.own.add((connection.local, connection.peer))
        if connection.closed:  # it closed at once: `_closed` ran before the pool knew it
            self._closed(connection)
        if self._closing:
            connection.abort()
        elif self._timer is None:
            self._timer = loop.call_later(self._look_every, self._look, loop)
        return connection

    def _closed(self, connection: Connection) -> None:
        """A connection has closed; called once, by the connection."""
        if connection not in self._open:
            return  # it was never established; its place is counted in `_dialing`
        self._open.discard(connection)
        if connection.local is not None and connection.peer is not None:
            self.own.discard((connection.local, connection.peer))
        if connection in self._handed:  # the waiter it was handed to will open another in its place
            self._handed.discard(connection)
            self._dialing += 1
            return
        if connection in self._idle:
            self._idle.remove(connection)
        self._place_freed()

    def _is_good(self, connection: Connection, resting: float) -> bool:
        lasts = self._expiry if connection.idle_for is None else self._lifetime(connection)
        if connection.closed or resting >= lasts:
            return False
        return resting < FRESH or not _readable(connection.fileno)

    def _lifetime(self, connection: Connection) -> float:
        return self._expiry if connection.idle_for is None else min(self._expiry, connection.idle_for)

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().abort()

    # -- periodic checks

    @property
    def _look_every(self) -> float:
        every = self._dialer.probing.look_every
        return min(every, self._expiry / 2) if self._expiry > 0 else every

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        if self._suspend_watch.was_suspended():
            self._drop_idle()
        for connection in [c for c in self._idle if now - c.idle_since >= self._lifetime(c)]:
            self._idle.remove(connection)
            connection.abort()
        for connection in self._open:
            spare_slow_reader(connection.fileno, self._dialer.probing)
        self._timer = loop.call_later(self._look_every, self._look, loop) if self._open else None

    # -- errors

    def _late(self) -> UpstreamTimeout:
        return UpstreamTimeout(
            f"No connection to {self.origin.host}:{self.origin.port} within {self._connect_timeout:g} s. "
            "Check the network and BASE_URL (CONNECT_TIMEOUT sets the limit).",
            code="connect_timeout",
        )

    def _full(self) -> Unavailable:
        return Unavailable(f"All {self._limit} connections to {self.origin.host} are in use (MAX_CONNECTIONS). Try again soon.")

    def _stopping(self) -> Unavailable:
        return Unavailable("The proxy is stopping and opens no new connection. Try again soon.", code="draining")


def _readable(descriptor: int) -> bool:
    """Whether an idle socket is readable: the peer has closed it or sent unexpected bytes."""
    if descriptor < 0:
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _keep_alive_timeout(connection: Connection) -> float | None:
    """Seconds the upstream keeps an idle connection (`Keep-Alive: timeout=5`), minus one for latency."""
    for part in connection.fields[b"keep-alive"].split(b","):
        key, _, number = part.strip().partition(b"=")
        if key.lower() == b"timeout" and number.isdigit() and len(number) < 10:  # a longer one is no time, nor an int at all
            return max(0.0, int(number) - 1.0)
    return None
