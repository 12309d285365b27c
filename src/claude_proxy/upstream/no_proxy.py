"""Which hosts bypass the outbound proxy: the grammar of NO_PROXY. Pure: it does no DNS lookup.

No standard defines NO_PROXY. This follows curl (CURLOPT_NOPROXY) and Go (golang.org/x/net/http/httpproxy). Where they
differ it exempts the host, since a user who names a host in NO_PROXY wants no proxy for it.

Entries are separated by commas or white space and are case-insensitive:

| entry | exempts |
|---|---|
| `*` | every host |
| `example.com`, `.example.com`, `*.example.com` | that name and all below it |
| `10.1.2.3`, `fd00::1`, `[fd00::1]` | that address |
| `10.0.0.0/8`, `fd00::/8` | every address in that network |
| any of the names and addresses with `:8443` (an IPv6 address in brackets) | the same on that port only |

Addresses and networks match a host that is written as an address; names are not resolved. An entry that is none of these is
ignored. This machine (`localhost`, names below it, loopback addresses) is always exempt.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_SEPARATORS = re.compile(r"[,\s]+")
_PORT = re.compile(r"(\[[^]]*\]|[^:]*):([0-9]{1,5})")  # "host:port" or "[address]:port"; not an address with colons of its own


def is_exempt(no_proxy: str, host: str, port: int) -> bool:
    """Whether `host` bypasses the outbound proxy.

    Args:
        no_proxy: the value of NO_PROXY.
        host: of the upstream: a name, or an address without brackets.
        port: of the upstream.
    """
    host = _plain(host)
    address = _address(host)
    if _is_this_machine(host, address):
        return True
    entries = filter(None, _SEPARATORS.split(no_proxy))
    return any(_matches(entry, host, address, port) for entry in entries)


def _is_this_machine(host: str, address: IPv4Address | IPv6Address | None) -> bool:
    if address is not None:
        return address.is_loopback
    return host == "localhost" or host.endswith(".localhost")  # RFC 6761 section 6.3


def _matches(entry: str, host: str, address: IPv4Address | IPv6Address | None, port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return address is not None and _contains(entry, address)
    if with_port := _PORT.fullmatch(entry):
        entry, wanted = with_port.groups()
        if int(wanted) != port:
            return False
    name = _plain(entry)
    if address is not None:
        return _address(name) == address
    domain = name.removeprefix("*").removeprefix(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _contains(network: str, address: IPv4Address | IPv6Address) -> bool:
    try:
        return address in ip_network(network, strict=False)  # as curl and Go: 10.1.2.3/8 is 10.0.0.0/8
    except ValueError:
        return False


def _plain(name: str) -> str:
    """Normalise a host for comparison: lower case, no brackets, no final dot, international names in ASCII form."""
    name = name.removeprefix("[").removesuffix("]").removesuffix(".").lower()
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return name


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Parse a host as an address; one like ::ffff:10.0.0.1 becomes its IPv4 address."""
    try:
        address = ip_address(host.partition("%")[0])  # the zone of fe80::1%eth0 does not matter here
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
