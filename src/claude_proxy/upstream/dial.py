"""Connects to an upstream: name lookup, TCP, outbound proxy, TLS. Each failure becomes a one-sentence error."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohappyeyeballs

from claude_proxy.errors import ConnectFailed, ProxyError, Untrusted
from claude_proxy.upstream.connection import Connection
from claude_proxy.upstream.failures import descriptors_used_up, out_of_descriptors, out_of_memory, shortage, unreachable, words
from claude_proxy.upstream.liveness import PROBING, Probing, probe
from claude_proxy.upstream.origin import Origin, OutboundProxy, parse_origin
from claude_proxy.upstream.trust import tls_context, untrusted

__all__ = ["Dialer", "Origin", "OutboundProxy", "parse_origin", "tls_context"]

AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]  # as returned by getaddrinfo
HAPPY_EYEBALLS_DELAY = 0.25  # seconds, RFC 8305 section 8
MAX_CONNECT_ANSWER = 16 * 1024


class Dialer:
    """Makes connections to one upstream.

    Args:
        origin: the upstream's address and its outbound proxy.
        ca_file: PEM authorities to trust instead of the system's.
        probing: when a silent peer counts as gone.
    """

    def __init__(self, origin: Origin, ca_file: Path | None = None, probing: Probing = PROBING) -> None:
        self.origin = origin
        self.probing = probing
        self._ca_file = ca_file
        self._tls: ssl.SSLContext | None = None

    async def connect(self, loop: asyncio.AbstractEventLoop, connection: Connection) -> None:
        """Connect `connection`. There is no timeout here; the caller cancels.

        Raises:
            ConnectFailed: says what failed and what to do.
            Unavailable: this machine has no descriptor or no memory left.
        """
        try:
            tls = self._context() if self.origin.tls else None
            addresses = await self._resolve(loop)
            if tls is None and len(addresses) == 1 and len(addresses[0][4]) == 2:
                await self._straight(loop, addresses[0][4], connection)
            else:
                await self._secure(loop, await self._reach(loop, addresses), tls, connection)
        except MemoryError:
            connection.abort()
            raise out_of_memory(self.origin.host) from None
        probe(connection.fileno, self.probing)

    def _context(self) -> ssl.SSLContext:
        """Return the TLS context, which is cached: loading the system's authorities takes about 20 ms."""
        if self._tls is None:
            if descriptors_used_up():  # OpenSSL could not open the CA file, and the cached context would trust nobody
                raise out_of_descriptors(self.origin.host)
            self._tls = tls_context(self._ca_file)
        return self._tls

    async def _resolve(self, loop: asyncio.AbstractEventLoop) -> Sequence[AddressInfo]:
        what, host, port = self.origin.first_hop
        try:
            return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, RuntimeError) as error:
            setting = "BASE_URL" if self.origin.proxy is None else "HTTPS_PROXY"
            sentence = f"The {what}'s name {host} cannot be resolved ({words(error)}). Check {setting} and this machine's DNS."
            short = shortage(error, host, looking_up=True)
            raise short or ConnectFailed(sentence, code="name_not_found") from None

    async def _straight(self, loop: asyncio.AbstractEventLoop, address: tuple[Any, ...], connection: Connection) -> None:
        """Connect to a single address without TLS by the event loop's own method, which costs a third."""
        try:
            await loop.create_connection(lambda: connection, *address)
        except OSError as error:
            raise self._unreachable(error) from None

    async def _reach(self, loop: asyncio.AbstractEventLoop, addresses: Sequence[AddressInfo]) -> socket.socket:
        """Return a socket connected to the first address that answers."""
        try:
            return await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY, loop=loop)
        except (OSError, RuntimeError) as error:
            raise self._unreachable(error) from None

    async def _secure(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, tls: ssl.SSLContext | None, connection: Connection
    ) -> None:
        """Set up the tunnel and TLS, where needed, on a connected socket."""
        origin = self.origin
        drop = sock.close
        try:
            if origin.proxy is not None and tls is not None:
                await _tunnel(loop, sock, origin, origin.proxy)
            name = origin.host if tls is not None else None
            drop = connection.abort  # the transport owns the socket now; closing it here would free its number for reuse
            await loop.create_connection(lambda: connection, sock=sock, ssl=tls, server_hostname=name)
        except OSError as error:
            drop()
            raise self._failure(error, self._handshake(error)) from None
        except BaseException:
            drop()
            raise

    def _handshake(self, error: OSError) -> ConnectFailed:
        origin = self.origin
        if isinstance(error, ssl.SSLCertVerificationError):
            return Untrusted(untrusted(origin.host, error, self._ca_file), code="tls_failed")
        where = f"{origin.host}:{origin.port}"
        return ConnectFailed(
            f"No connection to {where}: {words(error)}. Check BASE_URL (http or https?) and the upstream.", code="tls_failed"
        )

    def _unreachable(self, error: Exception) -> ProxyError:
        what, host, port = self.origin.first_hop
        return self._failure(error, ConnectFailed(unreachable(f"{what} {host}:{port}", error)))

    def _failure(self, error: Exception, otherwise: ConnectFailed) -> ProxyError:
        """Return `otherwise`, unless this machine has run out of something."""
        return shortage(error, self.origin.host) or otherwise


async def _tunnel(loop: asyncio.AbstractEventLoop, sock: socket.socket, origin: Origin, proxy: OutboundProxy) -> None:
    """Ask the proxy for a tunnel (RFC 9110 section 9.3.6)."""
    auth = b"proxy-authorization: %b\r\n" % proxy.authorization if proxy.authorization else b""
    await loop.sock_sendall(sock, b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (origin.authority, origin.authority, auth))
    answer = bytearray()
    while b"\r\n\r\n" not in answer and len(answer) < MAX_CONNECT_ANSWER:
        data = await loop.sock_recv(sock, 1)  # byte by byte: what follows the head belongs to TLS
        if not data:
            break
        answer += data
    status_line = bytes(answer).split(b"\r\n", 1)[0].split(b" ", 2)
    if len(status_line) < 2 or not status_line[1].startswith(b"2"):
        said = b" ".join(status_line[1:]).decode("latin-1")[:80] or "nothing"
        raise ConnectFailed(
            f"The outbound proxy {proxy.host}:{proxy.port} refused a tunnel to {origin.host} ({said}). Check HTTPS_PROXY.",
            code="proxy_refused",
        )
