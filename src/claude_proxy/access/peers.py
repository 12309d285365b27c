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
    """Whether the client is on this machine: a loopback peer, or a Unix socket.

    A front on this machine that is not trusted with forwarded headers (FORWARDED_ALLOW_IPS) is a loopback peer for anybody in
    the world; its forwarded header gives it away, so such a request does not count as local.
    """
    client = scope.get("client")
    if client is not None and client[0] and not is_loopback(client[0]):
        return False
    return not any(name in _TOLD_BY_A_FRONT and not _names_loopback(value) for name, value in scope["headers"])


def _names_loopback(value: bytes) -> bool:
    parts = [part.strip() for part in value.decode("latin-1").split(",")]
    return bool(parts) and all(is_loopback(part) for part in parts)
