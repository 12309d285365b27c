"""Reaching an upstream: TLS that is verified, outbound proxies, and a sentence for each way it can fail."""

from __future__ import annotations

import asyncio
import base64
import datetime
import ssl
from pathlib import Path

import pytest
import trustme
import uvloop

from claude_proxy.errors import ConnectFailed
from claude_proxy.simulator import Simulator
from claude_proxy.upstream.connection import Connection
from claude_proxy.upstream.dial import Dialer, parse_origin
from tests.integration.leftovers import until
from tests.integration.listeners import Handler, listening, saying, silent

PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
FOREIGN = (*PROXY_VARIABLES, *map(str.upper, PROXY_VARIABLES), "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the proxies and authorities of the machine that runs the tests."""
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority of our own."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    """Its certificate as a file."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


def serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """A server's context."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


async def connect(base_url: str, ca_file: Path | None = None) -> Connection:
    """A connection; it is closed at once."""
    loop = asyncio.get_running_loop()
    connection = Connection(loop, lambda _: None)
    async with asyncio.timeout(10):
        await Dialer(parse_origin(base_url), ca_file).connect(loop, connection)
    connection.abort()
    await until(lambda: connection.closed)
    return connection


async def refused(base_url: str, ca_file: Path | None = None) -> ConnectFailed:
    """Why no connection came about."""
    with pytest.raises(ConnectFailed) as caught:
        await connect(base_url, ca_file)
    return caught.value


# -- TLS


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
async def test_an_upstream_of_our_own_authority(authority: trustme.CA, ca_file: Path, name: str) -> None:
    async with Simulator(tls=serving(authority.issue_cert(name))) as sim:
        assert (await connect(f"https://{name}:{sim.port}", ca_file)).peer == ("127.0.0.1", sim.port)


async def test_an_authority_that_is_not_ours(authority: trustme.CA) -> None:
    async with Simulator(tls=serving(authority.issue_cert("localhost"))) as sim:
        error = await refused(f"https://localhost:{sim.port}")
    assert error.code == "tls_failed"
    assert "certificate of localhost is not trusted" in error.message
    assert "UPSTREAM_CA_FILE" in error.message


async def test_an_authority_of_the_environments_certificate_file(
    authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    async with Simulator(tls=serving(authority.issue_cert("localhost"))) as sim:
        await connect(f"https://localhost:{sim.port}")


async def test_a_certificate_file_of_the_environment_that_is_missing_is_named(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    async with Simulator(tls=serving(authority.issue_cert("localhost"))) as sim:
        error = await refused(f"https://localhost:{sim.port}")
    assert error.code == "tls_failed"
    assert f"SSL_CERT_FILE={tmp_path / 'gone.pem'} does not exist" in error.message


async def test_our_authority_replaces_the_systems(ca_file: Path) -> None:
    async with Simulator(tls=serving(trustme.CA().issue_cert("localhost"))) as sim:
        message = (await refused(f"https://localhost:{sim.port}", ca_file)).message
    assert "not trusted" in message
    assert f"UPSTREAM_CA_FILE={ca_file} replaces the system's authorities" in message


async def test_a_self_signed_certificate(tmp_path: Path) -> None:
    alone = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with alone.private_key_pem.tempfile() as key, alone.cert_pem.tempfile() as cert:
        context.load_cert_chain(cert, key)
    async with Simulator(tls=context) as sim:
        assert "self-signed" in (await refused(f"https://localhost:{sim.port}")).message


async def test_a_certificate_for_another_name(authority: trustme.CA, ca_file: Path) -> None:
    async with Simulator(tls=serving(authority.issue_cert("other.example"))) as sim:
        message = (await refused(f"https://localhost:{sim.port}", ca_file)).message
    assert "not valid for 'localhost'" in message
    assert "BASE_URL" in message


async def test_a_certificate_that_has_expired(authority: trustme.CA, ca_file: Path) -> None:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    async with Simulator(tls=serving(authority.issue_cert("localhost", not_after=past))) as sim:
        assert "has expired" in (await refused(f"https://localhost:{sim.port}", ca_file)).message


async def test_plain_http_where_tls_is_meant(simulator: Simulator) -> None:
    error = await refused(f"https://127.0.0.1:{simulator.port}")
    assert error.code == "tls_failed"
    assert "http or https" in error.message


async def test_an_upstream_that_hangs_up_in_the_handshake() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await refused(f"https://127.0.0.1:{port}")
    assert (error.code, f"127.0.0.1:{port}" in error.message) == ("tls_failed", True)


async def test_an_upstream_that_knows_only_old_tls(authority: trustme.CA, ca_file: Path) -> None:
    context = serving(authority.issue_cert("localhost"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")
    async with Simulator(tls=context) as sim:
        message = (await refused(f"https://localhost:{sim.port}", ca_file)).message
    assert f"localhost:{sim.port}" in message


# -- names


@pytest.mark.parametrize("url", [f"http://{'a' * 64}.example", "http://a..b"])
async def test_a_name_that_is_none(url: str) -> None:
    error = await refused(url)
    assert error.code == "name_not_found"
    assert "BASE_URL" in error.message


# -- connections that do not come about


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_refused_connection_is_called_so_whatever_the_loop_calls_it(loop: str, name: str) -> None:
    async def main() -> str:
        async with Simulator() as sim:
            await sim.refuse()
            message = (await refused(f"http://{name}:{sim.port}")).message
            return message.replace(str(sim.port), "PORT")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        said = runner.run(main())
    assert said == (
        f"The upstream {name}:PORT does not accept connections (connection refused). Check that it is up and reachable."
    )


# -- outbound proxies


def tunnel_to(port: int, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> Handler:
    """An outbound proxy that opens a tunnel to a port of this machine, whatever it is asked for."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.transport.abort()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onwards = await asyncio.open_connection("127.0.0.1", port)
        writer.write(answer)
        try:
            await asyncio.gather(pump(reader, onwards), pump(there, writer))
        finally:
            onwards.transport.abort()

    return handler


async def test_a_tunnel_carries_tls_for_the_upstreams_own_name(
    authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        Simulator(tls=serving(authority.issue_cert("api.example"))) as sim,
        listening(tunnel_to(sim.port)) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{proxy.port}")
        await connect("https://api.example/x", ca_file)
    pair = base64.b64encode(b"me:secret")
    expected = b"CONNECT api.example:443 HTTP/1.1\r\nhost: api.example:443\r\nproxy-authorization: Basic %b\r\n\r\n" % pair
    assert proxy.heads == [expected]


@pytest.mark.parametrize(
    ("url", "authority_form"),
    [
        ("https://api.example:8443", b"CONNECT api.example:8443 "),
        ("https://[2001:db8::1]", b"CONNECT [2001:db8::1]:443 "),
        ("https://[2001:db8::1]:8443", b"CONNECT [2001:db8::1]:8443 "),
        ("https://203.0.113.7", b"CONNECT 203.0.113.7:443 "),
    ],
)
async def test_a_tunnel_is_asked_for_with_a_port(monkeypatch: pytest.MonkeyPatch, url: str, authority_form: bytes) -> None:
    async with listening(saying(b"HTTP/1.1 403 No\r\n\r\n")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        await refused(url)
    assert proxy.heads[0].startswith(authority_form)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", "407 Proxy Authentication Required"),
        (b"HTTP/1.0 403 Forbidden\r\n\r\n", "403 Forbidden"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "302 Found"),
        (b"SSH-2.0-x\r\n\r\n", "nothing"),
        (b"\r\n\r\n", "nothing"),
    ],
)
async def test_a_proxy_that_refuses_a_tunnel(monkeypatch: pytest.MonkeyPatch, answer: bytes, said: str) -> None:
    async with listening(saying(answer)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{proxy.port}")
        error = await refused("https://api.example")
    assert error.code == "proxy_refused"
    assert f"({said})" in error.message
    assert "HTTPS_PROXY" in error.message
    assert "secret" not in error.message


async def test_a_proxy_that_talks_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(saying(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        error = await refused("https://api.example")
    assert error.side == "upstream"


async def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch, simulator: Simulator) -> None:
    await simulator.refuse()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{simulator.port}")
    error = await refused("https://api.example")
    assert f"outbound proxy 127.0.0.1:{simulator.port} does not accept connections" in error.message


async def test_a_proxy_that_closes_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with listening(nothing) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        assert "(nothing)" in (await refused("https://api.example")).message


async def test_plain_http_through_a_proxy_is_asked_for_in_absolute_form(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(silent) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        origin = parse_origin("http://api.example:8080/base")
        assert origin.target_prefix == b"http://api.example:8080/base"
        assert (await connect("http://api.example:8080/base")).peer == ("127.0.0.1", proxy.port)


def test_a_connect_that_is_cancelled_as_its_handshake_ends_takes_no_descriptor_from_others(
    authority: trustme.CA, ca_file: Path
) -> None:
    """On asyncio's own loop: a socket that is closed under its transport gives its number to the next one."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(silent, "127.0.0.1", 0, ssl=serving(authority.issue_cert("127.0.0.1")))
        port = server.sockets[0].getsockname()[1]

        class Cancelling(Connection):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                dialing.cancel()

        connection = Cancelling(loop, lambda _: None)
        dialer = Dialer(parse_origin(f"https://127.0.0.1:{port}"), ca_file)
        dialing = loop.create_task(dialer.connect(loop, connection))
        with pytest.raises(asyncio.CancelledError):
            await dialing
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.transport.abort()
        await until(lambda: connection.closed)
        server.close()

    asyncio.run(main())
