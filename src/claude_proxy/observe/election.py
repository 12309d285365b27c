"""One leader among the workers of a server: a file lock that ends with its process, and the address it can be reached at.

`DATA_DIR/workers/<group>.lock` holds the path of the leader's Unix socket. The process that holds the lock is the leader. A lock
file is removed while it is locked, so a process that locks it checks that it is still the file of that name.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

MAX_SOCKET_PATH = 100  # bytes; sockaddr_un holds 104 (macOS) or 108 (Linux) with the ending zero
_PREFIX = "claude-proxy-"  # of a socket's folder elsewhere


class NoElection(Exception):
    """The workers cannot find one another here; the text says why."""


class Election:
    """The lock of one group of workers.

    Args:
        data_dir: a folder `workers` for this user alone is made in it.
        group: names the workers.

    Attributes:
        socket: where the leader listens; set while this process is the leader.
    """

    def __init__(self, data_dir: Path, group: str) -> None:
        self._folder = data_dir / "workers"
        self._group = group
        self._lock: int | None = None
        self.socket: Path | None = None

    def stand(self) -> bool:
        """Become the leader if there is none; returns whether this process is.

        Raises:
            NoElection: the folder cannot be written, or the system has no such locks.
        """
        if self._lock is not None:
            return True
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _locked(self._folder / f"{self._group}.lock")
            if self._lock is None:
                return False
            self._sweep()
            self.socket = self._place()
            self.socket.unlink(missing_ok=True)
        except OSError as error:
            self.resign()
            raise NoElection(f"{self._folder} cannot be used ({(error.strerror or str(error)).lower()})") from None
        return True

    def announce(self) -> None:
        """Let the others know that the leader listens at `socket`."""
        assert self._lock is not None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, os.fsencode(self.socket or ""), 0)

    def leader(self) -> Path | None:
        """Where the leader listens; None if it is not known yet."""
        try:
            path = os.fsdecode((self._folder / f"{self._group}.lock").read_bytes())
        except OSError:
            return None
        return Path(path) if path else None

    def resign(self) -> None:
        """Give up the leadership, if this process has it."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        _clear(self._folder / f"{self._group}.lock", self.socket)
        self.socket = None
        os.close(lock)

    def _place(self) -> Path:
        here = self._folder / f"{self._group}.sock"
        if len(os.fsencode(here.absolute())) <= MAX_SOCKET_PATH:
            return here.absolute()
        there = Path(tempfile.mkdtemp(prefix=_PREFIX)) / "sock"
        if len(os.fsencode(there)) > MAX_SOCKET_PATH:
            there.parent.rmdir()
            raise OSError("its path and that of the folder for temporary files are too long for a Unix socket")
        return there

    def _sweep(self) -> None:
        """Remove what killed servers left behind."""
        for path in self._folder.glob("*.lock"):
            if path.stem == self._group:
                continue
            with contextlib.suppress(OSError):
                lock = _locked(path)
                if lock is not None:
                    content = os.fsdecode(os.pread(lock, 4096, 0))
                    _clear(path, Path(content) if content else None)
                    os.close(lock)


def addresses(data_dir: Path, prefix: str) -> list[Path]:
    """Sockets of the leaders of all groups whose names begin with `prefix`; some of them may have been killed."""
    found = []
    for path in sorted((data_dir / "workers").glob(f"{prefix}*.lock")):
        with contextlib.suppress(OSError):
            if content := os.fsdecode(path.read_bytes()):
                found.append(Path(content))
    return found


def _locked(path: Path) -> int | None:
    """The locked file of this name; None if another process has the lock.

    Raises:
        OSError: there can be no lock.
    """
    try:
        import fcntl
    except ImportError:  # Windows, which has no workers either
        raise OSError("this system has no file locks of that kind") from None
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(lock, path):
                return lock
        except BlockingIOError:
            os.close(lock)
            return None
        except OSError:
            os.close(lock)
            raise
        os.close(lock)


def _is_at(lock: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    own = os.fstat(lock)
    return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)


def _clear(lock: Path, socket: Path | None) -> None:
    """Remove a socket of ours, its folder if that is one of ours elsewhere, and the lock file; the caller holds the lock."""
    with contextlib.suppress(OSError):
        if socket is not None and socket.is_socket():
            socket.unlink()
        if socket is not None and socket.parent.name.startswith(_PREFIX):
            socket.parent.rmdir()
    with contextlib.suppress(OSError):
        lock.unlink(missing_ok=True)
