"""Who is on this machine."""

import pytest

from claude_proxy.access.peers import is_local, is_loopback
from tests.access.scopes import scope


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "0:0:0:0:0:0:0:1", "::1%lo"])
def test_loopback_addresses(address: str) -> None:
    assert is_loopback(address)
    assert is_local(scope(client=(address, 1)))


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "192.168.1.2",
        "169.254.0.1",
        "8.8.8.8",
        "::",
        "0.0.0.0",
        "fe80::1%eth0",
        "::ffff:10.0.0.1",
        "2001:db8::1",
        "localhost",
        "testclient",
        "127.0.0.1:80",
        "127.1",
        "unknown",
        " 127.0.0.1",
    ],
)
def test_other_addresses(address: str) -> None:
    assert not is_loopback(address)
    assert not is_local(scope(client=(address, 1)))


def test_a_unix_socket_is_this_machine() -> None:
    assert is_local(scope(client=None))
    assert is_local(scope(client=("", 0)))
    without = scope()
    del without["client"]
    assert is_local(without)


@pytest.mark.parametrize("name", ["x-forwarded-for", "x-real-ip", "forwarded"])
@pytest.mark.parametrize(
    "value", ["203.0.113.9", "127.0.0.1, 203.0.113.9", "203.0.113.9, 127.0.0.1", "", "unknown", "for=203.0.113.9"]
)
def test_a_front_on_this_machine_that_speaks_for_others_is_not_local(name: str, value: str) -> None:
    assert not is_local(scope((name, value)))
    assert not is_local(scope((name, value), client=None))


@pytest.mark.parametrize("name", ["x-forwarded-for", "x-real-ip", "forwarded"])
@pytest.mark.parametrize("value", ["127.0.0.1", "::1", "127.0.0.1, ::1", "for=127.0.0.1"])
def test_a_header_that_says_loopback_proves_nothing_because_anybody_can_write_it(name: str, value: str) -> None:
    """A server that trusts its peer has put the header's 127.0.0.1 in the peer's place already."""
    assert not is_local(scope((name, value), client=("127.0.0.1", 0)))


def test_a_remote_client_does_not_become_local_by_saying_so() -> None:
    assert not is_local(scope(("x-forwarded-for", "127.0.0.1"), client=("203.0.113.9", 1)))


def test_other_fields_say_nothing() -> None:
    assert is_local(scope(("host", "example.com"), ("via", "1.1 front"), ("x-forwarded-proto", "https")))
