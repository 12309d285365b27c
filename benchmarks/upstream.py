"""The mock upstream: a separate process that answers with prebuilt bytes and does nothing else.

``python -m benchmarks.upstream`` prints its port and lives until its standard input closes, so it
cannot outlive the run that started it.
"""

import asyncio
import contextlib
import os
import sys

import uvloop

from benchmarks import payload

TAIL = 4 + len(payload.MARK)
PACE = 0.05  # seconds between two events of a paced stream
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"

_JSON = payload.json_answer()
_FAST = payload.sse_answer(payload.FAST_EVENTS)
_PACED = payload.sse_answer(payload.PACED_EVENTS)
_HELD = b"".join(_PACED[: payload.HELD_EVENTS])


def content_length(head: bytes) -> int:
    """The announced body size of a request head; 0 without one."""
    start = head.lower().find(b"\r\ncontent-length:")
    if start < 0:
        return 0
    end = head.find(b"\r\n", start + 2)
    return int(head[start + 17 : end if end >= 0 else len(head)])


class Upstream(asyncio.Protocol):
    """One connection: reads a request by its announced length, answers by the kind its body ends with."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.head = b""
        self.missing = 0
        self.tail = b""
        self.timer: asyncio.TimerHandle | None = None
        self.kinds = {b"json": self.answer_json, b"fast": self.answer_fast}
        self.kinds |= {b"pace": self.answer_paced, b"hold": self.answer_held}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.descriptor = transport.get_extra_info("socket").fileno()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self.missing:
            self.missing -= len(data)
            self.tail = (self.tail + data)[-TAIL:]
        else:
            data = self.head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self.head = data
                return
            self.head = b""
            self.missing = end + 4 + content_length(data[:end]) - len(data)
            self.tail = data[-TAIL:]
        if self.missing <= 0:
            self.missing = 0
            self.kinds.get(self.tail[:4], self.answer_nothing)()

    def answer_json(self) -> None:
        self.transport.write(_JSON)

    def answer_nothing(self) -> None:
        self.transport.write(NOT_FOUND)

    def answer_held(self) -> None:
        self.transport.write(_HELD)

    def answer_fast(self) -> None:
        """Every event by its own system call: the loop's own `write` would join them into one."""
        sent = 0
        with contextlib.suppress(BlockingIOError):
            for sent, piece in enumerate(_FAST):
                if (written := os.write(self.descriptor, piece)) < len(piece):
                    self.transport.write(b"".join([piece[written:], *_FAST[sent + 1 :]]))
                    return
            return
        self.transport.write(b"".join(_FAST[sent:]))

    def answer_paced(self, turn: int = 0, due: float = 0.0) -> None:
        """Event `turn` now, the next one ``PACE`` after the time this one was due."""
        self.transport.write(_PACED[turn])
        if turn + 1 < len(_PACED):
            due = (due or self.loop.time()) + PACE
            self.timer = self.loop.call_at(due, self.answer_paced, turn + 1, due)


async def serve() -> None:
    """Listen on a free loopback port, print it, and stay until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(loop), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    closed = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), closed.set)
    await closed.wait()
    server.close()


if __name__ == "__main__":
    uvloop.run(serve())
