"""Connects to the upstream step by step, with blocking sockets, so that the doctor can tell which step fails."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from claude_proxy import __version__
from claude_proxy.cli.address import bracketed
from claude_proxy.upstream.dial import Origin

STEP_LIMIT = 4.0  # seconds for a connect, a handshake or an answer
MAX_ADDRESSES = 3
MAX_ANSWER = 64 * 1024
MAX_HEAD = 16 * 1024


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response: status, headers (case-insensitive) and the first 64 KiB of its body."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def resolve(host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    """Return the family and address of at most three of the host's addresses.

    Raises:
        OSError: there is none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(int(family), address) for family, _, _, _, address in found][:MAX_ADDRESSES]


def reach(addresses: list[tuple[int, tuple[Any, ...]]]) -> socket.socket:
    """Return a connection to the first address that accepts one.

    Raises:
        OSError: of the last address, if none does.
    """
    last: OSError = OSError("no address")
    for family, address in addresses:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(STEP_LIMIT)
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            last = error
        else:
            return sock
    raise last


def tunnel(sock: socket.socket, origin: Origin) -> None:
    """Ask the outbound proxy for a tunnel (RFC 9110 section 9.3.6).

    Raises:
        OSError: it refuses, or its answer is not valid.
    """
    authority = f"{bracketed(origin.host)}:{origin.port}".encode()
    proof = origin.proxy.authorization if origin.proxy else None
    field = b"" if proof is None else b"Proxy-Authorization: %b\r\n" % proof
    sock.sendall(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (authority, authority, field))
    head = b""
    while not head.endswith(b"\r\n\r\n") and len(head) < MAX_HEAD:
        byte = sock.recv(1)  # one byte at a time: what follows the head belongs to TLS
        if not byte:
            break
        head += byte
    status = head.split(b"\r\n", 1)[0].split(b" ", 1)[-1].decode("latin-1")
    if not status.startswith("2"):
        raise OSError(status[:80] or "it closed the connection")


class Prepared(http.client.HTTPConnection):
    """Speaks HTTP on a socket that is already connected, and never opens another."""

    auto_open = 0


def connect(origin: Origin, tls: ssl.SSLContext | None) -> socket.socket:
    """Do all steps.

    Raises:
        OSError: a step failed (ssl.SSLError is an OSError too).
    """
    host, port = (origin.proxy.host, origin.proxy.port) if origin.proxy else (origin.host, origin.port)
    sock = reach(resolve(host, port))
    try:
        if origin.proxy is not None and origin.tls:
            tunnel(sock, origin)
        return sock if tls is None else tls.wrap_socket(sock, server_hostname=origin.host)
    except BaseException:
        sock.close()
        raise


def ask(sock: socket.socket, origin: Origin, path: str, headers: Mapping[str, str], body: Any = None) -> HttpResponse:
    """Make one request on `sock` and close it; a POST if there is a (JSON) `body`.

    Raises:
        OSError, http.client.HTTPException: no response, or not an HTTP response.
    """
    connection = Prepared(origin.host, origin.port)
    connection.sock = sock
    sent = {
        "Host": origin.host_header.decode("ascii"),
        "User-Agent": f"claude-proxy-doctor/{__version__}",
        "Accept": "application/json",
        "anthropic-version": "2023-06-01",
        **headers,
    }
    if origin.proxy is not None and not origin.tls and origin.proxy.authorization is not None:
        sent["Proxy-Authorization"] = origin.proxy.authorization.decode("latin-1")
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        sent["Content-Type"] = "application/json"
    try:
        connection.request("GET" if data is None else "POST", origin.target_prefix.decode("ascii") + path, data, sent)
        response = connection.getresponse()
        return HttpResponse(response.status, response.headers, response.read(MAX_ANSWER))
    finally:
        connection.close()
