"""Short and no keep-alive: one request per connection, patience with slow clients, and timers that do not spin."""

import asyncio

import pytest

from tests.server.conftest import Serve
from tests.server.wire import HOST, connect, get, post, wait_until


@pytest.mark.parametrize("extra", [(), (b"Connection: keep-alive",)])
async def test_without_keep_alive_a_connection_is_for_one_request(serve: Serve, extra: tuple[bytes, ...]) -> None:
    async with serve(keep_alive=0) as serving, connect(serving.port) as wire:
        await wire.send(post("/", b"body", *extra))
        response = await wire.response()
        assert (response.body, response.all("connection")) == (b"POST / body", ["close"])
        assert await wire.rest() == b""
        await wait_until(lambda: not serving.worker.server_state.connections)


async def test_without_keep_alive_an_old_client_that_asks_for_it_gets_none(serve: Serve) -> None:
    async with serve(keep_alive=0) as serving, connect(serving.port) as wire:
        await wire.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert b"connection: close" in await wire.rest()


async def test_without_keep_alive_a_pipelined_request_is_left_to_the_client(serve: Serve) -> None:
    async with serve(keep_alive=0) as serving, connect(serving.port) as wire:
        await wire.send(get("/a") + get("/b"))
        assert (await wire.response()).body == b"GET /a "
        assert await wire.rest() == b""
        assert len(serving.app.seen) == 1


@pytest.mark.parametrize("keep_alive", [0, 0.001])
async def test_a_client_may_take_its_time_before_its_first_request(serve: Serve, keep_alive: float) -> None:
    async with serve(keep_alive=keep_alive) as serving, connect(serving.port) as slow:
        await wait_until(lambda: serving.worker.server_state.connections)
        await asyncio.sleep(0.05)  # what must not happen has no event to wait for
        await slow.send(get())
        assert (await slow.response()).status == 200


@pytest.mark.parametrize("keep_alive", [0, 0.001])
async def test_a_client_that_reads_slowly_gets_the_whole_answer(serve: Serve, keep_alive: float) -> None:
    size = 8 * 2**20
    async with serve(keep_alive=keep_alive) as serving, connect(serving.port, small_window=True) as wire:
        await wire.send(b"POST / HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % size, bytes(size))
        await wire.head()
        (connection,) = serving.worker.server_state.connections
        await wait_until(lambda: connection.running is None)  # all is written, and most of it waits for the client
        await asyncio.sleep(0.05)
        assert len(await wire.rest()) == len(b"POST / ") + size


@pytest.mark.parametrize("keep_alive", [0, 0.001, 100])
async def test_an_idle_timer_that_fires_during_a_request_is_set_again_only_after_it(serve: Serve, keep_alive: float) -> None:
    async with serve(keep_alive=keep_alive) as serving, connect(serving.port) as wire:
        await wire.send(b"POST /gated HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\n")
        await wire.head()
        (connection,) = serving.worker.server_state.connections
        before = connection._idle_timer
        connection._on_idle_timer()
        assert connection._idle_timer is before
        await wire.send(b"x")
        assert [await wire.chunk() for _ in range(3)] == [b"first", b"last", b""]
        if keep_alive < 1:
            assert await wire.rest() == b""
        else:
            assert connection._idle_timer is not before


async def test_a_short_keep_alive_counts_from_the_last_answer(serve: Serve) -> None:
    async with serve(keep_alive=0.5, head_seconds=1000) as serving, connect(serving.port) as wire:
        for _ in range(2):
            await wire.send(get())
            assert (await wire.response()).all("connection") == []
        assert await wire.rest() == b""
