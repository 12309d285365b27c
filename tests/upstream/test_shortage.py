"""This process runs out of something on the way to an upstream: our side's error, on either event loop."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
import uvloop

from claude_proxy.errors import Unavailable
from claude_proxy.exchange import Outcome
from claude_proxy.simulator import Simulator
from claude_proxy.upstream.connection import Connection
from claude_proxy.upstream.dial import Dialer, parse_origin
from claude_proxy.upstream.failures import shortage
from claude_proxy.upstream.pool import Pool
from tests.integration.messages import post
from tests.integration.proxy import running_proxy
from tests.integration.wire import connect, request
from tests.upstream.test_dial import serving

both_loops = pytest.mark.parametrize("factory", [uvloop.new_event_loop, asyncio.SelectorEventLoop])


@contextmanager
def no_descriptor_left() -> Iterator[int]:
    """Let this process open nothing; gives the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield lowest_free
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@both_loops
@pytest.mark.parametrize("url", ["http://127.0.0.1:{}", "http://localhost:{}", "https://127.0.0.1:{}", "https://localhost:{}"])
@pytest.mark.parametrize("connected_before", [False, True])
def test_without_descriptors_the_limit_is_named_and_afterwards_all_is_well(
    factory: Callable[[], asyncio.AbstractEventLoop], url: str, connected_before: bool, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = serving(authority.issue_cert("127.0.0.1", "localhost"))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Simulator(tls=certificate if url.startswith("https") else None) as sim:
            pool = Pool(parse_origin(url.format(sim.port), {}), tmp_path / "ca.pem", connect_timeout=5, expiry=30, limit=2)
            if connected_before:
                await pool.connect(loop)
            for _ in range(3):  # and no place stays taken
                with no_descriptor_left() as limit, pytest.raises(Unavailable) as caught:
                    await pool.connect(loop)
                assert (caught.value.status, caught.value.side, caught.value.code) == (503, "proxy", "out_of_descriptors")
                assert f"RLIMIT_NOFILE is {limit}" in caught.value.message
            await pool.connect(loop)
            pool.close()
            await sim.wait_for(lambda sim: not sim.open_connections)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


class Failing:
    """An event loop's two methods that reach an upstream: one of them fails."""

    def __init__(self, where: str, error: BaseException) -> None:
        self._where = where
        self._error = error

    async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        if self._where == "lookup":
            raise self._error
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port))]

    async def create_connection(self, *_: Any, **__: Any) -> None:
        raise self._error


async def failure(where: str, error: BaseException) -> Unavailable:
    """What becomes of an error that a loop raises."""
    connection = Connection(asyncio.get_running_loop(), lambda _: None)
    with pytest.raises(Unavailable) as caught:
        await Dialer(parse_origin("http://192.0.2.1", {})).connect(cast("Any", Failing(where, error)), connection)
    return caught.value


@pytest.mark.parametrize("where", ["lookup", "connect"])
@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, "x"), OSError(errno.ENOBUFS, "x")])
async def test_without_memory(where: str, error: BaseException) -> None:
    found = await failure(where, error)
    assert (found.code, found.side) == ("out_of_memory", "proxy")


@pytest.mark.parametrize("number", [socket.EAI_AGAIN, socket.EAI_NONAME, socket.EAI_SYSTEM])
async def test_a_lookup_that_fails_for_want_of_a_descriptor_does_not_blame_the_name(number: int) -> None:
    with no_descriptor_left():
        assert (await failure("lookup", socket.gaierror(number, "x"))).code == "out_of_descriptors"


def test_a_handshake_that_fails_for_want_of_a_descriptor_does_not_blame_the_certificate() -> None:
    """OpenSSL looks for an authority's file during the handshake, and only says that it found none."""
    error = ssl.SSLCertVerificationError("unable to get local issuer certificate")
    assert shortage(error, "h") is None
    with no_descriptor_left():
        found = shortage(error, "h")
    assert found is not None
    assert found.code == "out_of_descriptors"


async def test_a_client_is_told_whose_side_it_is(simulator: Simulator) -> None:
    async with running_proxy(simulator.base_url) as proxy, connect(proxy.port) as wire:
        wire.send(request("GET", "/health"))
        await wire.reply()  # accepted, before there are no descriptors
        with no_descriptor_left() as limit:
            wire.send(post())
            reply = await wire.reply()
        exchange = await proxy.last()
        wire.send(post())
        assert (await wire.reply()).whole
    envelope = json.loads(reply.body)["error"]
    assert (reply.status, reply.get("x-claude-proxy-error"), envelope["type"]) == (503, "out_of_descriptors", "overloaded_error")
    assert f"RLIMIT_NOFILE is {limit}" in envelope["message"]
    assert exchange.outcome is Outcome.FAILED
    assert (exchange.failure and exchange.failure.side, len(exchange.attempts)) == ("proxy", 1)
    assert (exchange.attempts[0].failure and exchange.attempts[0].failure.side) == "proxy"
    assert len(simulator.requests) == 1
