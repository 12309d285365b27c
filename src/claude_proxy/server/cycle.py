"""One request and its response, between the connection and the app: ASGI's `receive` and `send`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import compress
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from claude_proxy.errors import ProxyError
from claude_proxy.names import NameMemory

if TYPE_CHECKING:
    from .protocol import HardenedProtocol

log = structlog.get_logger("server")

# How many bytes of the request body are buffered ahead of the app.
HIGH_WATER = 64 * 1024
# Smaller chunks are copied into a single write; for larger ones the copy costs more than two extra buffers.
_COPY_BELOW = 16 * 1024

# Response headers that the server always sets itself; the app's are ignored (RFC 9112 sections 6 and 9).
_OURS = frozenset({b"content-length", b"connection", b"transfer-encoding", b"keep-alive", b"date", b"server"})
_is_the_apps = NameMemory(lambda name: name not in _OURS).__getitem__
_name = itemgetter(0)
_line = b": ".join
_BODILESS = frozenset({204, 304})
_DISCONNECT = {"type": "http.disconnect"}

_FAILED = "The proxy hit an internal error; its log has the details. Please report it."


class Cycle:
    """One request and its response. The connection feeds in the body; the app calls `receive` and `send`.

    Attributes:
        headers: the request headers, the same list as in the scope.
        fields: the same headers by name; of repeated ones, the last.
        loop: the event loop it runs in.
    """

    __slots__ = (
        "_amid_chunks",
        "_chunks",
        "_end_delivered",
        "_event",
        "_expects_continue",
        "_leaving",
        "_left",
        "_old_http",
        "_queued",
        "_unsent_head",
        "_until_close",
        "app",
        "body_complete",
        "chunked",
        "complete",
        "connection",
        "fields",
        "gone",
        "headers",
        "keep_alive",
        "loop",
        "scope",
        "started",
        "task",
    )

    def __init__(
        self,
        connection: HardenedProtocol,
        app: Any,
        scope: dict[str, Any],
        fields: dict[bytes, bytes],
        *,
        keep_alive: bool,
    ) -> None:
        self.connection = connection
        self.loop = connection.loop
        self.app = app
        self.task: asyncio.Task[None] | None = None
        self.scope = scope
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.fields = fields
        self.keep_alive = keep_alive
        self.body_complete = False
        self.started = self.complete = self.gone = False
        self.chunked = self._amid_chunks = False
        self._old_http = scope["http_version"] == "1.0"
        self._expects_continue = b"expect" in fields and fields[b"expect"].lower() == b"100-continue" and not self._old_http
        self._until_close = False
        self._left = 0
        self._unsent_head = b""
        self._chunks: list[bytes] = []
        self._queued = 0
        self._end_delivered = False
        self._event: asyncio.Event | None = None
        self._leaving: Callable[[], None] | None = None

    # Called by the connection

    def feed(self, body: bytes) -> None:
        """Accept a chunk of the request body."""
        if self.complete or self.gone:
            return
        self._chunks.append(body)
        self._queued += len(body)
        # For pipelined requests the connection limits the total instead, and keeps reading to notice a disconnect.
        if self._queued > HIGH_WATER and self.connection.running is self:
            self.connection.flow.pause_reading()
        if self._event is not None:
            self._event.set()

    def end_of_body(self) -> None:
        self.body_complete = True
        if self._event is not None:
            self._event.set()

    def disconnect(self) -> None:
        """The client has disconnected, or the connection can no longer carry a response."""
        self.gone = True
        self._amid_chunks = False
        if self._event is not None:
            self._event.set()
        leaving, self._leaving = self._leaving, None
        if leaving is not None:
            leaving()

    # Called by the app

    async def run(self) -> None:
        """Call the app. An app that returns before completing its response cuts it on purpose; that is not an error."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._abandon()
        except Exception:  # any of them: a fault of the app costs this request, not the connection's protocol
            log.exception("app_failed", path=self.scope["path"])
            self._abandon()
        else:
            if not self.complete:
                if not (self.started or self.gone):
                    log.error("app_gave_no_response", path=self.scope["path"])
                self._abandon()
        finally:
            task, self.task = self.task, None
            self.connection.on_task_end(task)

    def _abandon(self) -> None:
        if self.complete or self.gone:
            return
        self._send_head()
        self.gone = True
        self._amid_chunks = False
        if self.started:
            self.connection.cut(hard=self._until_close)
        else:
            self.connection.give_up(self, ProxyError(_FAILED))

    async def receive(self) -> dict[str, Any]:
        """ASGI `receive`: body chunks as they arrive, then `http.disconnect` once the exchange is over."""
        if self._expects_continue:
            self._expects_continue = False
            if not (self.started or self.gone or self._chunks):
                self.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self._chunks or self.gone or self.complete or (self.body_complete and not self._end_delivered)):
            if self._event is None:
                self._event = asyncio.Event()
            self._event.clear()
            await self._event.wait()
        if self.gone or self.complete:
            return _DISCONNECT
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if chunks:
            self._chunks = []
            self._queued = 0
            self.connection.flow.resume_reading()
        self._end_delivered = self.body_complete
        return {"type": "http.request", "body": body, "more_body": not self.body_complete}

    async def send(self, message: dict[str, Any]) -> None:
        """ASGI `send`. Waits while the client reads slowly; does nothing once it has disconnected."""
        flow = self.connection.flow
        if flow.write_paused and not self.gone:
            await flow.drain()
        if self.gone:
            return
        if self.started:
            if message["type"] != "http.response.body" or self.complete:
                raise RuntimeError(f"ASGI message {message['type']!r} is out of order")
            self._send_body(message.get("body", b""), message.get("more_body", False))
        elif message["type"] == "http.response.start":
            self._unsent_head = self._head(message["status"], message.get("headers", ()))
            self.started = True
            self.loop.call_soon(self._send_head)  # unless the first body chunk is sent before, together with the head
        else:
            raise RuntimeError(f"ASGI message {message['type']!r} came before 'http.response.start'")

    def write(self, body: bytes) -> bool:
        """Write a body chunk, but not the last one, without awaiting.

        Returns False and writes nothing while the client reads slowly or after it has disconnected; use `send` then.
        """
        connection, size = self.connection, len(body)
        if connection.flow.write_paused:
            return False
        if self._amid_chunks and size < _COPY_BELOW and size:  # the same as `_send_body`, in half the steps
            connection.transport.write(b"%x\r\n%b\r\n" % (size, body))
            return True
        if self.gone or self.complete or not self.started:
            return False
        self._send_body(body, True)
        return True

    def watch(self, leaving: Callable[[], None] | None) -> None:
        """Call `leaving` if the client disconnects before the response ends, at once if it already has; None unregisters."""
        if leaving is not None and self.gone:
            leaving()
        elif not self.complete:
            self._leaving = leaving

    def body(self) -> bytes | None:
        """Return the whole request body without awaiting if all of it is here and none was received yet, else None."""
        if not self.body_complete or self._end_delivered or self.gone or self.complete or self._expects_continue:
            return None
        chunks, self._chunks = self._chunks, []
        self._queued = 0
        self._end_delivered = True
        if self.connection.flow.read_paused:
            self.connection.flow.resume_reading()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Write a whole response without awaiting. Returns False and writes nothing if `write` would, or if one has begun."""
        if self.gone or self.complete or self.started or self.connection.flow.write_paused:
            return False
        head = self._head(status, headers)
        self.started = True
        if self._left == len(body) < _COPY_BELOW and not (self.chunked or self._until_close):
            self.connection.transport.write(head + body)
            self._end()
        else:
            self._unsent_head = head
            self._send_body(body, False)
        return True

    def abort(self) -> None:
        """Drop the client's connection at once."""
        self.connection.abort()

    # The response on the wire

    def _send_head(self) -> None:
        """Write the head if no body chunk has taken it along yet."""
        head, self._unsent_head = self._unsent_head, b""
        if head and not self.gone:
            self.connection.transport.write(head)

    def _head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        names = [*map(_name, headers)]
        lines = [*map(_line, compress(headers, map(_is_the_apps, names)))]
        text = b"".join(lines)
        if b"\n" in text or b"\r" in text or b"\0" in text:
            raise RuntimeError("a response header holds CR, LF or NUL")
        if b"connection" in names and b"close" in dict(headers)[b"connection"].lower():
            self.keep_alive = False
        length = dict(headers)[b"content-length"] if b"content-length" in names else None
        lines.append(self._framing(status, length))
        return b"".join((STATUS_LINE[status], self.connection.default_block(), b"\r\n".join(lines)))

    def _framing(self, status: int, length: bytes | None) -> bytes:
        """Decide how the body is framed (RFC 9112 section 6.3) and return the last lines of the head."""
        if self._expects_continue and not self.body_complete:
            self.keep_alive = False  # RFC 9110 section 10.1.1: the body may or may not follow
        lines = b"" if length is None else b"content-length: %b\r\n" % length
        if self.scope["method"] == "HEAD" or status in _BODILESS:
            self._left = -1
        elif length is not None:
            self._left = int(length)
        elif self._old_http:
            self._until_close = True
            self.keep_alive = False
        else:
            self.chunked = True
            lines = b"transfer-encoding: chunked\r\n"
        if not self.keep_alive:
            return lines + b"connection: close\r\n\r\n"
        if self._old_http:
            return lines + b"connection: keep-alive\r\n\r\n"
        return lines + b"\r\n"

    def _send_body(self, body: bytes, more: bool) -> None:
        if self.chunked:
            if body:
                self._write(b"%x\r\n" % len(body), body, b"\r\n" if more else b"\r\n0\r\n\r\n")
                self._amid_chunks = True
            elif not more:
                self._write(b"0\r\n\r\n", b"", b"")
        elif self._until_close:
            self._write(b"", body, b"")
        elif self._left >= 0:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the response's body and its Content-Length differ")
            self._write(b"", body, b"")
        else:
            self._send_head()  # this response has no body
        if not more:
            self._end()

    def _end(self) -> None:
        self.complete = True
        self._amid_chunks = False
        self._leaving = None
        self._chunks.clear()
        if self._event is not None:
            self._event.set()
        self.connection.on_response_complete(self)

    def _write(self, before: bytes, body: bytes, after: bytes) -> None:
        """Write all parts at once, together with a pending head; a large body is not copied."""
        if self._unsent_head:
            before = self._unsent_head + before
            self._unsent_head = b""
        if len(body) < _COPY_BELOW or not self.connection.vectored:
            self.connection.transport.write(b"".join((before, body, after)))
        else:
            self.connection.transport.writelines((before, body, after) if before else (body, after))
