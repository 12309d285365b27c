"""Listening sockets, bound before any worker starts. A failure becomes a one-sentence error."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import structlog

from .options import ServerOptions

log = structlog.get_logger("server")

IPV4_LOOPBACK, IPV6_LOOPBACK = "127.0.0.1", "::1"
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
# Who may use the proxy through its Unix socket: the owner and the group (a front proxy's).
_UDS_MODE = 0o660


class CannotListenError(Exception):
    """Listening failed. The message says on which address, why, and what to do."""


def listen(options: ServerOptions) -> list[socket.socket]:
    """Open the listening sockets that `options` names. Raises CannotListenError."""
    if options.fd is not None:
        return [_inherited(options.fd)]
    if options.uds is not None:
        return [_unix(options.uds, options.backlog)]
    listeners: list[socket.socket] = []
    try:
        for host in options.hosts:
            listeners += _tcp(host, options.port, options.backlog)
    except CannotListenError:
        for listener in listeners:
            listener.close()
        raise
    if IPV4_LOOPBACK in options.hosts and IPV6_LOOPBACK not in options.hosts:
        _add_ipv6_loopback(listeners, options)
    return listeners


def _add_ipv6_loopback(listeners: list[socket.socket], options: ServerOptions) -> None:
    """Also listen on ::1 at the port of 127.0.0.1: `localhost` means both, and many clients try ::1 first."""
    at = next(index for index, listener in enumerate(listeners) if listener.getsockname()[0] == IPV4_LOOPBACK)
    port = listeners[at].getsockname()[1]
    if any(listener.getsockname()[:2] == (IPV6_LOOPBACK, port) for listener in listeners):  # HOST names `localhost` too
        return
    try:
        listeners.insert(at + 1, _listener(socket.AF_INET6, (IPV6_LOOPBACK, port), options.backlog))
    except OSError as error:
        tell = log.debug if error.errno in _NO_SUCH_ADDRESS else log.info
        tell("ipv4_only", not_on=f"http://[{IPV6_LOOPBACK}]:{port}", reason=error.strerror)


def describe(listener: socket.socket) -> str:
    """Return `http://127.0.0.1:3000`, `http://[::1]:3000` or `unix:/run/proxy.sock`."""
    name = listener.getsockname()
    if listener.family == socket.AF_INET6:
        return f"http://[{name[0]}]:{name[1]}"
    if listener.family == socket.AF_INET:
        return f"http://{name[0]}:{name[1]}"
    return f"unix:{name}"


def _tcp(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Listen on all addresses of `host`, skipping those this machine lacks (as `localhost` may have)."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise CannotListenError(why(host, port, error)) from None
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            listeners.append(_listener(family, address, backlog))
        except OSError as error:
            if error.errno in _NO_SUCH_ADDRESS:
                missing = error
                continue
            for listener in listeners:
                listener.close()
            raise CannotListenError(why(host, port, error)) from None
    if not listeners and missing is not None:
        raise CannotListenError(why(host, port, missing)) from None
    return listeners


def _listener(family: int, address: object, backlog: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)  # type: ignore[arg-type]  # from getaddrinfo
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


def why(
    host: str, port: int, error: OSError | UnicodeError, *, set_host: str = "HOST or --host", set_port: str = "PORT or --port"
) -> str:
    """Explain why listening on an address failed. `set_host` and `set_port` name the settings that choose it."""
    if isinstance(error, (socket.gaierror, UnicodeError)):
        words = (error.strerror or "").lower() if isinstance(error, OSError) else "no valid name"
        return (
            f"{host} is neither an address nor a name that resolves here ({words}): "
            f"choose another with {set_host}, such as 127.0.0.1."
        )
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is taken: stop what listens there, or choose another with {set_port}."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"This user may not listen on port {port}: choose one above 1023 with {set_port}."
    if error.errno in _NO_SUCH_ADDRESS:
        return f"No interface of this machine has the address {host}: choose another with {set_host}."
    return f"Cannot listen on {host} port {port}: {error.strerror}."


def _unix(path: str, backlog: int) -> socket.socket:
    """Listen on a Unix socket. A socket left behind by a dead process is replaced; one that is in use is not."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_dead_socket(path):
            Path(path).unlink()
        listener.bind(path)
        Path(path).chmod(_UDS_MODE)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise CannotListenError(
            f"Cannot listen on the Unix socket {path}: {error.strerror or error}. Choose another path with BIND."
        ) from None
    return listener


def _is_dead_socket(path: str) -> bool:
    try:
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            return False
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED


def _inherited(fd: int) -> socket.socket:
    try:
        listener = socket.socket(fileno=os.dup(fd))
        accepting = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise CannotListenError(f"File descriptor {fd} is not a socket ({error.strerror}).") from None
    if not accepting:
        listener.listen()
    return listener
