"""Who is on this machine."""

import pytest

from claude_proxy.access.peers import is_local, is_loopback
from tests.access.added import CLIENTS, NAMES
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


VALUES = ["203.0.113.9", "127.0.0.1, 203.0.113.9", "127.0.0.1", "::1", "", "unknown", "for=127.0.0.1"]


@pytest.mark.parametrize("name", NAMES)
def test_what_came_through_a_front_is_not_this_machines_whatever_the_field_says(name: str) -> None:
    """A server that trusts its peer has put the field's 127.0.0.1 in the peer's place already."""
    others = [("host", "localhost:3000"), ("user-agent", "claude-cli/2")]
    for client in (("127.0.0.1", 1), None):
        assert is_local(scope(*others, client=client))
        for value in VALUES:
            assert not is_local(scope((name, value), *others, client=client))
            assert not is_local(scope(*others, (name, value), client=client))


def test_a_remote_client_does_not_become_local_by_saying_so() -> None:
    assert not is_local(scope(("x-forwarded-for", "127.0.0.1"), client=("203.0.113.9", 1)))


def test_the_fields_of_clients_say_nothing() -> None:
    assert is_local(scope(*[(name, "example.com") for name in CLIENTS]))
