"""An ASGI app that remembers what it saw, and does what the path says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.server.wire import PATIENCE

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class ClientLeftError(Exception):
    """The body did not come to its end."""


@dataclass
class Seen:
    """One request as the app saw it."""

    scope: Scope
    body: bytes = b""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def client_left(self) -> None:
        """Wait until the app has been told that the client left."""
        async with asyncio.timeout(PATIENCE):
            await self.left.wait()

    async def is_over(self) -> None:
        """Wait until the app has returned."""
        async with asyncio.timeout(PATIENCE):
            await self.ended.wait()

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode("latin-1") for name, value in self.scope["headers"]}


class Recorder:
    """`/` answers with method, path and body; other paths are the methods below, named after it."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.arrived = asyncio.Condition()
        self.go = asyncio.Event()
        self.lifespan: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        seen = Seen(scope)
        async with self.arrived:
            self.seen.append(seen)
            self.arrived.notify_all()
        name = scope["path"].strip("/").split("/")[0]
        action = getattr(self, f"do_{name}", self.do_echo)
        try:
            await action(seen, receive, send)
        except ClientLeftError:
            seen.left.set()
        finally:
            seen.ended.set()

    async def request(self, number: int = 1) -> Seen:
        """Wait for the `number`th request."""
        async with asyncio.timeout(PATIENCE), self.arrived:
            await self.arrived.wait_for(lambda: len(self.seen) >= number)
        return self.seen[number - 1]

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self.lifespan.append("up")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.lifespan.append("down")
        await send({"type": "lifespan.shutdown.complete"})

    async def do_echo(self, seen: Seen, receive: Receive, send: Send) -> None:
        seen.body = await read(receive)
        await answer(send, b"%b %b %b" % (seen.scope["method"].encode(), seen.scope["raw_path"], seen.body))

    async def do_silent(self, seen: Seen, receive: Receive, send: Send) -> None:
        """Reads the body and then says nothing until the client leaves."""
        seen.body = await read(receive)
        assert await receive() == {"type": "http.disconnect"}
        seen.left.set()

    async def do_wait(self, seen: Seen, receive: Receive, send: Send) -> None:
        """Answers when `go` is set."""
        seen.body = await read(receive)
        await self.go.wait()
        await answer(send, b"waited")

    async def do_early(self, seen: Seen, receive: Receive, send: Send) -> None:
        """Answers without reading the body."""
        await answer(send, b"early", status=401)

    async def do_early_close(self, seen: Seen, receive: Receive, send: Send) -> None:
        await answer(send, b"early", (b"connection", b"close"), status=413)

    async def do_stream(self, seen: Seen, receive: Receive, send: Send) -> None:
        """One piece at once, the rest when `go` is set."""
        await start(send, (b"content-type", b"text/event-stream"))
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await self.go.wait()
        await send({"type": "http.response.body", "body": b"last"})

    async def do_gated(self, seen: Seen, receive: Receive, send: Send) -> None:
        """One piece at once, the rest when the request's body has ended: the client's hand is on the gate."""
        await start(send)
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await read(receive)
        await send({"type": "http.response.body", "body": b"last"})

    async def do_endless(self, seen: Seen, receive: Receive, send: Send) -> None:
        """Streams one piece and then ends only by being cancelled or by the client's leaving."""
        await start(send)
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await receive()
        assert await receive() == {"type": "http.disconnect"}
        seen.left.set()

    async def do_stuck(self, seen: Seen, receive: Receive, send: Send) -> None:
        await start(send)
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await asyncio.Event().wait()

    async def do_flood(self, seen: Seen, receive: Receive, send: Send) -> None:
        """Sends until the client has left."""
        await start(send)
        while not self.go.is_set():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})

    async def do_cut(self, seen: Seen, receive: Receive, send: Send) -> None:
        """Returns in the middle of the response."""
        await start(send)
        await send({"type": "http.response.body", "body": b"part", "more_body": True})

    async def do_unread(self, seen: Seen, receive: Receive, send: Send) -> None:
        """Answers when `go` is set, without having read the body."""
        await self.go.wait()
        await answer(send, b"unread")

    async def do_crash_unread(self, seen: Seen, receive: Receive, send: Send) -> None:
        await self.go.wait()
        raise RuntimeError("the app is broken")

    async def do_cancelled(self, seen: Seen, receive: Receive, send: Send) -> None:
        await start(send)
        raise asyncio.CancelledError

    async def do_nothing(self, seen: Seen, receive: Receive, send: Send) -> None:
        """Returns without a response."""

    async def do_crash(self, seen: Seen, receive: Receive, send: Send) -> None:
        raise RuntimeError("the app is broken")

    async def do_crash_late(self, seen: Seen, receive: Receive, send: Send) -> None:
        await start(send)
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise RuntimeError("the app is broken")

    async def do_named(self, seen: Seen, receive: Receive, send: Send) -> None:
        """Brings headers that are the server's to write."""
        ours = ((b"Date", b"x"), (b"server", b"y"), (b"transfer-encoding", b"gzip"), (b"keep-alive", b"9"))
        await answer(send, b"named", *ours)

    async def do_status(self, seen: Seen, receive: Receive, send: Send) -> None:
        """`/status/304/12`: that status with that content-length, and no body."""
        _, status, length = seen.scope["path"].strip("/").split("/")
        headers = [(b"content-length", length.encode())]
        await send({"type": "http.response.start", "status": int(status), "headers": headers})
        await send({"type": "http.response.body"})

    async def do_inject(self, seen: Seen, receive: Receive, send: Send) -> None:
        await start(send, (b"x-evil", b"a\r\nx-more: b"))

    async def do_short(self, seen: Seen, receive: Receive, send: Send) -> None:
        """Announces more than it sends."""
        await start(send, (b"content-length", b"10"))
        await send({"type": "http.response.body", "body": b"four"})


async def read(receive: Receive) -> bytes:
    """The whole body."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        body += message["body"]
        if not message["more_body"]:
            return body


async def start(send: Send, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})


async def answer(send: Send, body: bytes, *headers: tuple[bytes, bytes], status: int = 200) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})
