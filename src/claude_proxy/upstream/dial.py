"""Reaching an upstream: name, address, outbound proxy, TLS. Each failure becomes one sentence."""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import re
import socket
import ssl
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import aiohappyeyeballs

from claude_proxy.errors import ConnectFailed, SettingsError
from claude_proxy.upstream.connection import Connection

AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]  # what getaddrinfo gives
HAPPY_EYEBALLS_DELAY = 0.25  # seconds, RFC 8305 section 8
MAX_CONNECT_ANSWER = 16 * 1024
_SAID = {  # where the system's own words differ from system to system, or say too little
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EHOSTUNREACH: "no route to that host",
    errno.ENETUNREACH: "no route to that network",
    errno.ETIMEDOUT: "no answer",
    errno.EACCES: "not permitted, perhaps by a firewall on this machine",
    errno.EPERM: "not permitted, perhaps by a firewall on this machine",
}
_CREDENTIALS = re.compile(r"//.*@")  # of a proxy that is refused
_NUMBERS = re.compile(r"\[Errno (\d+)\]")  # in the one error that several addresses have left


@dataclass(frozen=True, slots=True)
class OutboundProxy:
    """An HTTP proxy between us and the upstream (HTTPS_PROXY, HTTP_PROXY).

    Attributes:
        authorization: the value of Proxy-Authorization, or None.
    """

    host: str
    port: int
    authorization: bytes | None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an upstream lives.

    Attributes:
        tls: whether the connection is encrypted.
        base_path: the path of the base URL without trailing slash, such as b"/api/anthropic".
        host_header: the value of Host.
    """

    host: str
    port: int
    tls: bool
    base_path: bytes
    host_header: bytes
    proxy: OutboundProxy | None = None

    @property
    def target_prefix(self) -> bytes:
        """What stands before the path in a request line: absolute-form for plain HTTP through a proxy."""
        if self.proxy is None or self.tls:
            return self.base_path
        return b"http://" + self.host_header + self.base_path


def parse_origin(base_url: str) -> Origin:
    """Read a checked base URL and the proxy environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY).

    Raises:
        SettingsError: the proxy variable cannot be used.
    """
    parts = urlsplit(base_url)
    tls = parts.scheme == "https"
    host = parts.hostname or ""
    port = parts.port or (443 if tls else 80)
    return Origin(host, port, tls, parts.path.encode(), _host_header(parts), _proxy_for(parts.scheme, host, port))


def _host_header(parts: SplitResult) -> bytes:
    return parts.netloc.rpartition("@")[2].encode("idna" if not parts.netloc.isascii() else "ascii")


def _proxy_for(scheme: str, host: str, port: int) -> OutboundProxy | None:
    url = urllib.request.getproxies().get(scheme)
    if not url or urllib.request.proxy_bypass(f"{host}:{port}") or host in ("localhost", "127.0.0.1", "::1"):
        return None
    variable = f"{scheme.upper()}_PROXY"
    full = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(full)
        proxy, number = parts.hostname, parts.port or 80
    except ValueError:  # a port that is none
        proxy = None
    if not proxy or parts.scheme != "http":
        raise SettingsError(
            f"{variable}={_CREDENTIALS.sub('//***@', full)}: expected an http:// proxy, such as http://proxy.example:3128. "
            "For an upstream that needs none, name it in NO_PROXY."
        )
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = b"Basic " + base64.b64encode(pair.encode())
    return OutboundProxy(proxy, number, authorization)


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """A verifying client context; `ca_file` replaces the system's authorities.

    Raises:
        SettingsError: the file holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(f"UPSTREAM_CA_FILE={ca_file}: expected PEM certificates ({_words(error)}).") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


async def dial(loop: asyncio.AbstractEventLoop, origin: Origin, tls: ssl.SSLContext | None, connection: Connection) -> Connection:
    """Connect `connection` to `origin`.

    Raises:
        ConnectFailed: a sentence on what did not work and what to do.
    """
    addresses = await _resolve(loop, origin)
    if tls is None and origin.proxy is None and len(addresses) == 1 and len(addresses[0][4]) == 2:
        return await _straight(loop, origin, addresses[0][4], connection)
    sock = await _reach(loop, origin, addresses)
    drop = sock.close
    try:
        if origin.proxy is not None and origin.tls:
            await _tunnel(loop, sock, origin, origin.proxy)
        name = origin.host if tls is not None else None
        drop = connection.abort  # the socket is the transport's now: closed under it, its number would soon be another's
        await loop.create_connection(lambda: connection, sock=sock, ssl=tls, server_hostname=name)
    except ssl.SSLCertVerificationError as error:
        drop()
        raise ConnectFailed(_certificate(origin, error), code="tls_failed") from None
    except (ssl.SSLError, ConnectionError, OSError) as error:
        drop()
        raise ConnectFailed(_handshake(origin, error), code="tls_failed") from None
    except BaseException:
        drop()
        raise
    return connection


async def _straight(
    loop: asyncio.AbstractEventLoop, origin: Origin, address: tuple[Any, ...], connection: Connection
) -> Connection:
    """One address, and nothing between: the loop's own way, which costs a third."""
    try:
        await loop.create_connection(lambda: connection, *address)
    except OSError as error:
        raise ConnectFailed(unreachable(f"upstream {origin.host}:{origin.port}", error)) from None
    return connection


def _first_hop(origin: Origin) -> tuple[str, str, int]:
    """What it is, and where."""
    if origin.proxy is not None:
        return "outbound proxy", origin.proxy.host, origin.proxy.port
    return "upstream", origin.host, origin.port


async def _resolve(loop: asyncio.AbstractEventLoop, origin: Origin) -> Sequence[AddressInfo]:
    what, host, port = _first_hop(origin)
    try:
        return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise ConnectFailed(
            f"The {what}'s name {host} cannot be resolved ({_words(error)}). Check BASE_URL and this machine's DNS.",
            code="name_not_found",
        ) from None


async def _reach(loop: asyncio.AbstractEventLoop, origin: Origin, addresses: Sequence[AddressInfo]) -> socket.socket:
    what, host, port = _first_hop(origin)
    try:
        return await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY, loop=loop)
    except (OSError, RuntimeError) as error:
        raise ConnectFailed(unreachable(f"{what} {host}:{port}", error)) from None


def unreachable(what: str, error: BaseException) -> str:
    """The sentence on an address to which no connection could be made."""
    words = _words(error)
    failed = "does not accept connections" if words == _SAID[errno.ECONNREFUSED] else "cannot be reached"
    return f"The {what} {failed} ({words}). Check that it is up and reachable."


async def _tunnel(loop: asyncio.AbstractEventLoop, sock: socket.socket, origin: Origin, proxy: OutboundProxy) -> None:
    """Ask the proxy for a tunnel (RFC 9110 section 9.3.6)."""
    authority = b"%b:%d" % (origin.host_header.rpartition(b":")[0] or origin.host_header, origin.port)
    if not origin.host_header.rpartition(b":")[2].isdigit():
        authority = b"%b:%d" % (origin.host_header, origin.port)
    auth = b"proxy-authorization: %b\r\n" % proxy.authorization if proxy.authorization else b""
    await loop.sock_sendall(sock, b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (authority, authority, auth))
    answer = bytearray()
    while b"\r\n\r\n" not in answer and len(answer) < MAX_CONNECT_ANSWER:
        data = await loop.sock_recv(sock, 1)  # byte by byte: what follows the head belongs to TLS
        if not data:
            break
        answer += data
    words = bytes(answer).split(b"\r\n", 1)[0].split(b" ", 2)
    if len(words) < 2 or not words[1].startswith(b"2"):
        said = b" ".join(words[1:]).decode("latin-1")[:80] or "nothing"
        raise ConnectFailed(
            f"The outbound proxy {proxy.host}:{proxy.port} refused a tunnel to {origin.host} ({said}). Check HTTPS_PROXY.",
            code="proxy_refused",
        )


def _certificate(origin: Origin, error: ssl.SSLCertVerificationError) -> str:
    return (
        f"The certificate of {origin.host} is not trusted: {error.verify_message.rstrip('.')}. "
        "Check BASE_URL; for a private authority set UPSTREAM_CA_FILE."
    )


def _handshake(origin: Origin, error: Exception) -> str:
    return f"No connection to {origin.host}:{origin.port}: {_words(error)}. Check BASE_URL (http or https?) and the upstream."


def _words(error: BaseException) -> str:
    """A failure in a few words. By number: asyncio's own words for a refused connection are "Connect call failed"."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    if isinstance(error, OSError) and not isinstance(error, (ssl.SSLError, socket.gaierror)):
        numbers = [error.errno] if error.errno else map(int, _NUMBERS.findall(str(error)))
        if said := " and ".join(dict.fromkeys(_SAID.get(number) or os.strerror(number).lower() for number in numbers)):
            return said
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
