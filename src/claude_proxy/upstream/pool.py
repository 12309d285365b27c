"""The connections to one upstream: kept alive, expired when idle, bounded in number. Last in, first out."""

from __future__ import annotations

import asyncio
import select
import ssl
from collections import deque
from pathlib import Path

from claude_proxy.errors import Unavailable, UpstreamTimeout
from claude_proxy.upstream.connection import Address, Connection
from claude_proxy.upstream.dial import Origin, dial, tls_context
from claude_proxy.upstream.outbox import Outbox

FRESH = 0.05  # seconds for which an idle connection is taken without asking the kernel whether the peer closed it


class Pool:
    """Connections to one origin.

    Args:
        origin: where to.
        ca_file: PEM authorities to trust instead of the system's.
        connect_timeout: seconds for a connection, TLS included, and for a free place when `limit` are open.
        expiry: seconds an idle connection is kept.
        limit: connections open at once.
    """

    def __init__(self, origin: Origin, ca_file: Path | None = None, *, connect_timeout: float, expiry: float, limit: int) -> None:
        self.origin = origin
        self._ca_file = ca_file
        self._tls: ssl.SSLContext | None = None
        self._connect_timeout = connect_timeout
        self._expiry = expiry
        self._limit = limit
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._dialing = 0
        self._outbox: Outbox | None = None
        self._queue: deque[asyncio.Future[None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closing = False
        self.own: set[tuple[Address, Address]] = set()  # (our address, theirs) of each open connection

    def __len__(self) -> int:
        return len(self._open)

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    def take(self, now: float) -> Connection | None:
        """An idle connection that is still good, or None. Does not wait."""
        while self._idle:
            connection = self._idle.pop()
            resting = now - connection.idle_since
            expired = resting >= self._lifetime(connection)
            if not (connection.closed or expired or (resting >= FRESH and _readable(connection.fileno))):
                return connection
            connection.abort()
        return None

    async def connect(self, loop: asyncio.AbstractEventLoop) -> Connection:
        """A new connection; when `limit` are open, the first that becomes free.

        Raises:
            ConnectFailed: it could not be made.
            UpstreamTimeout: it took longer than the connect timeout.
            Unavailable: no place became free in that time.
        """
        placed = False
        connection: Connection | None = None
        try:
            async with asyncio.timeout(self._connect_timeout):
                freed = await self._place(loop)
                if freed is not None:
                    return freed
                placed = True
                if self.origin.tls and self._tls is None:
                    self._tls = tls_context(self._ca_file)
                self._outbox = self._outbox or Outbox(loop)
                connection = await dial(loop, self.origin, self._tls, Connection(loop, self._closed, self._outbox))
        except TimeoutError:
            raise self._late() if placed else self._full() from None
        finally:
            if placed:
                self._dialing -= 1
                if connection is None:
                    self._next_turn()  # the place that was kept for it is free again
        self._open.add(connection)
        if connection.local is not None and connection.peer is not None:
            self.own.add((connection.local, connection.peer))
        if connection.closed:
            self._closed(connection)
        return connection

    def release(self, connection: Connection, now: float) -> None:
        """Take a connection back whose exchange is over; it is closed if it cannot serve another."""
        if not connection.reusable or self._closing or self._expiry <= 0:
            connection.abort()
            return
        connection.idle_since = now
        connection.idle_for = _keep_alive_timeout(connection) if b"keep-alive" in connection.fields else None
        self._idle.append(connection)
        if self._queue:
            self._next_turn()
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self._expiry, self._sweep)

    def close(self) -> None:
        """Close every connection."""
        self._closing = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._open):
            connection.abort()

    async def _place(self, loop: asyncio.AbstractEventLoop) -> Connection | None:
        """Wait until one more connection may be opened (and count it), or return one that became free."""
        join = self._queue.append
        while len(self._open) + self._dialing >= self._limit:
            turn = loop.create_future()
            join(turn)
            join = self._queue.appendleft  # who was woken and found the place taken does not begin at the end again
            try:
                await turn
            except BaseException:
                if turn.done() and not turn.cancelled():
                    self._next_turn()
                raise
            freed = self.take(loop.time())
            if freed is not None:
                return freed
        self._dialing += 1
        return None

    def _next_turn(self) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection.local is not None and connection.peer is not None:
            self.own.discard((connection.local, connection.peer))
        if connection in self._idle:
            self._idle.remove(connection)
        self._next_turn()

    def _late(self) -> UpstreamTimeout:
        return UpstreamTimeout(
            f"No connection to {self.origin.host}:{self.origin.port} within {self._connect_timeout:g} s. "
            "Check the network and BASE_URL (CONNECT_TIMEOUT sets the limit).",
            code="connect_timeout",
        )

    def _full(self) -> Unavailable:
        return Unavailable(f"All {self._limit} connections to {self.origin.host} are in use (MAX_CONNECTIONS). Try again soon.")

    def _lifetime(self, connection: Connection) -> float:
        return self._expiry if connection.idle_for is None else min(self._expiry, connection.idle_for)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in [c for c in self._idle if now - c.idle_since >= self._lifetime(c)]:
            self._idle.remove(connection)
            connection.abort()
        self._sweeper = loop.call_later(self._expiry / 2, self._sweep) if self._idle else None


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
        if key.lower() == b"timeout" and number.isdigit():
            return max(0.0, int(number) - 1.0)
    return None
