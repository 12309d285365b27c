"""Where logins and one-time codes are kept: in files that all workers of a machine share, or in the memory of one process.

A file per login and per code, all in `DATA_DIR/logins`, needs no lock: a file is renamed into place whole, and of several
workers that take the same code only one can remove its file. Secrets are not in these files, only their SHA-256; both are
random and longer than 128 bits, so a slow hash would add nothing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from pathlib import Path
from typing import Protocol

import msgspec

FOLDER = "logins"
_LOGIN, _CODE, _PROBE = "login-", "code-", ".probe-"
TOUCH_SECONDS = 600  # how exact `used_at` is
DRAFT_SECONDS = 3600  # a file that was not renamed into place by then never will be


class Login(msgspec.Struct, frozen=True):
    """A browser that has logged in.

    Attributes:
        id: names it in the list of logins; not a secret.
        digest: SHA-256 of the cookie's secret, in hexadecimal.
        created_at, expires_at, used_at: Unix seconds; `used_at` is up to ten minutes late.
        peer: the address it came from.
        browser: its User-Agent.
    """

    id: str
    digest: str
    created_at: int
    expires_at: int
    peer: str
    browser: str
    used_at: int = 0


class Store(Protocol):
    """What keeps logins and codes. Methods may block; `OSError` means that nothing could be kept."""

    def put_code(self, digest: str, expires_at: int) -> None:
        """Keep a code."""

    def take_code(self, digest: str) -> int | None:
        """Remove a code and return when it expires (Unix seconds); None if it is not there. Only one caller gets it."""

    def put(self, login: Login) -> None:
        """Keep a login."""

    def get(self, id: str, now: int) -> Login | None:
        """Return a login and note that it was used."""

    def remove(self, id: str) -> bool:
        """Remove a login; returns whether it was there."""

    def all(self) -> list[Login]:
        """All logins, expired ones too."""

    def sweep(self, now: int) -> None:
        """Remove what has expired."""


class MemoryStore:
    """Keeps them in this process. Threads share it, so each method takes a lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._codes: dict[str, int] = {}
        self._logins: dict[str, Login] = {}

    def put_code(self, digest: str, expires_at: int) -> None:
        with self._lock:
            self._codes[digest] = expires_at

    def take_code(self, digest: str) -> int | None:
        with self._lock:
            return self._codes.pop(digest, None)

    def put(self, login: Login) -> None:
        with self._lock:
            self._logins[login.id] = login

    def get(self, id: str, now: int) -> Login | None:
        with self._lock:
            found = self._logins.get(id)
            if found is not None and now - found.used_at >= TOUCH_SECONDS:
                self._logins[id] = found = msgspec.structs.replace(found, used_at=now)
            return found

    def remove(self, id: str) -> bool:
        with self._lock:
            return self._logins.pop(id, None) is not None

    def all(self) -> list[Login]:
        with self._lock:
            return list(self._logins.values())

    def sweep(self, now: int) -> None:
        with self._lock:
            self._codes = {digest: at for digest, at in self._codes.items() if at > now}
            self._logins = {id: login for id, login in self._logins.items() if login.expires_at > now}


class FileStore:
    """Keeps them in `data_dir`/logins.

    Args:
        data_dir: the proxy's DATA_DIR.
    """

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / FOLDER

    def open(self) -> None:
        """Make the folder, for this user alone, and check that files can be made in it.

        Raises:
            OSError: they cannot.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = self.folder / f"{_PROBE}{secrets.token_hex(6)}"
        probe.write_bytes(b"")
        probe.unlink()

    def put_code(self, digest: str, expires_at: int) -> None:
        self._write(_CODE + digest, str(expires_at).encode())

    def take_code(self, digest: str) -> int | None:
        path = self.folder / (_CODE + digest)
        try:
            expires_at = int(path.read_bytes() or b"0")
            path.unlink()
        except (OSError, ValueError):
            return None
        return expires_at

    def put(self, login: Login) -> None:
        self._write(_LOGIN + login.id, msgspec.json.encode(login))

    def get(self, id: str, now: int) -> Login | None:
        path = self.folder / (_LOGIN + id)
        found = _read(path)
        if found is not None and now - found.used_at >= TOUCH_SECONDS:
            with contextlib.suppress(OSError):  # a full disk must not log anybody out
                os.utime(path, (now, now))
        return found

    def remove(self, id: str) -> bool:
        try:
            (self.folder / (_LOGIN + id)).unlink()
        except FileNotFoundError:
            return False
        return True

    def all(self) -> list[Login]:
        return [login for path in self.folder.glob(f"{_LOGIN}*") if (login := _read(path)) is not None]

    def sweep(self, now: int) -> None:
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                if _expiry(path) <= now:
                    path.unlink(missing_ok=True)

    def _write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all; it belongs to the folder's owner even if root runs `claude-proxy login`."""
        draft = self.folder / f".{name}-{secrets.token_hex(6)}"
        try:
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(content)
            _give_away(draft, self.folder)
            draft.replace(self.folder / name)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


def _give_away(path: Path, folder: Path) -> None:
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        owner = folder.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _read(path: Path) -> Login | None:
    """Read a login; the file's modification time is when it was last used."""
    try:
        login = msgspec.json.decode(path.read_bytes(), type=Login)
        return msgspec.structs.replace(login, used_at=int(path.stat().st_mtime))
    except (OSError, msgspec.MsgspecError):
        return None


def _expiry(path: Path) -> float:
    """When a file can be removed, in Unix seconds; files of other names never. A killed process may leave a draft behind."""
    if path.name.startswith((f".{_LOGIN}", f".{_CODE}", _PROBE)):
        return path.stat().st_mtime + DRAFT_SECONDS
    if path.name.startswith(_LOGIN):
        login = _read(path)
        return float("inf") if login is None else login.expires_at
    if path.name.startswith(_CODE):
        with contextlib.suppress(OSError, ValueError):
            return int(path.read_bytes() or b"0")
    return float("inf")
