"""The load generator: keep-alive connections that send prebuilt requests and look only for the end of the response."""

import asyncio
import contextlib
import time
from dataclasses import dataclass

LAST_CHUNK = b"\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Tally:
    """The result of a run: answered and failed exchanges, its wall time in seconds, and how the first failure began."""

    done: int
    failed: int
    seconds: float
    example: bytes = b""


class Load:
    """`total` exchanges over the connections that join, or as many as fit before the deadline."""

    def __init__(self, request: bytes, total: int, seconds: float) -> None:
        self.request = request
        self.left = total
        self.done = 0
        self.failed = 0
        self.running = 0
        self.example = b""
        self.deadline = time.monotonic() + seconds
        self.finished = asyncio.Event()

    def take(self) -> bool:
        """Whether one more exchange is to be sent; counts it as sent."""
        if self.left <= 0 or time.monotonic() > self.deadline:
            return False
        self.left -= 1
        return True

    def leave(self) -> None:
        """A connection is done."""
        self.running -= 1
        if self.running == 0:
            self.finished.set()


class Caller(asyncio.Protocol):
    """One connection: asks again as soon as it has its answer. A broken answer ends it and is counted."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.waiting = False
        self.head = b""
        self.in_body = False
        self.left: int | None = None  # bytes of the body still to come; None: until the last chunk
        self.tail = b""
        load.running += 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self) -> None:
        """Send the next request, or leave."""
        if self.load.take():
            self.waiting = True
            self.in_body = False
            self.transport.write(self.load.request)
        else:
            self.load.leave()

    def data_received(self, data: bytes) -> None:
        if not self.waiting:
            return self.transport.abort()  # nobody asked: the deadline has passed, or the server talks out of turn
        if not self.in_body:
            data = self.head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self.head = data
                return None
            self.head = b""
            if not data.startswith(b"HTTP/1.1 200"):
                return self.fail(data)
            self.in_body = True
            self.tail = b""
            self.left = announced(data[:end])
            data = data[end + 4 :]
        return self.body_received(data)

    def body_received(self, data: bytes) -> None:
        """Count towards the announced length, or look for the last chunk at the end."""
        if self.left is None:
            self.tail = (self.tail + data)[-len(LAST_CHUNK) :]
            ended = self.tail == LAST_CHUNK
        else:
            self.left -= len(data)
            ended = self.left <= 0
        if self.left is not None and self.left < 0:
            self.fail(b"more than was announced: " + data)
        elif ended:
            self.waiting = False
            self.load.done += 1
            self.ask()

    def fail(self, data: bytes) -> None:
        """Count a broken exchange, keep the first one's bytes, and give the connection up."""
        self.load.failed += 1
        self.load.example = self.load.example or data[:2000]
        self.waiting = False
        self.transport.abort()
        self.load.leave()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.waiting:
            self.waiting = False
            self.load.failed += 1
            self.load.example = self.load.example or b"the connection was closed before the answer's end"
            self.load.leave()


def announced(head: bytes) -> int | None:
    """The Content-Length of a response head, None when it is chunked."""
    lower = head.lower()
    start = lower.find(b"\r\ncontent-length:")
    if start < 0:
        return None
    end = lower.find(b"\r\n", start + 2)
    return int(lower[start + 17 : end if end >= 0 else len(lower)])


async def _connect(load: Load, port: int, count: int) -> list[Caller]:
    loop = asyncio.get_running_loop()
    callers = []
    for _ in range(count):
        _, caller = await loop.create_connection(lambda: Caller(load), "127.0.0.1", port)
        callers.append(caller)
    return callers


async def drive(port: int, request: bytes, connections: int, total: int, *, seconds: float = 60.0, spread: float = 0.0) -> Tally:
    """Send `total` requests over `connections`, the first ones spread over `spread` seconds.

    Stops sending after `seconds`; an answer that is not there 30 s later counts as failed.
    """
    load = Load(request, total, seconds)
    callers = await _connect(load, port, connections)
    started = time.monotonic()
    loop = asyncio.get_running_loop()
    for place, caller in enumerate(callers):
        loop.call_later(spread * place / connections, caller.ask)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(load.finished.wait(), seconds + 30)
    unanswered = sum(caller.waiting for caller in callers)
    example = load.example or (b"no answer in time" if unanswered else b"")
    tally = Tally(load.done, load.failed + unanswered, time.monotonic() - started, example)
    for caller in callers:
        caller.waiting = False
        caller.transport.abort()
    return tally


class Held(asyncio.Protocol):
    """A stream that is opened and then kept open; `begun` is set when its first events are here."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.begun = asyncio.Event()
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if b"event: content_block_delta" in data:
            self.begun.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.begun.set()


@contextlib.asynccontextmanager
async def held_streams(port: int, request: bytes, count: int):
    """Keep `count` streams open, each with its first events received.

    Raises:
        RuntimeError: the server closed one of them.
    """
    loop = asyncio.get_running_loop()
    streams = []
    try:
        for _ in range(count):
            _, stream = await loop.create_connection(lambda: Held(request), "127.0.0.1", port)
            streams.append(stream)
        async with asyncio.timeout(60):
            for stream in streams:
                await stream.begun.wait()
        if any(stream.lost for stream in streams):
            raise RuntimeError("a stream was closed that should have stayed open")
        yield
    finally:
        for stream in streams:
            stream.transport.abort()
