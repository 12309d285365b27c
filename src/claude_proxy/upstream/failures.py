"""Messages for failed connections: the error in a few words, and whether this machine has run out of something."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl

from claude_proxy.errors import Unavailable

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

_WORDS = {  # for errors whose system messages differ between platforms or say too little
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EHOSTUNREACH: "no route to that host",
    errno.ENETUNREACH: "no route to that network",
    errno.ETIMEDOUT: "no answer",
    errno.EACCES: "not permitted, perhaps by a firewall on this machine",
    errno.EPERM: "not permitted, perhaps by a firewall on this machine",
    errno.EADDRNOTAVAIL: "no free local port, or no local address of that kind",
}
_NUMBERS = re.compile(r"\[Errno (\d+)\]")  # in the single error that stands for several addresses
_NO_THREAD = "can't start new thread"  # CPython's message; asyncio's resolver runs in threads


def words(error: BaseException) -> str:
    """Describe a failure in a few words, by error number: asyncio only says "Connect call failed" for a refused connection."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    if said := " and ".join(dict.fromkeys(_WORDS.get(number) or os.strerror(number).lower() for number in _numbers(error))):
        return said
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def unreachable(what: str, error: BaseException) -> str:
    """Say that an address cannot be connected to."""
    said = words(error)
    failed = "does not accept connections" if said == _WORDS[errno.ECONNREFUSED] else "cannot be reached"
    return f"The {what} {failed} ({said}). Check that it is up and reachable."


def shortage(error: BaseException, host: str, *, looking_up: bool = False) -> Unavailable | None:
    """Return an error of our own if this process or machine has run out of something (not the upstream's fault), else None.

    A name lookup or TLS handshake that could not open a file reports a misleading error: an unknown name, an untrusted
    certificate, or a stale error number. For these we test whether a descriptor is left.

    Args:
        error: what failed.
        host: where we tried to connect.
        looking_up: whether it was a name lookup.
    """
    numbers = _numbers(error)
    opens_files = looking_up or isinstance(error, ssl.SSLError)
    if errno.EMFILE in numbers or (opens_files and descriptors_used_up()):
        return out_of_descriptors(host)
    if errno.ENFILE in numbers:
        return Unavailable(
            f"This machine has used up its file descriptors (fs.file-max), so the proxy cannot connect to {host}. "
            "Raise that limit, or find the program that holds them.",
            code="out_of_descriptors",
        )
    if isinstance(error, RuntimeError) and _NO_THREAD in str(error):
        return Unavailable(
            f"The proxy cannot start a thread to look {host} up. Raise the limit of processes (`ulimit -u`, the container's "
            "pids limit) or its memory.",
            code="out_of_threads",
        )
    lookup_had_none = isinstance(error, socket.gaierror) and error.errno == socket.EAI_MEMORY
    if isinstance(error, MemoryError) or lookup_had_none or errno.ENOMEM in numbers or errno.ENOBUFS in numbers:
        return out_of_memory(host)
    return None


def out_of_descriptors(host: str) -> Unavailable:
    """Return the error for a process that may open no more files and sockets."""
    limit = "" if resource is None else f" (RLIMIT_NOFILE is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]})"
    return Unavailable(
        f"The proxy has used up its file descriptors{limit}, so it cannot connect to {host}. Raise the limit "
        "(`ulimit -n`; systemd: LimitNOFILE; Docker: --ulimit nofile), or send fewer requests at once.",
        code="out_of_descriptors",
    )


def out_of_memory(host: str) -> Unavailable:
    """Return the error for having no memory for another connection."""
    return Unavailable(
        f"This machine has no memory left for a connection to {host}. Free some, or raise the container's memory limit.",
        code="out_of_memory",
    )


def descriptors_used_up() -> bool:
    """Whether this process cannot open any file right now."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False


def _numbers(error: BaseException) -> list[int]:
    """Return the system's error numbers: one, or one per address tried."""
    if not isinstance(error, OSError) or isinstance(error, (ssl.SSLError, socket.gaierror)):
        return []  # their numbers are not errno values
    return [error.errno] if error.errno else [int(number) for number in _NUMBERS.findall(str(error))]
