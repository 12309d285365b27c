"""Detects a peer that has silently gone (suspended, cable pulled, dropped by a NAT) with TCP keep-alive and timeouts.

Two cases, because TCP treats them differently:

* No data is in flight. After 10 s of silence the kernel sends a probe every 5 s; after three unanswered ones it closes
  the connection. The peer's kernel answers the probes, so a model that thinks for minutes without sending a byte is
  never cut.
* Sent data is not acknowledged. Linux then sends no probes but retransmits for about 15 minutes; with
  TCP_USER_TIMEOUT (RFC 5482) it gives up after 25 s.

Either way a dead peer is detected within about 25 s of its last packet, and pending operations fail with ETIMEDOUT.
With an outbound proxy, the peer is the proxy.

TCP_USER_TIMEOUT has a side effect: a live peer that does not read (its receive window is closed) counts as unacknowledged
too, and a busy local model server may leave a large request unread for a minute. WRITE_TIMEOUT and
RESPONSE_HEAD_TIMEOUT cover that case, so `spare_slow_reader` lifts the limit meanwhile.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

_UNACKED = 24  # offset in Linux's struct tcp_info: packets in flight
_NOTSENT = 144  # bytes waiting for the window to open; since Linux 4.6
_TCP_INFO_SIZE = 148
_KEEPALIVE_MACOS = 0x10  # TCP_KEEPALIVE in netinet/tcp.h; the socket module has it since Python 3.10


@dataclass(frozen=True, slots=True)
class Probing:
    """When a silent peer counts as gone. All in seconds except `count`.

    Attributes:
        idle: silence before the first probe.
        interval: from one probe to the next.
        count: unanswered probes after which the connection is closed.
        unacknowledged: how long sent data may stay unacknowledged (Linux only).
    """

    idle: int = 10
    interval: int = 5
    count: int = 3
    unacknowledged: float = 25.0

    @property
    def look_every(self) -> float:
        """Seconds between calls of `spare_slow_reader`, often enough to catch every slow reader."""
        return self.unacknowledged / 5


PROBING = Probing()


def probe(descriptor: int, probing: Probing = PROBING) -> None:
    """Make the kernel detect a dead peer of a connected socket; options that the platform lacks are skipped.

    Args:
        descriptor: of the socket; if negative (already closed), nothing is done.
        probing: the intervals and limits.
    """
    if descriptor < 0:
        return
    options = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, _idle_option(), probing.idle),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", None), probing.interval),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", None), probing.count),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", None), round(probing.unacknowledged * 1000)),
    ]
    with _borrowed(descriptor) as sock:
        for level, option, value in options:
            if option is not None:
                with contextlib.suppress(OSError):
                    sock.setsockopt(level, option, value)


def spare_slow_reader(descriptor: int, probing: Probing = PROBING) -> None:
    """Lift TCP_USER_TIMEOUT while the peer's receive window is closed, and restore it afterwards.

    Call it every `probing.look_every` seconds while the connection is open. Does nothing except on Linux.
    """
    if sys.platform != "linux" or descriptor < 0:
        return
    with _borrowed(descriptor) as sock, contextlib.suppress(OSError):
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
        if len(info) < _TCP_INFO_SIZE:
            return
        (on_the_way,), (waiting,) = struct.unpack_from("=I", info, _UNACKED), struct.unpack_from("=I", info, _NOTSENT)
        wanted = 0 if waiting and not on_the_way else round(probing.unacknowledged * 1000)
        if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) != wanted:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, wanted)


def _idle_option() -> int | None:
    if sys.platform == "darwin":
        return getattr(socket, "TCP_KEEPALIVE", _KEEPALIVE_MACOS)
    return getattr(socket, "TCP_KEEPIDLE", None)


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """Wrap a descriptor in a socket object without taking ownership: the transport still closes it."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=descriptor)
    try:
        yield sock
    finally:
        sock.detach()
