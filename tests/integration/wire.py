"""A raw HTTP/1.1 client: exactly these bytes out, exactly those bytes in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

Header = tuple[bytes, bytes]
PATIENCE = 20.0  # seconds until an answer that does not come is an error: pytest-timeout cannot interrupt a wait of uvloop's


@dataclass
class Reply:
    """A response as it stood on the wire.

    Attributes:
        body: without the chunked framing.
        whole: whether it was brought to its end; False for a cut.
    """

    status: int
    headers: list[Header]
    body: bytes
    whole: bool

    def get(self, name: str) -> str | None:
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == wanted), None)

    def all(self, name: str) -> list[str]:
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == wanted]


class Wire:
    """One client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def leave(self) -> None:
        """Close at once, as a client that is interrupted does."""
        self.writer.transport.abort()

    async def head(self) -> tuple[int, list[Header]]:
        async with asyncio.timeout(PATIENCE):
            block = await self.reader.readuntil(b"\r\n\r\n")
        lines = block[:-4].split(b"\r\n")
        headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines[1:])]
        return int(lines[0].split(b" ")[1]), headers

    async def chunk(self) -> bytes | None:
        """The next chunk of a chunked body; b"" at its end, None if it broke off."""
        async with asyncio.timeout(PATIENCE):
            line = await self.reader.readline()
        if not line.endswith(b"\r\n"):
            return None
        size = int(line, 16)
        try:
            data = await self.reader.readexactly(size + 2)
        except asyncio.IncompleteReadError:
            return None
        return data[:-2]

    async def reply(self, method: str = "GET") -> Reply:
        """The next response, whole or as far as it came."""
        async with asyncio.timeout(PATIENCE):
            return await self._reply(method)

    async def _reply(self, method: str) -> Reply:
        while True:
            status, headers = await self.head()
            if status >= 200:
                break
        reply = Reply(status, headers, b"", whole=True)
        if method == "HEAD" or status in (204, 304):
            return reply
        length = reply.get("content-length")
        if reply.get("transfer-encoding") == "chunked":
            await self._chunks(reply)
        elif length is not None:
            try:
                reply.body = await self.reader.readexactly(int(length))
            except asyncio.IncompleteReadError as error:
                reply.body, reply.whole = error.partial, False
        else:
            reply.body = await self.reader.read()
        return reply

    async def _chunks(self, reply: Reply) -> None:
        parts: list[bytes] = []
        while data := await self._next(reply):
            parts.append(data)
        reply.body = b"".join(parts)

    async def _next(self, reply: Reply) -> bytes:
        try:
            data = await self.chunk()
        except (ConnectionError, ValueError):
            data = None
        if data is None:
            reply.whole = False
        return data or b""


@asynccontextmanager
async def connect(port: int, host: str = "127.0.0.1") -> AsyncIterator[Wire]:
    """A connection to a loopback port."""
    reader, writer = await asyncio.open_connection(host, port, limit=2**26)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def request(method: str, target: str, headers: Iterable[Header] = (), body: bytes = b"", *, chunked: bool = False) -> bytes:
    """A request as bytes; Host and the framing of the body are added."""
    lines = [f"{method} {target} HTTP/1.1".encode(), b"Host: localhost"]
    lines += [name + b": " + value for name, value in headers]
    if chunked:
        lines.append(b"Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:]) if part) + b"0\r\n\r\n"
    elif body or method in ("POST", "PUT", "PATCH"):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def ask(port: int, method: str, target: str, headers: Iterable[Header] = (), body: bytes = b"", **kw: bool) -> Reply:
    """One request on a connection of its own."""
    async with connect(port) as wire:
        wire.send(request(method, target, headers, body, **kw))
        return await wire.reply(method)
