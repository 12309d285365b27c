"""A client that sends exactly the bytes it is given, and reads responses without a library's kindness."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

HOST = b"Host: proxy.test\r\n"
# pytest-timeout cannot interrupt a wait of uvloop's, so each wait has an end of its own (seconds).
PATIENCE = 30


@dataclass(frozen=True)
class Response:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def error(self) -> tuple[str, str, str]:
        """The parts of an error in Anthropic's envelope: type, message, our code."""
        found: dict[str, Any] = json.loads(self.body)
        assert found["type"] == "error"
        assert set(found["error"]) == {"type", "message"}
        return found["error"]["type"], found["error"]["message"], self.all("x-claude-proxy-error")[0]


class Wire:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))
        async with asyncio.timeout(PATIENCE):
            await self.writer.drain()

    async def until(self, end: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(end)

    async def exactly(self, count: int) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readexactly(count)

    async def line(self) -> bytes:
        return await self.until(b"\r\n")

    async def head(self) -> tuple[int, list[tuple[str, str]]]:
        raw = await self.until(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        return int(first.split(" ")[1]), [(name, value) for name, value in pairs]

    async def chunk(self) -> bytes:
        size = int(await self.line(), 16)
        data = await self.exactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    async def response(self, *, bodiless: bool = False) -> Response:
        status, headers = await self.head()
        named = dict(headers)
        body = b""
        if bodiless:
            pass
        elif "content-length" in named:
            body = await self.exactly(int(named["content-length"]))
        elif named.get("transfer-encoding") == "chunked":
            while data := await self.chunk():
                body += data
        else:
            body = await self.rest()
        return Response(status, headers, body)

    async def rest(self) -> bytes:
        """What still comes until the server closes in good order. A reset raises ConnectionResetError."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    def leave(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def connect(port: int, *, small_window: bool = False) -> AsyncIterator[Wire]:
    """A connection to loopback. `small_window`: read no further ahead than asked."""
    limit = 1024 if small_window else 2**20
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=limit)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def post(path: str = "/", body: bytes = b"", *extra: bytes) -> bytes:
    """A correct request; `extra` are whole header lines."""
    lines = b"".join(line + b"\r\n" for line in extra)
    head = b"POST %b HTTP/1.1\r\n%bContent-Length: %d\r\n%b\r\n" % (path.encode(), HOST, len(body), lines)
    return head + body


def get(path: str = "/", *extra: bytes) -> bytes:
    lines = b"".join(line + b"\r\n" for line in extra)
    return b"GET %b HTTP/1.1\r\n%b%b\r\n" % (path.encode(), HOST, lines)


async def wait_until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0)
