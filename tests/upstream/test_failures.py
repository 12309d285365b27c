"""A failure in words, and whether it is this machine that lacks something."""

from __future__ import annotations

import errno
import os
import socket
import ssl

import pytest

from claude_proxy.errors import Unavailable
from claude_proxy.upstream.failures import shortage, unreachable


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENETUNREACH, "Connect call failed ('192.0.2.1', 80)"), "cannot be reached (no route to that network)"),
        (OSError(errno.EHOSTUNREACH, "Connect call failed ('192.0.2.1', 80)"), "cannot be reached (no route to that host)"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "cannot be reached (connection reset)"),
        (TimeoutError(errno.ETIMEDOUT, "x"), "cannot be reached (no answer)"),
        (PermissionError(errno.EACCES, "x"), "cannot be reached (not permitted, perhaps by a firewall on this machine)"),
        (OSError(errno.EISCONN, "x"), f"cannot be reached ({os.strerror(errno.EISCONN).lower()})"),
        (OSError("Some words"), "cannot be reached (Some words)"),
        (RuntimeError("closing"), "cannot be reached (closing)"),
        (
            OSError(
                f"Multiple exceptions: [Errno {errno.ENETUNREACH}] Connect call failed ('::1', 80, 0, 0), "
                f"[Errno {errno.ECONNREFUSED}] Connect call failed ('127.0.0.1', 80)"
            ),
            "cannot be reached (no route to that network and connection refused)",
        ),
    ],
)
def test_failures_are_told_by_their_number(error: Exception, said: str) -> None:
    assert unreachable("upstream h:80", error) == f"The upstream h:80 {said}. Check that it is up and reachable."


MIXED = OSError(
    f"Multiple exceptions: [Errno {errno.ECONNREFUSED}] Connect call failed, [Errno {errno.EMFILE}] Too many open files"
)


@pytest.mark.parametrize(
    ("error", "code", "named"),
    [
        (OSError(errno.EMFILE, "x"), "out_of_descriptors", "RLIMIT_NOFILE is "),
        (MIXED, "out_of_descriptors", "RLIMIT_NOFILE is "),
        (OSError(errno.ENFILE, "x"), "out_of_descriptors", "fs.file-max"),
        (OSError(errno.ENOMEM, "x"), "out_of_memory", "memory"),
        (OSError(errno.ENOBUFS, "x"), "out_of_memory", "memory"),
        (socket.gaierror(socket.EAI_MEMORY, "x"), "out_of_memory", "memory"),
        (MemoryError(), "out_of_memory", "memory"),
        (RuntimeError("can't start new thread"), "out_of_threads", "ulimit -u"),
    ],
)
def test_what_this_machine_lacks_is_our_sides_error(error: Exception, code: str, named: str) -> None:
    found = shortage(error, "api.example")
    assert isinstance(found, Unavailable)
    assert (found.status, found.side, found.code) == (503, "proxy", code)
    assert "api.example" in found.message
    assert named in found.message


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ECONNREFUSED, "x"),
        OSError(errno.EADDRNOTAVAIL, "x"),
        socket.gaierror(socket.EAI_NONAME, "x"),
        socket.gaierror(socket.EAI_AGAIN, "x"),
        ssl.SSLError(errno.EMFILE, "a number of OpenSSL's"),
        RuntimeError("closing"),
        UnicodeError("x"),
    ],
)
def test_other_failures_are_not_ours(error: Exception) -> None:
    assert shortage(error, "api.example") is None
