"""Upstreams that no HTTP server would be: sockets that do not accept, do not read, do not answer, or say what they like."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """A hand-written server.

    Attributes:
        port: on 127.0.0.1.
        heads: what each connection sent first, up to the empty line.
        left: loop times at which a peer went away.
        connections: accepted so far.
    """

    def __init__(self) -> None:
        self.port = 0
        self.heads: list[bytes] = []
        self.left: list[float] = []
        self.connections = 0
        self._changed = asyncio.Condition()

    async def changed(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def wait_for(self, condition: Callable[[Listener], object], timeout: float = 5.0) -> None:
        """Return once the condition holds."""
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: condition(self))


@asynccontextmanager
async def listening(handler: Handler, sock: socket.socket | None = None) -> AsyncIterator[Listener]:
    """Serve connections with `handler`, which is called once the first head is in; on a free port, or on `sock`."""
    listener = Listener()
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listener.connections += 1
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            listener.heads.append(await reader.readuntil(b"\r\n\r\n"))
            await listener.changed()
            await handler(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the last is our own doing, below; asyncio's server would report it as a failure
        finally:
            running.discard(task)
            listener.left.append(asyncio.get_running_loop().time())
            await listener.changed()
            writer.transport.abort()

    sock = sock or socket.create_server(("127.0.0.1", 0))
    server = await asyncio.start_server(serve, sock=sock, limit=8192)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """A handler that reads to the end and says nothing."""
    while await reader.read(65536):
        pass


def saying(data: bytes) -> Handler:
    """A handler that answers the first request with `data`, and then reads to the end."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await silent(reader, writer)

    return handler


@asynccontextmanager
async def not_accepting() -> AsyncIterator[int]:
    """A port whose queue is full: a connection to it is neither made nor refused."""
    loop = asyncio.get_running_loop()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = []
        try:
            while True:  # how many fit is the kernel's affair
                one = socket.socket()
                one.setblocking(False)
                waiting.append(one)
                async with asyncio.timeout(0.1):
                    await loop.sock_connect(one, server.getsockname())
        except TimeoutError:
            yield server.getsockname()[1]
        finally:
            for one in waiting:
                one.close()


def small_buffers() -> socket.socket:
    """A socket that listens; the kernel buffers little of what is sent to it, on either side."""
    server = socket.socket()
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)  # the sender's buffer is a multiple of it
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    server.bind(("127.0.0.1", 0))
    server.listen(16)
    return server
