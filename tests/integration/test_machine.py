"""Nothing on this machine stops the proxy: an unread log, a full disk, a closed standard error, no descriptors left."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import resource
import signal
import socket
import sys
import time
import tty
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.machine import Log, all_answered, ended, started, upstream
from tests.integration.wire import connect, request
from tests.server.process import has_ipv6_loopback

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform != "linux", reason="closes, limits and watches as Linux has it"),
]

REQUESTS = 2000  # several times what a pipe takes before it blocks


Kind = tuple[Log, int]


def a_log() -> Kind:
    """A pipe, to be given to a process as its standard error, and what reads it."""
    reader, writer = os.pipe()
    return Log(reader), writer


def a_pipe() -> Kind:
    """One that blocks after a page."""
    log, writer = a_log()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    return log, writer


def a_terminal() -> Kind:
    """A terminal, which is paused while its other end is not read."""
    reader, writer = pty.openpty()
    tty.setraw(writer)
    return Log(reader), writer


@pytest.mark.parametrize("kind", [a_pipe, a_terminal])
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_log_that_nobody_reads_holds_up_no_request_and_no_exit(
    tmp_path: Path, kind: Callable[[], Kind], workers: str
) -> None:
    log, writer = kind()
    async with upstream() as url, started(url, tmp_path, stderr=writer, WEB_CONCURRENCY=workers) as process:
        port = await log.port()
        await all_answered(port, REQUESTS)
        process.terminate()
        began = time.monotonic()
        assert await ended(process) == 0
        assert time.monotonic() - began < 5
    log.close()


async def test_a_log_that_is_read_again_says_how_many_lines_it_lost(tmp_path: Path) -> None:
    log, writer = a_pipe()
    async with upstream() as url, started(url, tmp_path, stderr=writer) as process:
        port = await log.port()
        await all_answered(port, 3 * REQUESTS)  # more than fits into the writer's queue
        told = await log.event("log_lines_lost")
        assert told["lines"] > 0
        assert told["note"] == f"{told['lines']} log lines were lost while nobody read the log"
        await all_answered(port, 8)
        process.terminate()
        assert await ended(process) == 0
        await log.to_its_end()
    events = [line["event"] for line in log.events()]
    assert len(events) == len(log.lines)  # each line is whole
    assert events.count("exchange") + told["lines"] == 3 * REQUESTS + 8
    assert events.count("log_lines_lost") == 1
    assert events[-3:] == ["draining", "stopped", "drained"]
    log.close()


async def test_a_second_signal_ends_at_once_although_nobody_reads_the_log(tmp_path: Path) -> None:
    log, writer = a_pipe()
    async with upstream() as url, started(url, tmp_path, stderr=writer, GRACEFUL_TIMEOUT="60") as process:
        port = await log.port()
        await all_answered(port, 200)
        async with connect(port) as busy:
            busy.send(request("GET", "/health")[:-2])  # a head that does not end
            await all_answered(port, 8)
            process.terminate()
            while not await refused(port):
                pass
            process.terminate()
            began = time.monotonic()
            assert await ended(process) == 128 + signal.SIGTERM
            assert time.monotonic() - began < 5
    log.close()


async def refused(port: int) -> bool:
    try:
        async with connect(port):
            return False
    except ConnectionError:  # a reset is what a connection gets that was waiting as the socket was closed
        return True


@pytest.fixture(name="port")
def a_free_port() -> int:
    """A port for a process that cannot say which one it took."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


async def answering(port: int) -> None:
    """Wait until somebody listens there."""
    async with asyncio.timeout(30):
        while await refused(port):  # noqa: ASYNC110  it cannot say when
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("standard_error", ["full", "closed", "all closed"])
async def test_a_full_disk_or_no_standard_error_change_neither_the_service_nor_its_exit_code(
    tmp_path: Path, port: int, workers: str, standard_error: str
) -> None:
    redirected = {"full": ">/dev/full 2>&1", "closed": "2>&-", "all closed": "<&- >&- 2>&-"}[standard_error]
    through = ("sh", "-c", f'exec "$@" {redirected}', "sh")
    settings = {"PORT": str(port), "WEB_CONCURRENCY": workers}
    async with upstream() as url, started(url, tmp_path, stderr=None, through=through, **settings) as process:
        await answering(port)
        await all_answered(port, 40)
        process.terminate()
        assert await ended(process) == 0


@pytest.mark.parametrize("redirected", ["", "2>/dev/full", "2>&-", ">&- 2>&-"])
async def test_a_start_that_fails_has_its_exit_code_wherever_its_words_go(tmp_path: Path, port: int, redirected: str) -> None:
    reader, writer = os.pipe()
    through = ("sh", "-c", f'exec "$@" {redirected}', "sh")
    log = Log(reader)
    with socket.create_server(("127.0.0.1", port)):
        async with started("http://127.0.0.1:9", tmp_path, stderr=writer, through=through, PORT=str(port)) as process:
            assert await ended(process) == 1
    await log.to_its_end()
    log.close()
    said = [] if redirected else [f"claude-proxy: Port {port} on 127.0.0.1 is taken: stop what listens there, or"]
    assert [line.decode().partition(" choose")[0] for line in log.lines] == said


@pytest.mark.skipif(not has_ipv6_loopback(), reason="no IPv6 here")
async def test_localhost_is_served_by_whatever_address_it_resolves_to(tmp_path: Path) -> None:
    log, writer = a_log()
    async with upstream() as url, started(url, tmp_path, stderr=writer) as process:
        v4, *v6 = (await log.event("listening"))["on"]
        port = int(v4.rpartition(":")[2])
        assert v6 == [f"http://[::1]:{port}"]
        for host in ("127.0.0.1", "::1", "localhost"):
            async with connect(port, host) as wire:
                wire.send(request("GET", "/health"))
                assert (await wire.reply()).status == 200
        process.terminate()
        assert await ended(process) == 0
    log.close()


async def test_without_descriptors_the_connected_are_served_and_the_others_wait(tmp_path: Path) -> None:
    log, writer = a_log()
    limit = 64
    through = ("sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh")
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > limit + 80
    async with upstream() as url, started(url, tmp_path, stderr=writer, through=through) as process:
        port = await log.port()
        async with asyncio.timeout(60), connect(port) as first:
            waiting = [connect(port) for _ in range(80)]
            wires = [await each.__aenter__() for each in waiting]
            told = await log.event("cannot_accept")
            assert (told["limit"], told["level"]) == (limit, "error")
            first.send(request("GET", "/health"))
            assert (await first.reply()).status == 200
            for wire in wires:
                wire.send(request("GET", "/health", [(b"connection", b"close")]))
            assert {(await wire.reply()).status for wire in wires} == {200}  # each that leaves makes room for one
            await log.event("accepting_again")
            for each in waiting:
                await each.__aexit__(None, None, None)
        process.terminate()
        assert await ended(process) == 0
        await log.to_its_end()
    assert [line["event"] for line in log.events()].count("cannot_accept") == 1
    log.close()
