"""Accepting while descriptors run out, and while connections fail that were never ours."""

import asyncio
import errno
import resource
import socket

import pytest
from structlog.typing import EventDict

from tests.server.conftest import Serve, loud
from tests.server.wire import connect, get, wait_until


class Listener(socket.socket):
    """Its `accept` fails with `error` while that is set."""

    error: int | None = None
    tries = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.tries += 1
        if self.error is not None:
            raise OSError(self.error, "no more of them")
        return super().accept()


@pytest.fixture
def listener() -> Listener:
    listener = Listener()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_a_shortage_is_one_line_and_the_client_waits(
    serve: Serve, listener: Listener, code: int, log_lines: list[EventDict]
) -> None:
    async with serve(listener=listener) as serving, connect(serving.port) as before:
        await before.send(get())
        assert (await before.response()).status == 200
        listener.error = code
        began, tried = asyncio.get_running_loop().time(), listener.tries
        async with connect(serving.port) as after:
            await after.send(get())
            await wait_until(lambda: listener.tries == tried + 4)
            assert asyncio.get_running_loop().time() - began > 0.25  # no busy loop
            await before.send(get())
            assert (await before.response()).status == 200
            listener.error = None
            assert (await after.response()).status == 200
        await wait_until(lambda: [line for line in log_lines if line["event"] == "accepting_again"])
    (told,) = [line for line in log_lines if line["event"] == "cannot_accept"]
    assert (told["limit"], told["reason"]) == (resource.getrlimit(resource.RLIMIT_NOFILE)[0], "no more of them")
    assert "ulimit" in told["note"]


async def test_a_shortage_that_comes_and_goes_is_told_once_a_minute(
    serve: Serve, listener: Listener, log_lines: list[EventDict]
) -> None:
    async with serve(listener=listener) as serving:
        for _ in range(3):
            listener.error, tried = errno.EMFILE, listener.tries
            async with connect(serving.port) as wire:
                await wait_until(lambda: listener.tries > tried)  # noqa: B023  it is called before the next turn
                listener.error = None
                await wire.send(get())
                assert (await wire.response()).status == 200
    assert loud(log_lines) == ["cannot_accept"]


@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.EPROTO, errno.EHOSTUNREACH, errno.EPERM])
async def test_a_connection_that_failed_before_it_was_ours_holds_up_no_other(
    serve: Serve, listener: Listener, code: int, log_lines: list[EventDict]
) -> None:
    real = socket.socket.accept
    failing = iter([code, code])

    def accept() -> tuple[socket.socket, object]:
        if (error := next(failing, None)) is not None:
            raise OSError(error, "it is gone")
        return real(listener)

    listener.accept = accept  # type: ignore[method-assign]
    async with serve(listener=listener) as serving, connect(serving.port) as wire:
        await wire.send(get())
        assert (await wire.response()).status == 200
    assert loud(log_lines) == []


async def test_a_listening_socket_that_fails_for_good_does_not_spin(
    serve: Serve, listener: Listener, log_lines: list[EventDict]
) -> None:
    listener.error = errno.EBADF
    async with serve(listener=listener) as serving, connect(serving.port):
        began = asyncio.get_running_loop().time()
        await wait_until(lambda: listener.tries == 3)
        assert asyncio.get_running_loop().time() - began > 0.15
    (told,) = [line for line in log_lines if line["event"] == "cannot_accept"]
    assert "limit" not in told


async def test_a_connection_that_is_accepted_as_the_server_stops_is_closed_with_it(serve: Serve) -> None:
    async with serve(grace=1000) as serving:
        connections = [asyncio.open_connection("127.0.0.1", serving.port) for _ in range(40)]
        opened = await asyncio.gather(*connections)
        serving.worker.stop()
        await serving.ended
        for _, writer in opened:
            writer.transport.abort()
