"""A raw client: says exactly these bytes, keeps each piece that arrives, knows how the connection ended."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from claude_proxy.simulator import Simulator

HELLO = {"model": "glm-5.3", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}


def post(body: dict[str, Any] | None = None, *headers: str, path: str = "/api/anthropic/v1/messages") -> bytes:
    """A POST of the body (default: a streamed hello) as wire bytes."""
    data = json.dumps({**HELLO, "stream": True} if body is None else body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: sim", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    """A request without a body as wire bytes."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: sim", *headers]).encode() + b"\r\n\r\n"


class Talk(asyncio.Protocol):
    """The client's side of a connection."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting: list[tuple[Callable[[bytes], bool], asyncio.Future[None]]] = []

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        for condition, future in self._waiting:
            if not future.done() and condition(self.data):
                future.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result("fin" if exc is None else "rst")

    def say(self, data: bytes) -> None:
        self.transport.write(data)

    async def until(self, condition: Callable[[bytes], bool]) -> bytes:
        """Wait until what has arrived fulfils the condition; return it."""
        if not condition(self.data):
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((condition, future))
            async with asyncio.timeout(5):
                await future
        return self.data

    async def answer(self) -> "Answer":
        """Wait for one whole answer and take it."""
        data = await self.until(lambda data: Answer.parse(data) is not None)
        answer = Answer.parse(data)
        assert answer is not None
        self.pieces = [answer.rest] if answer.rest else []
        return answer

    async def end(self) -> str:
        """Wait for the connection's end: ``fin`` or ``rst``."""
        async with asyncio.timeout(5):
            return await asyncio.shield(self.ended)


class Answer:
    """An answer taken apart, chunk by chunk."""

    def __init__(self, head: bytes, rest: bytes) -> None:
        self.head = head
        status, *lines = head.split(b"\r\n")
        self.status = int(status.split()[1])
        self.headers = [(name.decode(), value.decode()) for name, _, value in (line.partition(b": ") for line in lines)]
        self.chunks: list[bytes] = []
        self.trailers: list[bytes] = []
        self.rest = rest

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    @classmethod
    def parse(cls, data: bytes, method: str = "POST") -> "Answer | None":
        """Take one answer from the front; None if it is not complete."""
        head, blank, rest = data.partition(b"\r\n\r\n")
        if not blank:
            return None
        answer = cls(head, rest)
        if answer.header("transfer-encoding") == "chunked":
            return answer if answer._take_chunks() else None
        length = answer.header("content-length")
        if answer.status < 200 or length is None or method == "HEAD":
            return answer
        answer.chunks, answer.rest = [rest[: int(length)]], rest[int(length) :]
        return answer if len(answer.body) == int(length) else None

    def _take_chunks(self) -> bool:
        while True:
            size, line_end, rest = self.rest.partition(b"\r\n")
            if not line_end:
                return False
            length = int(size, 16)
            if length == 0:
                trailers, blank, after = (b"\r\n" + rest).partition(b"\r\n\r\n")
                self.trailers = [line for line in trailers.split(b"\r\n") if line]
                self.rest = after
                return bool(blank)
            if len(rest) < length + 2:
                return False
            self.chunks.append(rest[:length])
            self.rest = rest[length + 2 :]


@asynccontextmanager
async def talk(sim: Simulator, tls: ssl.SSLContext | None = None) -> AsyncIterator[Talk]:
    """A connection to the simulator."""
    loop = asyncio.get_running_loop()
    name = "localhost" if tls else None
    _, protocol = await loop.create_connection(Talk, "127.0.0.1", sim.port, ssl=tls, server_hostname=name)
    try:
        yield protocol
    finally:
        protocol.transport.abort()
        await protocol.ended


async def say(sim: Simulator, data: bytes) -> Answer:
    """Send on a connection of its own, return the answer."""
    async with talk(sim) as line:
        line.say(data)
        return await line.answer()


def events(body: bytes) -> list[str]:
    """The names of a stream's events."""
    return [line.removeprefix("event: ") for line in body.decode().splitlines() if line.startswith("event: ")]
