"""A peer that is gone without a word is noticed by TCP; one that is alive and silent, or does not read, is left alone."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
import uvloop

from claude_proxy.simulator import Simulator
from claude_proxy.upstream.connection import Connection
from claude_proxy.upstream.dial import Dialer, parse_origin
from claude_proxy.upstream.liveness import PROBING, Probing, probe, spare_slow_reader
from claude_proxy.upstream.pool import Pool
from tests.integration.leftovers import until
from tests.integration.listeners import listening, small_buffers
from tests.upstream.test_dial import serving, tunnel_to

linux = pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT and struct tcp_info are Linux's")


@contextmanager
def socket_of(connection: Connection) -> Iterator[socket.socket]:
    """A socket object of our own for a connection."""
    with socket.socket(fileno=os.dup(connection.fileno)) as sock:
        yield sock


def figures(connection: Connection) -> list[int]:
    """What the kernel has been told."""
    with socket_of(connection) as sock:
        return [
            bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)),
            sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
            sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
            sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
        ]


async def dialed(base_url: str, ca_file: Path | None = None) -> list[int]:
    """The figures of a new connection."""
    loop = asyncio.get_running_loop()
    connection = Connection(loop, lambda _: None)
    await Dialer(parse_origin(base_url), ca_file).connect(loop, connection)
    found = figures(connection)
    connection.abort()
    await until(lambda: connection.closed)
    return found


@linux
@pytest.mark.parametrize("factory", [uvloop.new_event_loop, asyncio.SelectorEventLoop])
@pytest.mark.parametrize("way", ["address", "name", "tls", "proxy", "tunnel"])
def test_the_kernel_is_told_on_every_way_to_an_upstream(
    factory: type[asyncio.AbstractEventLoop], way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("NO_PROXY", "no_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)

    async def main() -> list[int]:
        encrypted = way in ("tls", "tunnel")
        certificate = authority.issue_cert("127.0.0.1", "api.example")
        async with (
            Simulator(tls=serving(certificate) if encrypted else None) as sim,
            listening(tunnel_to(sim.port)) as proxy,
        ):
            if way in ("proxy", "tunnel"):
                monkeypatch.setenv("HTTPS_PROXY" if encrypted else "HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
            host = {"address": f"127.0.0.1:{sim.port}", "name": f"localhost:{sim.port}", "tls": f"127.0.0.1:{sim.port}"}
            scheme = "https" if encrypted else "http"
            return await dialed(f"{scheme}://{host.get(way, 'api.example')}", tmp_path / "ca.pem")

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(main()) == [True, 10, 5, 3, 25_000]


def test_a_socket_that_is_closed_already_is_let_be() -> None:
    probe(-1)
    spare_slow_reader(-1)


def test_an_option_that_the_platform_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"):
        monkeypatch.delattr(socket, name, raising=False)
    with socket.socket() as sock:
        probe(sock.fileno())
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@linux
def test_an_option_that_the_kernel_refuses_does_not_keep_the_others_from_being_set() -> None:
    with socket.socket() as sock:
        probe(sock.fileno(), Probing(idle=-1))
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == PROBING.count


def window_probes(connection: Connection) -> int:
    """How often the kernel has asked, in growing intervals, whether the window is open again: tcpi_backoff."""
    with socket_of(connection) as sock:
        return int(struct.unpack_from("=5B", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 5))[4])


@linux
async def test_a_live_peer_that_does_not_read_is_left_to_the_time_outs_of_the_proxy() -> None:
    """By itself TCP_USER_TIMEOUT closes it, since its window stays closed: here after half a second."""
    reads = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reads.wait()
        while await reader.read(65536):
            pass

    async with listening(handler, small_buffers()) as upstream:
        origin = parse_origin(f"http://127.0.0.1:{upstream.port}")
        dialer = Dialer(origin, probing=Probing(unacknowledged=0.5))
        pool = Pool(origin, connect_timeout=5, expiry=30, limit=1, dialer=dialer)
        connection = await pool.connect(asyncio.get_running_loop())
        connection.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n", b"x" * 300_000)
        async with asyncio.timeout(30):
            while window_probes(connection) < 4:  # 0.2 + 0.4 + 0.8 + 1.6 s
                assert not connection.closed
                await asyncio.sleep(0.02)
            assert figures(connection)[-1] == 0
            reads.set()
            while figures(connection)[-1] != 500:  # noqa: ASYNC110 - the kernel does not call
                await asyncio.sleep(0.02)
        pool.close()
        await until(lambda: connection.closed)


@linux
@pytest.mark.parametrize("sent", ["nothing", "small", "large"])
def test_a_peer_whose_cable_is_pulled_is_noticed_in_seconds(sent: str) -> None:
    """Between two network namespaces, with figures of a second or two; `pulled.py` is the client there."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare", "nsenter"))):
        pytest.skip("needs root, ip, unshare and nsenter")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces cannot be made here")
    script = Path(__file__).with_name("pulled.py")
    done = subprocess.run(
        ["unshare", "--net", sys.executable, script, sent], capture_output=True, text=True, timeout=60, check=False
    )
    if "Unknown device type" in done.stderr or "Operation not supported" in done.stderr:
        pytest.skip("this kernel has no virtual network cables (veth)")
    assert done.returncode == 0, done.stderr
    code, seconds = done.stdout.split()
    assert code == ("-" if sent == "nothing" else "connection_lost")  # not "stale_connection", which would be sent again
    assert float(seconds) < 8
