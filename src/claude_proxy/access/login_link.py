"""The link that logs a browser in: `http://localhost:3000/login#code=...`.

The code is in the fragment, which browsers send to no server and in no Referer (RFC 3986 section 3.5, RFC 9110 section 10.1.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_proxy.access.peers import is_loopback

if TYPE_CHECKING:
    from claude_proxy.settings import Settings

_EVERY = ("", "0.0.0.0", "::", "*")  # noqa: S104 -- recognised here, not bound


def login_link(settings: Settings, code: str, address: str | None = None) -> str:
    """Return the link.

    Args:
        address: where browsers reach the page; by default PUBLIC_URL, else this machine's own address. The port under which
            a container is published cannot be known inside it.
    """
    return f"{address or page_address(settings)}/login#code={code}"


def page_address(settings: Settings) -> str:
    """Where browsers reach the page, without a trailing slash; only the path if PORT=0 lets the system pick the port."""
    if settings.public_url is not None:
        return settings.public_url
    if settings.port == 0:
        return settings.root_path
    hosts = settings.hosts
    host = "localhost" if any(host in _EVERY or _is_loopback(host) for host in hosts) else hosts[0]
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}{settings.root_path}"


def needs_link(settings: Settings) -> bool:
    """Whether browsers that have to log in can reach the page: it listens beyond loopback, or PUBLIC_URL says so.

    For a Unix socket, only PUBLIC_URL says where the page is.
    """
    if settings.public_url is not None:
        return True
    return settings.unix_socket is None and not all(_is_loopback(host) for host in settings.hosts)


def _is_loopback(host: str) -> bool:
    return host.lower() == "localhost" or is_loopback(host)
