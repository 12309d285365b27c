"""Whether a request comes from this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import MutableMapping
from typing import Any

from claude_proxy.fronts import added_by_front
from claude_proxy.names import NameMemory

_FROM_FRONT = NameMemory(added_by_front)


def is_loopback(address: str) -> bool:
    """Whether an address is 127.0.0.0/8, ::1 or ::ffff:127.x."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def is_local(scope: MutableMapping[str, Any]) -> bool:
    """Whether a request comes from this machine: over loopback or a Unix socket, and without header fields of a front proxy.

    A reverse proxy, tunnel or CDN agent on this machine (nginx, cloudflared, `tailscale serve`) is a loopback peer but forwards
    requests from anywhere. So a request with any field of `fronts.py` is not local, whatever its value: the sender may have
    written it, and a server that trusts its peer (FORWARDED_ALLOW_IPS) has already replaced the peer's address by it.
    """
    client = scope.get("client")
    if client is not None and client[0] and not is_loopback(client[0]):
        return False
    for name, _ in scope["headers"]:  # noqa: SIM110 -- runs for every request, and a generator costs a quarter more
        if _FROM_FRONT[name]:
            return False
    return True
