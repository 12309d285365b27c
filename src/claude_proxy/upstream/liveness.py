"""Noticing a peer that is gone without a word (suspended, cable pulled, dropped by a NAT): TCP asks, and gives up in time.

Two cases, because TCP treats them differently:

* Nothing is on the way. After 10 s of silence the kernel sends a probe every 5 s; when three went unanswered, the
  connection is closed. A peer that is alive answers in its kernel, so a model that thinks for minutes without a byte costs
  some probes and is never cut.
* Something was sent and is not acknowledged. Linux then sends no probes but repeats the data for about 15 minutes; with
  TCP_USER_TIMEOUT (RFC 5482) it gives up after 25 s.

So either way a peer is noticed to be gone within some 25 s after it was last heard, and what waits on it fails with ETIMEDOUT.
Through an outbound proxy it is the proxy that is asked.

TCP_USER_TIMEOUT has a side effect: a live peer that does not read (its receive window is closed) counts as unacknowledged
too, and a busy local model server may well leave a large request unread for a minute. That is for WRITE_TIMEOUT and
RESPONSE_HEAD_TIMEOUT to judge, so `spare_slow_reader` lifts the limit while it is so.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

_UNACKED = 24  # offsets in Linux's struct tcp_info: packets on the way
_NOTSENT = 144  # bytes that wait for the window to open; since Linux 4.6
_TCP_INFO_SIZE = 148
_KEEPALIVE_MACOS = 0x10  # TCP_KEEPALIVE in netinet/tcp.h; the socket module has it since Python 3.10


@dataclass(frozen=True, slots=True)
class Probing:
    """When a silent peer is given up. All in seconds, but `count`.

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
        """Seconds between two calls of `spare_slow_reader`: often enough that none is missed."""
        return self.unacknowledged / 5


PROBING = Probing()


def probe(descriptor: int, probing: Probing = PROBING) -> None:
    """Have the kernel notice when the peer of a connected socket is gone; a platform without an option goes without it.

    Args:
        descriptor: of the socket; nothing is done if it is negative, that is, closed already.
        probing: the figures.
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
    """Lift TCP_USER_TIMEOUT while the peer acknowledges what it gets but takes no more, and put it back afterwards.

    To be called every `probing.look_every` seconds while the connection is open. Does nothing but on Linux.
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
    """A socket object for a descriptor that stays its transport's: it is not closed with the object."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=descriptor)
    try:
        yield sock
    finally:
        sock.detach()
