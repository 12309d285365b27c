"""The ASGI extension `claude_proxy`: what an app can do for the exchange that it runs without being awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from claude_proxy.server.cycle import Cycle
from tests.server.apps import Receive, Recorder, Scope, Seen, Send, read
from tests.server.conftest import Serve, Serving
from tests.server.wire import HOST, Wire, connect, get, post, wait_until


def running(scope: Scope) -> Cycle:
    cycle: Cycle = scope["extensions"]["claude_proxy"]["exchange"]()
    return cycle


class Direct(Recorder):
    """Answers past `send`."""

    wrote: list[bool]
    left: asyncio.Event

    async def do_whole(self, seen: Seen, receive: Receive, send: Send) -> None:
        seen.body = await read(receive)
        assert running(seen.scope).respond(200, [(b"content-length", b"%d" % len(seen.body))], seen.body)

    async def do_chunked(self, seen: Seen, receive: Receive, send: Send) -> None:
        assert not running(seen.scope).write(b"too early")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        self.wrote = [running(seen.scope).write(piece) for piece in (b"one", b"", b"two" * 10_000)]
        assert not running(seen.scope).respond(200, [], b"too late")
        await send({"type": "http.response.body", "body": b"end"})

    async def do_sized(self, seen: Seen, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
        self.wrote = [running(seen.scope).write(b"one")]
        await send({"type": "http.response.body", "body": b"two"})

    async def do_full(self, seen: Seen, receive: Receive, send: Send) -> None:
        """Writes until the client has taken as much as it can, then waits for it as any app does."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        self.wrote = []
        while running(seen.scope).write(b"x" * 65536):
            self.wrote.append(True)
        self.go.set()
        await send({"type": "http.response.body", "body": b"end"})

    async def do_told(self, seen: Seen, receive: Receive, send: Send) -> None:
        await read(receive)
        self.left = asyncio.Event()
        running(seen.scope).watch(self.left.set)
        await self.left.wait()
        assert not running(seen.scope).respond(200, [], b"nobody reads it")
        seen.left.set()

    async def do_bodied(self, seen: Seen, receive: Receive, send: Send) -> None:
        first = running(seen.scope).body()
        second = running(seen.scope).body() if first is not None else await read(receive)
        text = b" then ".join(b"None" if part is None else part for part in (first, second))
        assert running(seen.scope).respond(200, [], text)

    async def do_fields(self, seen: Seen, receive: Receive, send: Send) -> None:
        await read(receive)
        lines = [b"%b=%b" % pair for pair in running(seen.scope).fields.items()]
        assert running(seen.scope).fields == dict(seen.scope["headers"])
        assert running(seen.scope).respond(200, [], b" ".join(lines))

    async def do_drop(self, seen: Seen, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        running(seen.scope).abort()


@asynccontextmanager
async def direct(serve: Serve) -> AsyncIterator[tuple[Serving, Direct]]:
    """A worker that serves a Direct."""
    app = Direct()
    async with serve(app=app) as serving:
        yield serving, app


async def test_a_whole_answer(serve: Serve) -> None:
    async with direct(serve) as (serving, _), connect(serving.port) as wire:
        for body in (b"hello", b""):
            await wire.send(post("/whole", body))
            reply = await wire.response()
            assert (reply.status, reply.body) == (200, body)


async def test_pipelined_answers_stay_in_turn(serve: Serve) -> None:
    async with direct(serve) as (serving, _), connect(serving.port) as wire:
        await wire.send(post("/whole", b"1"), post("/echo", b"2"), post("/whole", b"3"))
        assert [(await wire.response()).body for _ in range(3)] == [b"1", b"POST /echo 2", b"3"]


@pytest.mark.parametrize(("path", "body"), [("/chunked", b"one" + b"two" * 10_000 + b"end"), ("/sized", b"onetwo")])
async def test_pieces_of_a_body(serve: Serve, path: str, body: bytes) -> None:
    async with direct(serve) as (serving, app), connect(serving.port) as wire:
        await wire.send(get(path))
        assert (await wire.response()).body == body
        assert all(app.wrote)


async def test_nothing_is_written_past_a_client_that_reads_slowly(serve: Serve) -> None:
    async with direct(serve) as (serving, app), connect(serving.port) as wire:
        await wire.send(get("/full"))
        await wait_until(app.go.is_set)
        body = (await wire.response()).body
    assert body == b"x" * 65536 * len(app.wrote) + b"end"


async def test_the_app_is_told_when_the_client_leaves(serve: Serve) -> None:
    async with direct(serve) as (serving, app), connect(serving.port) as wire:
        await wire.send(get("/told"))
        seen = await app.request()
        wire.leave()
        await seen.client_left()


async def test_a_client_can_be_dropped(serve: Serve) -> None:
    async with direct(serve) as (serving, _), connect(serving.port) as wire:
        await wire.send(get("/drop"))
        assert await ended(wire)


async def ended(wire: Wire) -> Any:
    """Whether the connection has come to its end without a response."""
    try:
        return not await wire.reader.read()
    except ConnectionError:
        return True


async def test_a_body_that_is_there_needs_no_receive(serve: Serve) -> None:
    async with direct(serve) as (serving, _), connect(serving.port) as wire:
        await wire.send(post("/bodied", b"hello"))
        assert (await wire.response()).body == b"hello then None"
        await wire.send(b"POST /bodied HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe")
        await serving.app.request(2)
        await wire.send(b"llo")
        assert (await wire.response()).body == b"None then hello"


async def test_the_headers_by_name_are_each_requests_own(serve: Serve) -> None:
    async with direct(serve) as (serving, _), connect(serving.port) as wire:
        await wire.send(
            get("/fields", b"X-Twice: 1", b"x-twice: 2 \t"), b"GET http://other/fields HTTP/1.1\r\nHost: first\r\n\r\n"
        )
        assert (await wire.response()).body == b"host=%b x-twice=2" % HOST.strip().partition(b": ")[2]
        assert (await wire.response()).body == b"host=other"
