"""Limits how many wrong logins may be tried, per peer and overall."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from typing import Any

PEER_TRIES, PEER_SECONDS = 10, 30.0  # wrong tries at once, and seconds until another is allowed
ALL_TRIES, ALL_SECONDS = 100, 3.0
MAX_PEERS = 4096


class Bucket:
    """Counts tries; the count falls by one every `seconds`."""

    __slots__ = ("_at", "_count", "_seconds", "_tries")

    def __init__(self, tries: int, seconds: float) -> None:
        self._tries = tries
        self._seconds = seconds
        self._count = 0.0
        self._at = 0.0

    def wait(self, now: float) -> float:
        """Seconds until another try is allowed; 0 if it is now."""
        return max(0.0, (self._level(now) + 1 - self._tries) * self._seconds)

    def add(self, now: float) -> None:
        """Count one."""
        self._count, self._at = self._level(now) + 1, now

    def _level(self, now: float) -> float:
        return max(0.0, self._count - (now - self._at) / self._seconds)


class Throttle:
    """Slows down guessing. Each process counts for itself.

    A peer that has once shown the right secret is not held up by the tries of others, so an attack from many addresses cannot
    lock out Prometheus or the owner.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._all = Bucket(ALL_TRIES, ALL_SECONDS)
        self._peers: OrderedDict[str, Bucket] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()

    def wait(self, peer: str) -> int:
        """Whole seconds that `peer` has to wait before its next try; 0 if it need not."""
        now = self._clock()
        own = self._peers.get(peer)
        wait = 0.0 if own is None else own.wait(now)
        if peer not in self._known:
            wait = max(wait, self._all.wait(now))
        return math.ceil(wait)

    def failed(self, peer: str) -> None:
        """Count a wrong try."""
        now = self._clock()
        own = self._peers.setdefault(peer, Bucket(PEER_TRIES, PEER_SECONDS))
        _refresh(self._peers, peer)
        own.add(now)
        self._all.add(now)

    def succeeded(self, peer: str) -> None:
        """Remember that `peer` knows the secret."""
        self._known[peer] = None
        _refresh(self._known, peer)


def _refresh(memory: OrderedDict[str, Any], key: str) -> None:
    """Make `key` the newest entry and drop the oldest one beyond the limit."""
    memory.move_to_end(key)
    if len(memory) > MAX_PEERS:
        memory.popitem(last=False)


def peer_of(scope: MutableMapping[str, Any]) -> str:
    """The address that a request counts for: an IPv4 address, or the /64 of an IPv6 one, which one user can fill alone."""
    client = scope.get("client")
    address: str = client[0] if client else ""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(getattr(ip, "ipv4_mapped", None) or ip)
