"""How often a wrong secret may be tried."""

import pytest

from claude_proxy.access.throttle import ALL_TRIES, MAX_PEERS, PEER_TRIES, Throttle, peer_of
from tests.access.scopes import scope


class Clock:
    """Time by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    return Throttle(clock)


def fail(throttle: Throttle, peer: str, times: int) -> None:
    for _ in range(times):
        throttle.failed(peer)


def test_a_peer_has_ten_tries(throttle: Throttle) -> None:
    fail(throttle, "a", PEER_TRIES - 1)
    assert throttle.wait("a") == 0
    throttle.failed("a")
    assert throttle.wait("a") == 30
    assert throttle.wait("b") == 0


def test_it_gets_another_every_thirty_seconds(throttle: Throttle, clock: Clock) -> None:
    fail(throttle, "a", PEER_TRIES)
    clock.now += 29
    assert throttle.wait("a") == 1
    clock.now += 1
    assert throttle.wait("a") == 0
    throttle.failed("a")
    assert throttle.wait("a") == 30


def test_all_peers_together_have_a_hundred(throttle: Throttle, clock: Clock) -> None:
    for number in range(ALL_TRIES):
        throttle.failed(f"peer {number}")
    assert throttle.wait("another") == 3
    clock.now += 3
    assert throttle.wait("another") == 0


def test_a_peer_that_knows_the_secret_is_not_held_up_by_others(throttle: Throttle) -> None:
    throttle.succeeded("prometheus")
    for number in range(ALL_TRIES):
        throttle.failed(f"peer {number}")
    assert throttle.wait("prometheus") == 0
    fail(throttle, "prometheus", PEER_TRIES)
    assert throttle.wait("prometheus") == 30


def test_its_memory_is_bounded(throttle: Throttle) -> None:
    for number in range(MAX_PEERS + 10):
        throttle.failed(f"peer {number}")
        throttle.succeeded(f"peer {number}")
    assert len(throttle._peers) == len(throttle._known) == MAX_PEERS
    assert throttle.wait(f"peer {MAX_PEERS}") == 0  # the newest are kept
    assert throttle.wait("peer 0") > 0


@pytest.mark.parametrize(
    ("client", "peer"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("::ffff:192.0.2.7", 1), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
        (("2001:db8:1:2::ffff%eth0", 1), "2001:db8:1:2::/64"),
        (("a socket", 1), "a socket"),
        (None, ""),
    ],
)
def test_a_try_counts_for_an_address_or_a_network_of_one_user(client: tuple[str, int] | None, peer: str) -> None:
    assert peer_of(scope(client=client)) == peer
