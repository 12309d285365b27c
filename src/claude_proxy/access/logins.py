"""Logins and one-time codes: making, checking, listing and revoking them.

Every method may read or write a file, so the event loop calls them in a thread.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path

from claude_proxy.access.login_store import FileStore, Login, MemoryStore, Store
from claude_proxy.cleaning import clean
from claude_proxy.errors import Unavailable

CODE_SECONDS = 15 * 60
LOGIN_SECONDS = 30 * 86_400
SIGNED_SECONDS = 12 * 3600
MAX_LOGINS = 200  # more revoke the ones that were unused for longest
_CODE_BYTES = 20  # 160 bits, 32 characters
_HEX = frozenset("0123456789abcdef")
_SIGNED = "signed"


class Kept(Enum):
    """Where logins are."""

    FILES = auto()  # in DATA_DIR: they survive a restart, and all workers know them
    MEMORY = auto()  # in this process: DATA_DIR cannot be written
    NOWHERE = auto()  # DATA_DIR cannot be written, and several workers have no other place in common


class Logins:
    """The logins of one proxy.

    Args:
        data_dir: where they are kept; None for memory alone.
        clock: Unix seconds.

    Attributes:
        kept: where they are, after `start`.
        problem: why they are not in files; empty if they are.
    """

    def __init__(self, data_dir: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._data_dir = data_dir
        self._clock = clock
        self._store: Store = MemoryStore()
        self.kept = Kept.MEMORY
        self.problem = ""

    def start(self, *, alone: bool) -> None:
        """Find the place to keep logins in.

        Args:
            alone: whether this is the server's only process.
        """
        self.kept = Kept.MEMORY if alone else Kept.NOWHERE
        if self._data_dir is None:
            return
        files = FileStore(self._data_dir)
        try:
            files.open()
        except OSError as error:
            self.problem = f"{files.folder} cannot be written ({(error.strerror or str(error)).lower()})"
            return
        self._store, self.kept = files, Kept.FILES
        files.sweep(self._now())

    # Codes

    def make_code(self) -> str | None:
        """Make a one-time code; None if no other process would know it.

        Raises:
            OSError: it cannot be stored.
        """
        if self.kept is Kept.NOWHERE:
            return None
        code = base64.b32encode(secrets.token_bytes(_CODE_BYTES)).decode().lower()
        self._store.put_code(_digest(code), self._now() + CODE_SECONDS)
        return code

    def take_code(self, text: str) -> bool:
        """Use up a code; returns whether it was valid.

        Args:
            text: a code, or the whole link with it, as people paste it.
        """
        code = text.rpartition("#code=")[2].strip().lower()
        expires_at = self._store.take_code(_digest(code))
        return expires_at is not None and self._now() < expires_at

    # Logins

    def add(self, peer: str, browser: str) -> tuple[Login, str]:
        """Log a browser in; returns the login and the value of its cookie.

        Raises:
            Unavailable: it cannot be stored.
        """
        now, secret = self._now(), secrets.token_urlsafe(32)
        shown = clean(browser, 200) or ""
        login = Login(secrets.token_hex(8), _digest(secret), now, now + LOGIN_SECONDS, peer[:100], shown, now)
        self._store.sweep(now)
        try:
            for old in self.all()[MAX_LOGINS - 1 :]:
                self._store.remove(old.id)
            self._store.put(login)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise Unavailable(
                f"The login cannot be stored in DATA_DIR of this proxy: {reason}.", code="login_not_stored"
            ) from None
        return login, f"{login.id}.{secret}"

    def find(self, value: str) -> Login | None:
        """Return the valid login that a cookie's value belongs to."""
        id, _, secret = value.partition(".")
        if not _is_id(id):  # it becomes a file's name
            return None
        now = self._now()
        login = self._store.get(id, now)
        if login is None or login.expires_at <= now or not hmac.compare_digest(login.digest, _digest(secret)):
            return None
        return login

    def is_valid(self, id: str) -> bool:
        """Whether a login still is: not revoked and not expired. Notes that it is used."""
        now = self._now()
        login = self._store.get(id, now)
        return login is not None and now < login.expires_at

    def all(self) -> list[Login]:
        """Valid logins, the one that was used last first."""
        now = self._now()
        valid = [login for login in self._store.all() if login.expires_at > now]
        return sorted(valid, key=lambda login: (login.used_at, login.created_at, login.id), reverse=True)

    def revoke(self, id: str) -> bool:
        """Log a browser out; returns whether there was such a login.

        Raises:
            Unavailable: its file cannot be removed.
        """
        try:
            return _is_id(id) and self._store.remove(id)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise Unavailable(f"The login cannot be removed from DATA_DIR of this proxy: {reason}.", code="login_kept") from None

    def revoke_others(self, id: str | None) -> int:
        """Log all browsers out but one; returns how many.

        Args:
            id: of the login that stays; None for none.

        Raises:
            Unavailable: a file cannot be removed.
        """
        return sum(self.revoke(login.id) for login in self.all() if login.id != id)

    # Signed cookies, where logins are kept nowhere

    def sign(self, key: bytes) -> str:
        """The value of a cookie that every worker can check and none can revoke, so it is valid for hours, not days."""
        until = str(self._now() + SIGNED_SECONDS)
        return f"{_SIGNED}.{until}.{_signature(key, until)}"

    def is_signed(self, value: str, key: bytes) -> bool:
        """Whether `sign` made this value with this key, and it has not expired."""
        kind, _, rest = value.partition(".")
        until, _, signature = rest.partition(".")
        if kind != _SIGNED or not (until.isascii() and until.isdigit() and len(until) < 20):
            return False
        return hmac.compare_digest(signature.encode(), _signature(key, until).encode()) and self._now() < int(until)

    def _now(self) -> int:
        return int(self._clock())


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _signature(key: bytes, until: str) -> str:
    return hmac.new(key, f"claude-proxy login {until}".encode(), hashlib.sha256).hexdigest()


def _is_id(text: str) -> bool:
    return len(text) == 16 and _HEX.issuperset(text)
