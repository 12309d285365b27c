"""Small servers for the doctor and `code` to meet: a health answer, raw bytes, an outbound proxy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

HEALTHY = b'{"status":"ok","version":"9.9.9"}'
Handler = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """A server on loopback and the request heads it has seen."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[Server]:
    """Serve one request per connection with `handler`, which gets the head."""
    found = Server()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            found.heads.append(head)
            await handler(head, reader, writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()


def answering(body: bytes, status: str = "200 OK", headers: str = "") -> Handler:
    """Answer every request with this."""
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{headers}\r\n".encode()
    return saying(head + body)


def saying(data: bytes) -> Handler:
    """Answer every request with these bytes."""

    async def handler(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return handler


def tunnelling(port: int, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> Handler:
    """An outbound proxy to `port` on loopback, whatever was asked for; a CONNECT gets `answer`."""

    async def handler(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tunnel = head.startswith(b"CONNECT ")
        if tunnel:
            writer.write(answer)
            await writer.drain()
        if tunnel and not answer.startswith(b"HTTP/1.1 200"):
            return
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        if not tunnel:
            up_writer.write(head)
        await asyncio.gather(pipe(reader, up_writer), pipe(up_reader, writer))

    return handler


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
