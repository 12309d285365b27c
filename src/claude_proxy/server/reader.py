"""Parses requests with llhttp and makes the checks that llhttp does not. No transport, no clock."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

import httptools

from claude_proxy.names import Collector

from .head import (
    SINGLE,
    Headers,
    Target,
    check_framing,
    check_host,
    check_target,
    check_version,
    doubled,
    explain,
    refuse,
    wants_websocket,
    without_upgrade,
)
from .limits import Limits
from .refusal import RefusedError


class Phase(IntEnum):
    """What the reader is in the middle of. DEAF: further input is discarded."""

    BETWEEN = 0
    HEAD = 1
    BODY = 2
    DEAF = 3


NOWHERE = Target(b"", b"", None)
# Looking up an enum member takes twice as long as a global, and these are compared for every packet.
BETWEEN, HEAD, BODY, DEAF = Phase


class BodySink(Protocol):
    """Where a request's body goes."""

    def feed(self, body: bytes, /) -> None: ...
    def end_of_body(self) -> None: ...


class RequestReader:
    """Reads one connection. For each request, `take` is called once the head is complete and checked; it returns the
    sink for the body.

    Attributes:
        method, version, target, headers, keep_alive: of the request for which `take` is called; names of headers lower-case.
        fields: the same headers by name, the last of several.
    """

    def __init__(self, limits: Limits, take: Callable[[], BodySink]) -> None:
        self.phase = BETWEEN
        self.method = ""
        self.version = "1.1"
        self.target = NOWHERE
        self.headers: Headers = []
        self.fields: dict[bytes, bytes] = {}
        self.keep_alive = False
        self._unframed = 0  # bytes of packets that neither completed a head nor contained body
        self._held_body = False
        self._packet = 0
        self._surely_small = False  # this head began in a packet no larger than the limit
        self._limits = limits
        self._take = take
        self._sink: BodySink | None = None
        self._collector = Collector(strip=True)
        self.on_header = self._collector.on_header
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._upgrading = False

    def feed(self, data: bytes) -> None:
        """Parse more bytes. After a RefusedError, nothing more may be fed."""
        self._packet = len(data)
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as stop:
                # llhttp stops after the head, expecting another protocol to follow. We support none, so the same head
                # is parsed again without its Upgrade (RFC 9110 section 7.8).
                data = self._head_without_upgrade() + data[stop.args[0] :]
            except httptools.HttpParserError as error:
                cause = error.__context__
                if isinstance(cause, RefusedError):
                    raise cause from None
                if cause is not None:
                    raise cause from error
                raise explain(str(error), data) from None
            else:
                return

    def unfinished(self, size: int) -> None:
        """Call this when a packet of `size` bytes has ended within a head or a body.

        Within a body only bytes that are not body data count: chunk extensions and trailers.
        Raises RefusedError when their sum exceeds the size limit of a head.
        """
        self._surely_small = False
        if self._held_body:
            self._held_body = False
            self._unframed = 0
            return
        self._unframed += size
        limits = self._limits
        if self.phase == HEAD and len(self._target) > limits.target_bytes:
            raise self._target_too_long()
        if self._unframed > limits.head_bytes:
            raise self._head_too_large()

    def close(self) -> None:
        """Drop the parser, which holds a reference to us."""
        self.phase = DEAF
        del self._parser

    # llhttp's events, besides `on_header`. Fields after `on_headers_complete` are trailers, which ASGI cannot carry

    def on_message_begin(self) -> None:
        self.phase = HEAD
        self._surely_small = self._packet <= self._limits.head_bytes
        self.method = ""
        self._target = b""
        self._collector.found.clear()
        self._upgrading = False

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_headers_complete(self) -> None:
        parser = self._parser
        headers = self.headers = self._collector.take()
        limits = self._limits
        if not self._surely_small or len(headers) > limits.header_count or len(self._target) > limits.target_bytes:
            self._check_size()
        fields = self.fields = dict(headers)
        if len(fields) != len(headers):
            self._check_single()
        method = self.method = parser.get_method().decode("ascii")
        version = self.version = parser.get_http_version()
        target = self.target = check_target(method, self._target)
        if version != "1.1":
            check_version(version)
        if b"transfer-encoding" in fields:
            check_framing(version, fields[b"transfer-encoding"])
        check_host(version, fields.get(b"host"))
        if parser.should_upgrade():
            if wants_websocket(headers):
                raise refuse(400, "websocket", "The request asks for a WebSocket, and this server has none.")
            self._upgrading = True
            return
        if target.authority is not None:
            self.headers = [(b"host", target.authority), *[pair for pair in headers if pair[0] != b"host"]]
            fields[b"host"] = target.authority
        self.phase = BODY
        self._unframed = 0
        self._held_body = True  # this packet completed a head
        self.keep_alive = parser.should_keep_alive()
        self._sink = self._take()
        self.headers, self.fields = [], {}  # the sink owns them now

    def on_body(self, body: bytes) -> None:
        self._held_body = True
        assert self._sink is not None
        self._sink.feed(body)

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        self.phase = BETWEEN
        assert self._sink is not None
        self._sink.end_of_body()

    # Helpers

    def _head_without_upgrade(self) -> bytes:
        self._parser = httptools.HttpRequestParser(self)
        lines = [self.method.encode("ascii"), b" ", self._target, b" HTTP/1.1\r\n"]
        for name, value in without_upgrade(self.headers):
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _check_single(self) -> None:
        """Some field is repeated: refuse the request if it is one that may occur only once."""
        seen: set[bytes] = set()
        for name, _ in self.headers:
            if name in SINGLE and name in seen:
                raise doubled(name)
            seen.add(name)

    def _check_size(self) -> None:
        limits = self._limits
        if len(self._target) > limits.target_bytes:
            raise self._target_too_long()
        if len(self.headers) > limits.header_count:
            raise refuse(431, "too_many_headers", f"The request has more than {limits.header_count} headers.")
        if self._surely_small:
            return
        if sum([len(name) + len(value) + 4 for name, value in self.headers]) > limits.head_bytes:
            raise self._head_too_large()

    def _target_too_long(self) -> RefusedError:
        limit = self._limits.target_bytes
        return refuse(414, "target_too_long", f"The request target is longer than {limit} bytes.")

    def _head_too_large(self) -> RefusedError:
        limit = self._limits.head_bytes
        return refuse(431, "headers_too_large", f"The request's headers are larger than {limit} bytes.")
