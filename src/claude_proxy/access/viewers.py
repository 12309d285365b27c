"""Who may look at the page, the API and /metrics: this machine, browsers that have logged in, and who shows ADMIN_TOKEN."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import structlog

from claude_proxy.access.login_cookie import values_in
from claude_proxy.access.login_store import Login
from claude_proxy.access.logins import LOGIN_SECONDS, SIGNED_SECONDS, Kept, Logins
from claude_proxy.access.peers import is_local
from claude_proxy.access.streams import EVERY, Streams
from claude_proxy.access.throttle import Throttle, peer_of
from claude_proxy.errors import TooManyTries, Unauthorized

if TYPE_CHECKING:
    from pydantic import SecretStr

Scope = MutableMapping[str, Any]
log = structlog.get_logger("access")


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks.

    Attributes:
        by: why it may: a peer of this machine, ADMIN_TOKEN as bearer, or a login's cookie.
        login: the login, if it is one that is stored.
        signed: the cookie's value, if the login is not stored.
    """

    by: Literal["local", "token", "login"]
    login: Login | None = None
    signed: str = ""


_LOCAL, _TOKEN = Viewer("local"), Viewer("token")


class Viewers:
    """Decides who may look, and logs browsers in and out.

    Host and Origin have been checked before (`App`), so a web page cannot use this machine's right to look.

    Args:
        token: ADMIN_TOKEN. With one, this machine's own peers have to show it too.
        logins: by default kept in memory.
        throttle: counts wrong tokens and codes.
        every: seconds between two checks of the viewers of open event streams and exports.

    Attributes:
        streams: the open event streams and exports; each ends when its viewer may no longer look.
    """

    def __init__(
        self,
        token: SecretStr | None = None,
        logins: Logins | None = None,
        throttle: Throttle | None = None,
        *,
        every: float = EVERY,
    ) -> None:
        self._token = None if token is None else token.get_secret_value().encode()
        self._throttle = throttle or Throttle()
        self.logins = logins or Logins()
        self.streams: Streams[Viewer] = Streams(self.may_look, every=every)

    @property
    def has_token(self) -> bool:
        """Whether ADMIN_TOKEN is set."""
        return self._token is not None

    async def viewer(self, scope: Scope) -> Viewer | None:
        """Return who sent a request, or None if the sender may not look.

        Without a cookie this does no I/O; with one, a file is read in a thread.

        Raises:
            TooManyTries: it carries a wrong token, and there were too many of them.
        """
        if self._token is None and is_local(scope):
            return _LOCAL
        if self._token is not None and self._shows_token(scope, self._token):
            return _TOKEN
        values = list(values_in(scope))
        return await asyncio.to_thread(self._of_cookie, values) if values else None

    def may_look(self, viewer: Viewer) -> bool:
        """Whether a viewer still may look. Reads a file if it is by a login, so call this in a thread."""
        if viewer.login is not None:
            return self.logins.is_valid(viewer.login.id)
        if viewer.signed:
            return self._token is not None and self.logins.is_signed(viewer.signed, self._token)
        return True

    async def log_in(self, scope: Scope, secret: str) -> tuple[str, int]:
        """Check what was typed into the login form, and log the browser in.

        A valid code is accepted even while wrong tries are refused: it cannot be guessed, and so nobody can lock the owner out.

        Args:
            secret: a one-time code, a link with one, or ADMIN_TOKEN.

        Returns:
            The cookie's value and its lifetime in seconds.

        Raises:
            Unauthorized: it is neither.
            TooManyTries: there were too many wrong ones.
            Unavailable: the login cannot be stored.
        """
        if not await asyncio.to_thread(self.logins.take_code, secret):
            self._check_token(peer_of(scope), secret)
        if self.logins.kept is Kept.NOWHERE:
            assert self._token is not None  # there are no codes then
            return self.logins.sign(self._token), SIGNED_SECONDS
        client = scope.get("client")
        browser = next((value for name, value in scope["headers"] if name == b"user-agent"), b"")
        login, value = await asyncio.to_thread(self.logins.add, client[0] if client else "", browser.decode("latin-1"))
        log.info("logged_in", login=login.id, peer=login.peer)
        await self.log_out(scope)  # the login that this one replaces
        return value, LOGIN_SECONDS

    async def log_out(self, scope: Scope) -> None:
        """Revoke the login that a request's cookie belongs to."""
        for value in values_in(scope):
            login = await asyncio.to_thread(self.logins.find, value)
            if login is not None:
                await self.revoke(login.id)

    async def revoke(self, id: str) -> bool:
        """Log a browser out and end its event streams and exports; returns whether there was such a login.

        Raises:
            Unavailable: its file cannot be removed.
        """
        revoked = await asyncio.to_thread(self.logins.revoke, id)
        self.streams.check()
        if revoked:
            log.info("logged_out", login=id)
        return revoked

    async def revoke_others(self, viewer: Viewer) -> int:
        """Log all browsers out but a viewer's own and end their event streams and exports; returns how many.

        Raises:
            Unavailable: a file cannot be removed.
        """
        try:
            revoked = await asyncio.to_thread(self.logins.revoke_others, None if viewer.login is None else viewer.login.id)
        finally:
            self.streams.check()
        log.info("others_logged_out", logins=revoked)
        return revoked

    def _check_token(self, peer: str, secret: str) -> None:
        self._hold_up(peer)
        if self._token is None or not hmac.compare_digest(secret.strip().encode("utf-8", "replace"), self._token):
            self._throttle.failed(peer)
            log.warning("login_refused", peer=peer)  # at most as often as the throttle allows tries
            also = " or ADMIN_TOKEN" if self._token is not None else ""
            raise Unauthorized(
                f"This is not a valid code{also}. A code works once and for 15 minutes; `claude-proxy login`, run "
                "where the proxy runs, makes a new one.",
                code="login_wrong",
            )
        self._throttle.succeeded(peer)

    def _shows_token(self, scope: Scope, token: bytes) -> bool:
        bearers = list(bearers_in(scope["headers"]))
        if not bearers:
            return False
        peer = peer_of(scope)
        self._hold_up(peer)
        if any([hmac.compare_digest(shown, token) for shown in bearers]):  # noqa: C419 -- no early end, which would tell something
            self._throttle.succeeded(peer)
            return True
        self._throttle.failed(peer)
        return False

    def _hold_up(self, peer: str) -> None:
        if wait := self._throttle.wait(peer):
            raise TooManyTries(f"Too many wrong codes or tokens were tried. Try again in {wait} seconds.", retry_after=wait)

    def _of_cookie(self, values: list[str]) -> Viewer | None:
        for value in values:
            if self.logins.kept is Kept.NOWHERE:
                if self._token is not None and self.logins.is_signed(value, self._token):
                    return Viewer("login", signed=value)
            elif (login := self.logins.find(value)) is not None:
                return Viewer("login", login)
        return None


def bearers_in(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[bytes]:
    """The bearer tokens of a request (RFC 6750 section 2.1)."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, shown = value.partition(b" ")
            if scheme.lower() == b"bearer" and shown.strip():
                yield shown.strip()


def shows(headers: Iterable[tuple[bytes, bytes]], secret: bytes) -> bool:
    """Whether a request carries `secret` as a bearer token. The time does not depend on how much of it is right."""
    return any([hmac.compare_digest(shown, secret) for shown in bearers_in(headers)])  # noqa: C419
