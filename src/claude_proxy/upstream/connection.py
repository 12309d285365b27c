"""One connection to an upstream: writes a request, parses its response, with flow control both ways.

httptools (llhttp) parses; this class keeps the state around it (`State`). One exchange at a time, no pipelining. At most
about `HIGH_WATER` bytes are buffered each way: a slow client pauses the upstream, a slow upstream pauses the client.
"""

from __future__ import annotations

import asyncio
import copy
import enum
from collections.abc import Callable
from typing import cast

import httptools

from claude_proxy.errors import BadResponse, ConnectionLost, ProxyError
from claude_proxy.names import Collector
from claude_proxy.upstream.framing import MAX_DIGITS, MAX_HEAD, cause, head_too_large, is_chunked, new_parser, without_nul
from claude_proxy.upstream.outbox import Outbox

HIGH_WATER = 64 * 1024
SMALL = 8 * 1024  # bytes; fits into any socket's empty send buffer
READ_AHEAD = 1024 * 1024
Header = tuple[bytes, bytes]
Address = tuple[str, int]


class State(enum.IntEnum):
    """How far a connection has come in its exchange. The order matters: states are compared with `<`."""

    IDLE = 0  # no request yet
    QUEUED = 1  # the request is in the outbox; nothing has been written
    SENT = 2  # at least part of the request is written; no response head yet
    BODY = 3  # the head has been read, the body has not ended
    COMPLETE = 4  # the whole response has arrived
    FAILED = 5  # the response cannot complete; `read` and `head` raise the reason


IDLE, QUEUED, SENT, BODY, COMPLETE, FAILED = State  # see `exchange.py`


class Connection(asyncio.Protocol):
    """A TCP or TLS connection, reusable for one exchange after another.

    Args:
        loop: the running event loop.
        on_close: called once when the connection is gone.
        outbox: shared by the connections of a pool; by default the connection has its own.

    Attributes:
        state: how far the current exchange has come.
        status, headers: of the response, once `head()` has returned; names are lower-case, in the original order.
        fields: the same headers by name; of repeated ones, the last.
        closed: whether the transport is closed; a complete response may still be unread.
        idle_since: loop time at which it was put back into the pool.
        passing: set by a caller waiting in `read()`; called with body bytes as they arrive, but not with the last ones. If it
            returns True it has consumed them, and `read()` does not wake.
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
        self._collector = Collector(strip=False)
        self.on_header = self._collector.on_header
        self._parser = new_parser(self)
        self._begin(is_head=False)
        self.state = IDLE

    def _begin(self, *, is_head: bool) -> None:
        """Reset the state of the previous exchange."""
        self.state = SENT
        self.status = 0
        self.headers: list[Header] = []
        self.fields: dict[bytes, bytes] = {}
        self._is_head = is_head
        self._ends_with_connection = False  # the body has neither length nor chunks: the close ends it
        self._head_size = 0
        self._has_nul = False
        self._body: list[bytes] = []  # received but not yet read
        self.buffered = 0
        # Copies of it are raised: the traceback of one that is kept here would lead back here, a cycle for the collector.
        self._error: ProxyError | None = None
        self._nudged = False
        self._keep_alive = False
        self._request = b""  # to be written by the outbox

    # -- called by an attempt

    def send(self, head: bytes, body: bytes, *, is_head: bool = False) -> None:
        """Write a request's head and the available part of its body.

        A request small enough for the kernel's buffer goes through the outbox, at the end of this event loop iteration.

        Raises:
            ConnectionLost: the connection was found closed before anything was written.
        """
        if self.closed or self._transport.is_closing():
            raise ConnectionLost(_LOST, code="stale_connection")
        self._begin(is_head=is_head)
        self.used += 1
        data = head + body if body else head
        if len(data) <= SMALL:
            self._request = data
            self.state = QUEUED
            self._outbox.put(self._write_queued)
        else:
            self._transport.write(data)

    def _write_queued(self) -> None:
        if self.state is QUEUED and not self._transport.is_closing():
            data, self._request = self._request, b""
            self.state = SENT
            self._transport.write(data)

    def write(self, data: bytes) -> None:
        """Write more of the request body, without waiting.

        Raises:
            ConnectionLost: the connection is closed; with code `stale_connection` if nothing of the request was written.
        """
        if self.closed or self._transport.is_closing():
            raise self._lost() if self._error is None else copy.copy(self._error)
        self._write_queued()
        self._transport.write(data)

    async def drained(self) -> None:
        """Wait until at most half the read-ahead is still unwritten, or the connection is closed."""
        if self._write_paused and not self.closed:
            self._writable = self._loop.create_future()
            await self._writable

    @property
    def unsent(self) -> int:
        """Return the number of bytes that the kernel has not accepted yet."""
        return 0 if self.closed else self._transport.get_write_buffer_size()

    async def head(self) -> int:
        """Wait for the status and headers; return the status.

        Raises:
            ConnectionLost: closed without a response.
            BadResponse: the upstream did not send a valid HTTP/1.1 response.
        """
        while not self.status:
            if self._error is not None:
                raise copy.copy(self._error)
            await self._arrival()
        return self.status

    async def read(self) -> bytes | None:
        """Wait for the next bytes of the body; b"" at its end, None after `nudge()`.

        Raises:
            ConnectionLost: the connection closed in the middle of the body.
            BadResponse: the body's framing is invalid.
        """
        while not self._body:
            if self._nudged:
                self._nudged = False
                return None
            if self.state is COMPLETE:
                return b""
            if self._error is not None:
                raise copy.copy(self._error)
            await self._arrival()
        return self.take()

    def take(self) -> bytes:
        """Return the body bytes received so far, without waiting."""
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
        """Make a waiting `read()` return None, so that its caller can react to silence."""
        self._nudged = True
        self.wake()

    def release_headers(self) -> None:
        """Drop the response's headers except for those the pool needs."""
        self.headers = []
        self.fields = {name: value for name, value in self.fields.items() if name == b"keep-alive"}

    @property
    def complete(self) -> bool:
        """Whether the whole response has arrived; some of it may be unread."""
        return self.state is COMPLETE

    @property
    def finished(self) -> bool:
        """Whether the whole response has arrived and been read."""
        return self.state is COMPLETE and not self._body

    @property
    def broken(self) -> ProxyError | None:
        """Why the response cannot complete; None until everything that arrived has been read."""
        return None if self._body or self._error is None else copy.copy(self._error)

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request."""
        if self.state is not COMPLETE or self._body or self.closed or not self._keep_alive:
            return False
        return not (self.reading_paused or self._write_paused or self._transport.get_write_buffer_size())

    def abort(self) -> None:
        """Close now and drop unwritten data."""
        if not self.closed and self._transport is not None:
            self._transport.abort()

    @property
    def fileno(self) -> int:
        """Return the socket's descriptor, or -1 if it is closed."""
        sock = None if self.closed else self._transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    def _arrival(self) -> asyncio.Future[None]:
        waiter = self._waiter = self._loop.create_future()
        return waiter

    def wake(self) -> None:
        """Wake a waiting `read()`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: ProxyError) -> None:
        self._keep_alive = False
        self.passing = None
        if QUEUED <= self.state <= BODY:
            self.state = FAILED
            self._error = error

    # -- called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(READ_AHEAD)
        self.local = _address(transport.get_extra_info("sockname"))
        self.peer = _address(transport.get_extra_info("peername"))

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state is COMPLETE or state is IDLE:  # bytes that belong to no request
            self._keep_alive = False
            self._transport.abort()
            return
        try:
            if state is BODY:
                self._parser.feed_data(data)
                if self._collector.found:  # trailers, which ASGI cannot pass on
                    self._collector.found.clear()
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
        if self.state is BODY and self._ends_with_connection and exc is None:
            self.state = COMPLETE  # the close ends the body (RFC 9112 section 6.3, item 8)
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
        return ConnectionLost(_LOST, code="stale_connection" if self.state is QUEUED else None)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # -- called by the parser

    def on_message_begin(self) -> None:
        self._collector.found.clear()
        if self.state is COMPLETE:  # in the same packet as the response we wanted, which stays valid
            raise BadResponse("The upstream sent a response without a request. That has to be fixed on its side.")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        collected = self._collector.take()
        if status < 200:
            if status == 101:
                raise BadResponse("The upstream switched protocols unasked. That has to be fixed on its side.")
            return  # an interim response: the final one follows
        if status > 599:
            raise BadResponse(
                f"The upstream answered with status {status}, which HTTP does not have. That has to be fixed on its side."
            )
        # The packets may contain body too, so the fields themselves are counted only when the total is too large.
        if self._head_size > MAX_HEAD and sum(len(name) + len(value) for name, value in collected) > MAX_HEAD:
            raise head_too_large()
        if self._has_nul:
            collected = without_nul(collected)
        fields = dict(collected)
        chunked = b"transfer-encoding" in fields and is_chunked(collected)
        self._keep_alive = self._parser.should_keep_alive()
        length = fields.get(b"content-length")
        self._ends_with_connection = not chunked and length is None
        if length is not None and len(length) > MAX_DIGITS:
            raise BadResponse("The upstream's Content-Length is not a length. That has to be fixed on its side.")
        if chunked and fields.pop(b"content-length", None) is not None:  # RFC 9112 section 6.3, item 3
            collected = [pair for pair in collected if pair[0] != b"content-length"]
            self._keep_alive = False
        self.headers = collected
        self.fields = fields
        self.status = status
        self.state = BODY
        if self._is_head or status in (204, 304):
            # No body follows, whatever the length says (RFC 9112 section 6.3). llhttp cannot be told, so use a new parser.
            self.state = COMPLETE
            self._parser = new_parser(self)

    def on_body(self, data: bytes) -> None:
        if self.state is BODY:
            self._body.append(data)
        else:  # an unexpected body of unknown length
            self._keep_alive = False

    def on_message_complete(self) -> None:
        if self.state is BODY:
            self.state = COMPLETE
            self.passing = None


_LOST = "The upstream closed the connection before it answered. Nothing is wrong with the request; try again."
_SILENT = "The upstream, or the network to it, stopped responding. Nothing is wrong with the request; try again."
_CUT = "The upstream's answer broke off before its end."


def _address(name: object) -> Address | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None
