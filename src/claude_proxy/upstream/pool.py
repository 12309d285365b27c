"""The connections to one upstream: kept for the next request, closed when idle for too long, bounded in number.

Each open connection, and each that is being made, takes one of `limit` places. A request takes an idle connection (the one
used last, so that the others can expire), else a free place to open a new connection in. When there is neither it joins the
queue, and what becomes free is handed to whoever has waited longest: it is never up for grabs in between, so a newcomer
cannot overtake. While anybody waits there is therefore no idle connection and no free place.
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

FRESH = 0.05  # seconds for which an idle connection is taken without asking whether it is still good


class Pool:
    """Connections to one origin.

    Args:
        origin: where to.
        ca_file: PEM authorities to trust instead of the system's.
        connect_timeout: seconds for a connection, TLS included, and for a free place when `limit` are open.
        expiry: seconds an idle connection is kept; 0 keeps none.
        limit: connections open at once.
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
        self._idle: list[Connection] = []  # of the open ones; the one used last is last
        self._dialing = 0  # places taken for connections that are being made
        self._queue: OrderedDict[asyncio.Future[Connection | None], None] = OrderedDict()  # a set in order of arrival
        self._handed: set[Connection] = set()  # given to a waiter that has not run since
        self._outbox: Outbox | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self.own: set[tuple[Address, Address]] = set()  # (our address, theirs) of each open connection

    def __len__(self) -> int:
        return len(self._open)

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Requests that wait for a connection."""
        return len(self._queue)

    # -- what an attempt does

    def take(self, now: float) -> Connection | None:
        """An idle connection that is still good, or None. Does not wait."""
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
        """A new connection; when `limit` are open, the first that becomes free.

        Raises:
            ConnectFailed: it could not be made.
            UpstreamTimeout: it took longer than the connect timeout.
            Unavailable: no place became free in that time, this machine has no descriptor left, or the pool is closed.
        """
        deadline = loop.time() + self._connect_timeout
        connection = await self._turn(loop, deadline)
        return connection or await self._new(loop, deadline)

    def release(self, connection: Connection, now: float) -> None:
        """Take a connection back whose exchange is over; it is closed if it cannot serve another."""
        connection.idle_since = now
        connection.idle_for = _keep_alive_timeout(connection) if b"keep-alive" in connection.fields else None
        if not connection.reusable or self._closing or self._lifetime(connection) <= 0:
            connection.abort()
        elif not self._hand_over(connection):
            self._idle.append(connection)

    def close(self) -> None:
        """Close every connection; nobody gets a new one."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self._open):
            connection.abort()
        while self._hand_over(None):  # they wake, and are told
            self._dialing += 1

    # -- places and turns

    async def _turn(self, loop: asyncio.AbstractEventLoop, deadline: float) -> Connection | None:
        """Wait for a connection that became free, or for a place to open one in: then None, and the place is reserved."""
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
            if turn.done() and not turn.cancelled():  # handed something in the moment it gave up
                self._pass_on(turn.result())
            if isinstance(error, TimeoutError):
                raise self._full() from None
            raise
        return connection if connection is not None and self._accept(connection) else None

    def _hand_over(self, connection: Connection | None) -> bool:
        """Give a connection, or a place (None), to whoever has waited longest. False if nobody waits."""
        while self._queue:
            turn, _ = self._queue.popitem(last=False)
            if not turn.done():  # else cancelled, and about to leave the queue by itself
                turn.set_result(connection)
                if connection is not None:
                    self._handed.add(connection)
                return True
        return False

    def _accept(self, connection: Connection) -> bool:
        """Whether a connection that was handed over is still open. If not, its place has been kept (see `_closed`)."""
        if connection not in self._handed:
            return False
        self._handed.discard(connection)
        return True

    def _pass_on(self, connection: Connection | None) -> None:
        """A waiter gave up with a connection, or a place, in its hands."""
        if connection is not None and self._accept(connection):
            self.release(connection, connection.idle_since)
        else:
            self._dialing -= 1
            self._place_freed()

    def _place_freed(self) -> None:
        if self._hand_over(None):
            self._dialing += 1

    # -- connections

    async def _new(self, loop: asyncio.AbstractEventLoop, deadline: float) -> Connection:
        """Make a connection in the place that `_turn` reserved."""
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
        if connection.closed:  # at once: `_closed` was called before it was one of ours
            self._closed(connection)
        if self._closing:
            connection.abort()
        elif self._timer is None:
            self._timer = loop.call_later(self._look_every, self._look, loop)
        return connection

    def _closed(self, connection: Connection) -> None:
        """A connection is gone; called by the connection, once."""
        if connection not in self._open:
            return  # it was never made: its place is counted in `_dialing`
        self._open.discard(connection)
        if connection.local is not None and connection.peer is not None:
            self.own.discard((connection.local, connection.peer))
        if connection in self._handed:  # the waiter it was handed to opens another in its place
            self._handed.discard(connection)
            self._dialing += 1
            return
        if connection in self._idle:
            self._idle.remove(connection)
        self._place_freed()

    def _is_good(self, connection: Connection, resting: float) -> bool:
        if connection.closed or resting >= self._lifetime(connection):
            return False
        return resting < FRESH or not _readable(connection.fileno)

    def _lifetime(self, connection: Connection) -> float:
        return self._expiry if connection.idle_for is None else min(self._expiry, connection.idle_for)

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().abort()

    # -- a look at all of them, now and then

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

    # -- what a client is told

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
    """Whether an idle socket has something to say: a close that the event loop has not seen yet, or garbage."""
    if descriptor < 0:
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _keep_alive_timeout(connection: Connection) -> float | None:
    """Seconds the upstream says it keeps an idle connection (`Keep-Alive: timeout=5`), less one for the way."""
    for part in connection.fields[b"keep-alive"].split(b","):
        key, _, number = part.strip().partition(b"=")
        if key.lower() == b"timeout" and number.isdigit() and len(number) < 10:  # a longer one is no time, nor an int at all
            return max(0.0, int(number) - 1.0)
    return None
