"""Accepts connections. When file descriptors run out, new clients wait in the kernel's queue until one is free.

The event loops' own servers do worse: uvloop silently closes the waiting connections, and asyncio logs an error for
each attempt.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence

import structlog

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

log = structlog.get_logger("server")

_AT_ONCE = 16  # connections accepted per callback, so that the event loop and other workers get a turn
_PAUSE = 0.1  # seconds to stop accepting when descriptors have run out
_QUIET = 60.0  # seconds before another shortage is logged
_SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# accept(2): errors of the one connection that was waiting; the next one may be fine.
_ITS_OWN = frozenset(
    getattr(errno, name)
    for name in (
        "ECONNABORTED", "EINTR", "EPROTO", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN", "ENONET", "EHOSTUNREACH", "EOPNOTSUPP",
        "ENETUNREACH", "EPERM",
    )
    if hasattr(errno, name)
)  # fmt: skip


class Acceptor:
    """Accepts on all listening sockets of a process until closed; the caller keeps the sockets and closes them."""

    def __init__(self, listeners: Sequence[socket.socket], make_protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        """Start accepting. Needs a running event loop with `add_reader`."""
        self._listeners = listeners
        self._make_protocol = make_protocol
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._resumption: asyncio.TimerHandle | None = None
        self._short_since: float | None = None
        self._told_at = -_QUIET
        for listener in listeners:
            listener.setblocking(False)
        self._resume()

    async def close(self) -> None:
        """Stop accepting; return once every accepted connection has its protocol."""
        if self._resumption is not None:
            self._resumption.cancel()
        self._stop_reading()
        await asyncio.gather(*self._opening)

    def _resume(self) -> None:
        self._resumption = None
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    def _stop_reading(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                self._caught_up()
                return
            except OSError as error:
                if error.errno in _ITS_OWN:
                    continue
                self._pause(error)
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._open(connection))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, connection)
        except OSError as error:  # the client is gone already
            connection.close()
            log.debug("connection_lost_at_once", reason=error.strerror)

    def _pause(self, error: OSError) -> None:
        """Stop accepting for a moment. New clients wait in the kernel's queue; connected ones are still served."""
        now = self._loop.time()
        if self._short_since is None and now - self._told_at >= _QUIET:
            self._short_since = self._told_at = now
            if error.errno in _SHORTAGE:
                log.error("cannot_accept", reason=error.strerror, limit=_limit(), note=_ADVICE)
            else:
                log.error("cannot_accept", reason=error.strerror)
        self._stop_reading()
        self._resumption = self._loop.call_later(_PAUSE, self._resume)

    def _caught_up(self) -> None:
        """The kernel's queue is empty again."""
        if self._short_since is not None:
            log.info("accepting_again", seconds=round(self._loop.time() - self._short_since, 1))
            self._short_since = None


_ADVICE = (
    "new clients wait until a connection ends; `limit` is how many files and sockets this process may open: "
    "raise it with ulimit -n, LimitNOFILE= of systemd or --ulimit nofile= of Docker"
)


def _limit() -> int | None:
    """Return the soft limit of open descriptors (getrlimit(2), RLIMIT_NOFILE)."""
    return None if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
