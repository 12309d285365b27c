"""One connection to an upstream: writes a request, parses its response, with flow control both ways.

httptools (llhttp) parses; this class keeps the state around it. One exchange at a time, no pipelining. Nothing is
buffered beyond `HIGH_WATER` each way: a slow client pauses the upstream, a slow upstream pauses the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from claude_proxy.errors import BadResponse, ConnectionLost, ProxyError

HIGH_WATER = 64 * 1024
READ_AHEAD = 1024 * 1024
MAX_HEAD = 256 * 1024
Header = tuple[bytes, bytes]
Address = tuple[str, int]


class Connection(asyncio.Protocol):
    """A TCP or TLS connection, reusable for one exchange after another.

    Args:
        loop: the running event loop.
        on_close: called once when the connection is gone.

    Attributes:
        status, headers: of the response, once `head()` has returned; names lower-case, order kept.
        complete: whether the response has arrived whole.
        idle_since: loop time at which it was put back into the pool.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_close: Callable[[Connection], None]) -> None:
        self._loop = loop
        self._on_close = on_close
        self._transport = cast("asyncio.Transport", None)
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._write_paused = False
        self.closed = False
        self.used = 0
        self.idle_since = 0.0
        self.idle_for: float | None = None
        self.local: Address | None = None
        self.peer: Address | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._begin(is_head=False)
        self.complete = True  # nothing is awaited before the first request

    def _begin(self, *, is_head: bool) -> None:
        """Ready for the next response."""
        self.status = 0
        self.headers: list[Header] = []
        self.complete = False
        self._is_head = is_head
        self._head_done = False
        self._framed = False
        self._head_size = 0
        self._body: list[bytes] = []
        self._buffered = 0
        self._error: ProxyError | None = None
        self._nudged = False
        self._keep_alive = False

    # -- what an attempt does

    def send(self, head: bytes, body: bytes, *, is_head: bool = False) -> None:
        """Write a request's head and what there is of its body.

        Raises:
            ConnectionLost: the connection's close was seen before a byte was written.
        """
        if self.closed or self._transport.is_closing():
            raise ConnectionLost(_LOST, code="stale_connection")
        self._begin(is_head=is_head)
        self.used += 1
        self._transport.write(head + body if body else head)

    def write(self, data: bytes) -> None:
        """Write more of the request body; does not wait.

        Raises:
            ConnectionLost: the connection is gone.
        """
        if self.closed or self._transport.is_closing():
            raise ConnectionLost(_LOST)
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
        while not self._head_done:
            if self._error is not None:
                raise self._error
            await self._wait()
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
            if self.complete:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait()
        return self.take()

    def take(self) -> bytes:
        """The bytes of the body that are here already; does not wait."""
        if not self._body:
            return b""
        parts = self._body
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._body = []
        self._buffered = 0
        if self._reading_paused and not self.closed:
            self._reading_paused = False
            self._transport.resume_reading()
        return data

    def nudge(self) -> None:
        """Wake a `read()` that waits, so that silence can be looked at."""
        self._nudged = True
        self._wake()

    def push_back(self, data: bytes) -> None:
        """Give bytes back that were read too early: the next `read()` begins with them."""
        self._body.insert(0, data)

    @property
    def has_bytes(self) -> bool:
        """Whether `read()` would not have to wait for bytes."""
        return bool(self._body)

    @property
    def finished(self) -> bool:
        """Whether `read()` has nothing left to give."""
        return self.complete and not self._body

    @property
    def reusable(self) -> bool:
        """Whether another request may follow on this connection."""
        return self.complete and self._keep_alive and not self.closed and not self._write_paused and not self.unsent

    def abort(self) -> None:
        """Close now; what is still to be written is dropped."""
        if not self.closed:
            self._transport.abort()

    @property
    def fileno(self) -> int:
        """The socket's descriptor, -1 if there is none any more."""
        sock = None if self.closed else self._transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: ProxyError) -> None:
        if not self.complete and self._error is None:
            self._error = error
        self._wake()

    # -- what the transport tells us

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(READ_AHEAD)
        self.local = _address(transport.get_extra_info("sockname"))
        self.peer = _address(transport.get_extra_info("peername"))

    def data_received(self, data: bytes) -> None:
        if self.complete:  # an answer that nobody asked for: whose would it be?
            self._keep_alive = False
            self._transport.abort()
            return
        try:
            self._feed(data)
        except ProxyError as error:
            self._keep_alive = False
            self._fail(error)
            self._transport.abort()
        if self._buffered > HIGH_WATER and not self._reading_paused and not self.closed:
            self._reading_paused = True
            self._transport.pause_reading()
        self._wake()

    def _feed(self, data: bytes) -> None:
        if not self._head_done:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            cause = error.__context__
            raise (cause if isinstance(cause, ProxyError) else _broken(error)) from None
        if self._head_size > MAX_HEAD and not self._head_done:
            raise _head_too_large()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if not self.complete:
            if self._head_done and not self._framed and exc is None:
                self.complete = True  # RFC 9112 section 6.3, item 8: the close is the end
            else:
                self._fail(ConnectionLost(_CUT if self._head_done else _LOST))
        self._keep_alive = False
        self._wake()
        self.resume_writing()
        self._on_close(self)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # -- what the parser tells us

    def on_message_begin(self) -> None:
        if self.complete:  # in one packet with the answer we asked for, which must stay as it is
            raise BadResponse("The upstream sent an answer that nobody asked for; its side has to mend that.")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            return  # a trailer: ASGI has no way to pass it on
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._framed = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            if status == 101:
                raise BadResponse("The upstream switched protocols unasked; its side has to mend that.")
            self.headers, self._framed = [], False  # an interim answer: the real one follows
            return
        if status > 599:
            raise BadResponse(f"The upstream answered with status {status}, which HTTP does not have; its side has to mend that.")
        # Packets may have brought body as well: only when they add up to too much are the fields themselves counted.
        if self._head_size > MAX_HEAD and sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD:
            raise _head_too_large()
        self.status = status
        self._head_done = True
        self._keep_alive = self._parser.should_keep_alive()
        if self._is_head or status in (204, 304):
            # No body follows, whatever the length says (RFC 9112 section 6.3); llhttp cannot be told, so it is replaced.
            self._framed = self.complete = True
            self._parser = httptools.HttpResponseParser(self)

    def on_body(self, data: bytes) -> None:
        if self.complete:  # a body where none may be: nobody knows how much of it is still to come
            self._keep_alive = False
        else:
            self._body.append(data)
            self._buffered += len(data)

    def on_message_complete(self) -> None:
        if self._head_done:
            self.complete = True


_LOST = "The upstream closed the connection before it answered. Nothing is wrong with the request; try again."
_CUT = "The upstream's answer broke off before its end."


def _broken(error: Exception) -> BadResponse:
    return BadResponse(f"The upstream's answer is not valid HTTP/1.1 ({error}); its side, or BASE_URL, has to be mended.")


def _head_too_large() -> BadResponse:
    return BadResponse(f"The upstream sent headers of more than {MAX_HEAD // 1024} KiB; its side has to mend that.")


def _address(name: object) -> Address | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None
