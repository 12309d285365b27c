"""What is listened on: 127.0.0.1 means ::1 too, where there is one."""

import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.typing import EventDict

from claude_proxy.server import ServerOptions, sockets
from claude_proxy.server.sockets import describe, listen
from tests.server.process import has_ipv6_loopback

Listen = Any
needs_ipv6 = pytest.mark.skipif(not has_ipv6_loopback(), reason="no IPv6 here")


@pytest.fixture(name="addresses")
def listening() -> Iterator[Listen]:
    """Listens, and says on what; all is closed at the end."""
    opened: list[socket.socket] = []

    def addresses(**options: Any) -> list[str]:
        opened.extend(listen(ServerOptions(**options)))
        return [describe(listener) for listener in opened]

    yield addresses
    for listener in opened:
        listener.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@needs_ipv6
@pytest.mark.parametrize("options", [{}, {"hosts": ("127.0.0.1",)}])
def test_the_ipv4_loopback_brings_the_ipv6_one_at_the_same_port(addresses: Listen, options: dict[str, Any]) -> None:
    v4, v6 = addresses(port=0, **options)
    port = v4.rpartition(":")[2]
    assert port != "0"
    assert (v4, v6) == (f"http://127.0.0.1:{port}", f"http://[::1]:{port}")


@needs_ipv6
def test_other_addresses_keep_their_place(addresses: Listen) -> None:
    assert [each.rpartition(":")[0] for each in addresses(hosts=("127.0.0.2", "127.0.0.1", "127.0.0.3"), port=free_port())] == [
        "http://127.0.0.2",
        "http://127.0.0.1",
        "http://[::1]",
        "http://127.0.0.3",
    ]


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.2"])
def test_other_addresses_bring_no_other(addresses: Listen, host: str) -> None:
    assert [each.rpartition(":")[0] for each in addresses(hosts=(host,), port=0)] == [f"http://{host}"]


@needs_ipv6
@pytest.mark.parametrize("hosts", [("127.0.0.1", "::1"), ("::1", "127.0.0.1"), ("localhost", "127.0.0.2")])
def test_an_address_is_listened_on_once(addresses: Listen, hosts: tuple[str, ...]) -> None:
    found = addresses(hosts=hosts, port=free_port())
    assert len(found) == len(set(found))


@needs_ipv6
def test_a_taken_ipv6_port_leaves_the_ipv4_one_and_a_line(addresses: Listen, log_lines: list[EventDict]) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        assert addresses(port=port) == [f"http://127.0.0.1:{port}"]
    (line,) = log_lines
    assert (line["event"], line["log_level"], line["not_on"]) == ("ipv4_only", "info", f"http://[::1]:{port}")
    assert "in use" in line["reason"]


@pytest.mark.parametrize("code", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_without_ipv6_the_ipv4_address_does_alone(
    addresses: Listen, log_lines: list[EventDict], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real = sockets._listener

    def without_ipv6(family: int, address: object, backlog: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(code, "no IPv6 here")
        return real(family, address, backlog)

    monkeypatch.setattr(sockets, "_listener", without_ipv6)
    (address,) = addresses(port=0)
    assert address.startswith("http://127.0.0.1:")
    assert [(line["event"], line["log_level"]) for line in log_lines] == [("ipv4_only", "debug")]
