"""The yardstick: about the least that a Python reverse proxy can do, with the libraries that claude-proxy uses.

uvicorn with uvloop and httptools takes requests, a raw ASGI function hands each to a kept connection to the upstream, and
httptools reads the answer. There are no timeouts, no limits, no accounting and no error handling (any failure is a stack
trace): it exists only to be measured. Its cost is the cost of the libraries; the rest of our figure is the cost of our
features.

``python benchmarks/bare.py PORT UPSTREAM_PORT``
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httptools
import uvicorn

DROPPED_REQUEST = frozenset((b"host", b"connection", b"content-length", b"transfer-encoding"))
DROPPED_ANSWER = frozenset((b"connection", b"transfer-encoding", b"date", b"server"))


class Upstream(asyncio.Protocol):
    """One kept connection. It serves one exchange at a time."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.waiting: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, request: bytes) -> None:
        """Begin an exchange."""
        self.parser = httptools.HttpResponseParser(self)
        self.fields: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        self.status = 0
        self.finished = False
        self.transport.write(request)

    async def more(self) -> None:
        """Return when something has come."""
        self.waiting = self.loop.create_future()
        await self.waiting

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()

    def on_body(self, chunk: bytes) -> None:
        self.chunks.append(chunk)

    def on_message_complete(self) -> None:
        self.finished = True


class Bare:
    """The proxy, as an ASGI application."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.host = b"127.0.0.1:%d" % port
        self.idle: list[Upstream] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = self.head(scope, await self.body(receive))
        upstream = self.idle.pop() if self.idle else await self.connect()
        upstream.send(request)
        while not upstream.status:
            await upstream.more()
        fields = [pair for pair in upstream.fields if pair[0] not in DROPPED_ANSWER]
        await send({"type": "http.response.start", "status": upstream.status, "headers": fields})
        more = True
        while more:
            if not upstream.chunks and not upstream.finished:
                await upstream.more()
            chunk, upstream.chunks = b"".join(upstream.chunks), []
            more = not upstream.finished
            await send({"type": "http.response.body", "body": chunk, "more_body": more})
        self.idle.append(upstream)

    async def connect(self) -> Upstream:
        """A new connection."""
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Upstream, "127.0.0.1", self.port))[1]

    async def body(self, receive: Any) -> bytes:
        """The whole request body."""
        message = await receive()
        if not message.get("more_body"):
            return bytes(message["body"])
        parts = [message["body"]]
        while message.get("more_body"):
            message = await receive()
            parts.append(message["body"])
        return b"".join(parts)

    def head(self, scope: Any, body: bytes) -> bytes:
        """The request as it goes upstream."""
        fields = b"".join([b"%b: %b\r\n" % pair for pair in scope["headers"] if pair[0] not in DROPPED_REQUEST])
        line = b"%b %b?%b" % (scope["method"].encode(), scope["raw_path"], scope["query_string"])
        return b"%b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (line, self.host, fields, len(body), body)


def main() -> None:
    """Serve until a signal comes."""
    port, upstream = map(int, sys.argv[1:])
    app = Bare(upstream)
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", ws="none", lifespan="off", access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
