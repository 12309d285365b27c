"""One connection to an upstream: writes a request, parses its response, with flow control both ways.

httptools (llhttp) parses; this class keeps the state around it (`State`). One exchange at a time, no pipelining. At most
about `HIGH_WATER` bytes are buffered each way: a slow client pauses the upstream, a slow upstream pauses the client.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import cast

import httptools

from claude_proxy.errors import BadResponse, ConnectionLost, ProxyError
from claude_proxy.upstream.framing import MAX_HEAD, cause, head_too_large, is_chunked, new_parser, without_nul
from claude_proxy.upstream.outbox import Outbox

HIGH_WATER = 64 * 1024
SMALL = 8 * 1024  # bytes that any socket's buffer has room for
READ_AHEAD = 1024 * 1024
Header = tuple[bytes, bytes]
Address = tuple[str, int]


class State(enum.IntEnum):
    """Where a connection is in its exchange. The order matters: each state is later than the one before."""

    IDLE = 0  # no request yet
    QUEUED = 1  # a request is in the outbox; not a byte of it has been written
    SENT = 2  # written, at least in part; no response head yet
    BODY = 3  # the head has been read, the body has not ended
    COMPLETE = 4  # the response has arrived whole
    FAILED = 5  # it never will: `read` and `head` raise the reason


class Connection(asyncio.Protocol):
    """A TCP or TLS connection, reusable for one exchange after another.

    Args:
        loop: the running event loop.
        on_close: called once when the connection is gone.
        outbox: shared by the connections of a pool; by default one of its own.

    Attributes:
        state: how far the exchange has come.
        status, headers: of the response, once `head()` has returned; names lower-case, order kept.
        fields: the same headers by name, the last of several.
        closed: whether the transport is gone; a complete response may still wait to be read then.
        idle_since: loop time at which it was put back into the pool.
        passing: set by whoever waits in `read()`; called with bytes of a body that goes on, as they arrive. It returns True
            if it took them; then `read()` does not wake.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_close: Callable[[Connection], None], outbox: Outbox | None = None
    ) -> None:
        self._loop = loop
        self._outbox = outbox or Outbox(loop)
        self._on_close = on_close
        self._transport = cast("asyncio.Transport", None)
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self.reading_paused = False
        self._write_paused = False
        self.closed = False
        self.used = 0
        self.idle_since = 0.0
        self.idle_for: float | None = None
        self.passing: Callable[[bytes], bool] | None = None
        self.local: Address | None = None
        self.peer: Address | None = None
        self._collected: list[Header] = []
        self._parser = new_parser(self)
        self._begin(is_head=False)
        self.state = State.IDLE

    def _begin(self, *, is_head: bool) -> None:
        """Reset everything that belongs to one exchange."""
        self.state = State.SENT
        self.status = 0
        self.headers: list[Header] = []
        self.fields: dict[bytes, bytes] = {}
        self._is_head = is_head
        self._ends_with_connection = False  # the body has no length and no chunks: the close is its end
        self._head_size = 0
        self._has_nul = False
        self._body: list[bytes] = []  # arrived and not read yet
        self.buffered = 0
        self._error: ProxyError | None = None
        self._nudged = False
        self._keep_alive = False
        self._request = b""  # what the outbox will write

    # -- what an attempt does

    def send(self, head: bytes, body: bytes, *, is_head: bool = False) -> None:
        """Write a request's head and what there is of its body.

        A request so small that the kernel takes it whole goes through the outbox, at the end of this loop iteration.

        Raises:
            ConnectionLost: the connection's close was seen before a byte was written.
        """
        if self.closed or self._transport.is_closing():
            raise ConnectionLost(_LOST, code="stale_connection")
        self._begin(is_head=is_head)
        self.used += 1
        data = head + body if body else head
        if len(data) <= SMALL:
            self._request = data
            self.state = State.QUEUED
            self._outbox.put(self._write_queued)
        else:
            self._transport.write(data)

    def _write_queued(self) -> None:
        if self.state is State.QUEUED and not self._transport.is_closing():
            data, self._request = self._request, b""
            self.state = State.SENT
            self._transport.write(data)

    def write(self, data: bytes) -> None:
        """Write more of the request body; does not wait.

        Raises:
            ConnectionLost: the connection is gone; with code `stale_connection` if not a byte of the request was written.
        """
        if self.closed or self._transport.is_closing():
            raise self._lost() if self._error is None else self._error
        self._write_queued()
        self._transport.write(data)

    async def drained(self) -> None:
        """Wait until at most half the read-ahead is still to be written, or the connection is gone."""
        if self._write_paused and not self.closed:
            self._writable = self._loop.create_future()
            await self._writable

    @property
    def unsent(self) -> int:
        """Bytes written but not yet taken by the kernel."""
        return 0 if self.closed else self._transport.get_write_buffer_size()

    async def head(self) -> int:
        """Wait for status and headers; returns the status.

        Raises:
            ConnectionLost: closed without an answer.
            BadResponse: what came is no HTTP/1.1 response.
        """
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._arrival()
        return self.status

    async def read(self) -> bytes | None:
        """The next bytes of the body; b"" at its end, None after `nudge()`.

        Raises:
            ConnectionLost: the body broke off.
            BadResponse: its framing is broken.
        """
        while not self._body:
            if self._nudged:
                self._nudged = False
                return None
            if self.state is State.COMPLETE:
                return b""
            if self._error is not None:
                raise self._error
            await self._arrival()
        return self.take()

    def take(self) -> bytes:
        """The bytes of the body that are here already; does not wait."""
        if not self._body:
            return b""
        parts = self._body
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._body = []
        self.buffered = 0
        if self.reading_paused and not self.closed:
            self.reading_paused = False
            self._transport.resume_reading()
        return data

    def nudge(self) -> None:
        """Wake a `read()` that waits, so that silence can be looked at."""
        self._nudged = True
        self.wake()

    def release_headers(self) -> None:
        """Let go of the response's headers, but for what the pool asks."""
        self.headers = []
        self.fields = {name: value for name, value in self.fields.items() if name == b"keep-alive"}

    @property
    def complete(self) -> bool:
        """Whether the response has arrived whole; some of it may still wait to be read."""
        return self.state is State.COMPLETE

    @property
    def finished(self) -> bool:
        """Whether the response has arrived whole and been read."""
        return self.state is State.COMPLETE and not self._body

    @property
    def broken(self) -> ProxyError | None:
        """Why the response will never be whole, once all that did arrive has been read."""
        return None if self._body else self._error

    @property
    def reusable(self) -> bool:
        """Whether another request may follow on this connection."""
        quiet = not (self.reading_paused or self._write_paused or self.unsent)
        return self.finished and self._keep_alive and not self.closed and quiet

    def abort(self) -> None:
        """Close now; what is still to be written is dropped."""
        if not self.closed and self._transport is not None:
            self._transport.abort()

    @property
    def fileno(self) -> int:
        """The socket's descriptor, -1 if there is none any more."""
        sock = None if self.closed else self._transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    def _arrival(self) -> asyncio.Future[None]:
        waiter = self._waiter = self._loop.create_future()
        return waiter

    def wake(self) -> None:
        """Let a `read()` go on that waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: ProxyError) -> None:
        self._keep_alive = False
        self.passing = None
        if State.QUEUED <= self.state <= State.BODY:
            self.state = State.FAILED
            self._error = error

    # -- what the transport tells us

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(READ_AHEAD)
        self.local = _address(transport.get_extra_info("sockname"))
        self.peer = _address(transport.get_extra_info("peername"))

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state is State.COMPLETE or state is State.IDLE:  # an answer that nobody asked for: whose would it be?
            self._keep_alive = False
            self._transport.abort()
            return
        try:
            if state is State.BODY:
                self._parser.feed_data(data)
            else:
                self._feed_head(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, ProxyError) as error:
            self._fail(cause(error))
            self._transport.abort()
        body = self._body
        if self.passing is not None and body:
            chunk = body[0] if len(body) == 1 else b"".join(body)
            self._body = []
            self.buffered = 0
            if self.passing(chunk):
                return
            self._body = [chunk]
            self.buffered = len(chunk)
        elif body:
            self.buffered += len(data)
        if self.buffered > HIGH_WATER and not self.reading_paused and not self.closed:
            self.reading_paused = True
            self._transport.pause_reading()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _feed_head(self, data: bytes) -> None:
        self._head_size += len(data)
        self._has_nul = self._has_nul or b"\0" in data
        self._parser.feed_data(data)
        if self._head_size > MAX_HEAD and not self.status:
            raise head_too_large()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._keep_alive = False
        if self.state is State.BODY and self._ends_with_connection and exc is None:
            self.state = State.COMPLETE  # RFC 9112 section 6.3, item 8: the close is the end
        else:
            self._fail(self._lost(exc))
        self.resume_writing()
        self.passing = None
        self._on_close(self)
        self.wake()

    def _lost(self, cause: Exception | None = None) -> ConnectionLost:
        if isinstance(cause, TimeoutError):
            return ConnectionLost(_SILENT)
        if self.status:
            return ConnectionLost(_CUT)
        return ConnectionLost(_LOST, code="stale_connection" if self.state is State.QUEUED else None)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # -- what the parser tells us

    def on_message_begin(self) -> None:
        if self.state is State.COMPLETE:  # in one packet with the answer we asked for, which must stay as it is
            raise BadResponse("The upstream sent an answer that nobody asked for. That has to be fixed on its side.")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # afterwards come trailers: ASGI has no way to pass them on
            self._collected.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        collected, self._collected = self._collected, []
        if status < 200:
            if status == 101:
                raise BadResponse("The upstream switched protocols unasked. That has to be fixed on its side.")
            return  # an interim answer: the real one follows
        if status > 599:
            raise BadResponse(
                f"The upstream answered with status {status}, which HTTP does not have. That has to be fixed on its side."
            )
        # Packets may have brought body as well: only when they add up to too much are the fields themselves counted.
        if self._head_size > MAX_HEAD and sum(len(name) + len(value) for name, value in collected) > MAX_HEAD:
            raise head_too_large()
        if self._has_nul:
            collected = without_nul(collected)
        fields = dict(collected)
        chunked = b"transfer-encoding" in fields and is_chunked(collected)
        self._keep_alive = self._parser.should_keep_alive()
        self._ends_with_connection = not chunked and b"content-length" not in fields
        if chunked and fields.pop(b"content-length", None) is not None:  # RFC 9112 section 6.3, item 3
            collected = [pair for pair in collected if pair[0] != b"content-length"]
            self._keep_alive = False
        self.headers = collected
        self.fields = fields
        self.status = status
        self.state = State.BODY
        if self._is_head or status in (204, 304):
            # No body follows, whatever the length says (RFC 9112 section 6.3); llhttp cannot be told, so it is replaced.
            self.state = State.COMPLETE
            self._parser = new_parser(self)

    def on_body(self, data: bytes) -> None:
        if self.state is State.BODY:
            self._body.append(data)
        else:  # a body where none may be: nobody knows how much of it is still to come
            self._keep_alive = False

    def on_message_complete(self) -> None:
        if self.state is State.BODY:
            self.state = State.COMPLETE
            self.passing = None


_LOST = "The upstream closed the connection before it answered. Nothing is wrong with the request; try again."
_SILENT = "The upstream, or the network to it, is gone without a word. Nothing is wrong with the request; try again."
_CUT = "The upstream's answer broke off before its end."


def _address(name: object) -> Address | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None
