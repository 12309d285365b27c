"""Whether a request comes from this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import MutableMapping
from typing import Any

_TOLD_BY_A_FRONT = frozenset((b"x-forwarded-for", b"forwarded", b"x-real-ip"))


def is_loopback(address: str) -> bool:
    """Whether an address is 127.0.0.0/8, ::1 or ::ffff:127.x."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def is_local(scope: MutableMapping[str, Any]) -> bool:
    """Whether the client is on this machine: a loopback peer or a Unix socket, and no front that speaks for others.

    A request with a forwarded header never is, whatever the header says. A front on this machine is a loopback peer for anybody
    in the world. And a server that trusts its peer (FORWARDED_ALLOW_IPS) has put the header's address in the peer's place,
    so that the address is whatever the sender wrote.
    """
    client = scope.get("client")
    if client is not None and client[0] and not is_loopback(client[0]):
        return False
    return not any(name in _TOLD_BY_A_FRONT for name, _ in scope["headers"])
