"""Asks a provider how much of a plan is used, by its own count: at the upstream's own origin, with the account's own credential.

It asks about an account at most once a minute, only after a good exchange with it, and off the path of requests. The credential
is the one that the proxy holds, else the one that a client has just shown and the upstream accepted, which is kept in memory
until the answer is there. A failure is logged once, until it works again.

Of several workers only the leader asks (`QuotaSharing`): the others send it what it needs for that, and get its answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from claude_proxy.errors import ProxyError
from claude_proxy.exchange import Exchange, Header, Kind, Listener, Tap
from claude_proxy.ledger.options import Sample
from claude_proxy.ledger.prices.quota import Quota as Answer
from claude_proxy.ledger.prices.quota import QuotaUnreadable, parse
from claude_proxy.observe.quota_sharing import Key, QuotaSharing, Said, Wish
from claude_proxy.observe.sources import QuotaWindow
from claude_proxy.protocol.providers.base import Quota
from claude_proxy.upstream.fetch import fetch
from claude_proxy.upstream.pool import Pool

INTERVAL = 60.0  # seconds; z.ai's endpoint is flaky under more
PATIENCE = 10.0
_CREDENTIALS = (b"authorization", b"x-api-key")

log = structlog.get_logger("quota")


@dataclass(eq=False)
class Watched:
    """An account at an upstream with a quota endpoint.

    Attributes:
        name: of the upstream.
        credential: header field that the proxy holds for the account; None if clients send their own.
        account: its name; if clients send their own credential, that of the last one that the endpoint was asked with.
        latest: its last answer.
        asked_at: event-loop seconds.
        owners: digests of the clients' credentials that were asked with, the oldest first.
        mixed: clients use several credentials, so that our sums belong to no one plan: it is not asked any more.
    """

    name: str
    quota: Quota
    pool: Pool
    credential: Header | None = None
    account: str | None = None
    latest: Answer | None = None
    asked_at: float = float("-inf")
    failing: bool = False
    owners: list[bytes] = field(default_factory=list)
    mixed: bool = False

    @property
    def key(self) -> Key:
        """The upstream and the held account; what clients send themselves is watched as one."""
        return self.name, None if self.credential is None else self.account

    @property
    def secret(self) -> bytes | None:
        """The credential that the proxy holds, without the header's scheme."""
        return None if self.credential is None else bare(self.credential[1])


class QuotaPoll(Listener):
    """The listener that asks.

    Args:
        watched: accounts at upstreams with a quota endpoint.
        keep: gets each sample.
        is_own_key: whether a credential that a client showed is this proxy's own key, which must not leave it.
        interval: seconds between two questions about one account.
        wall: Unix seconds.
        sharing: with the other workers; None for a process that works alone.
    """

    def __init__(
        self,
        watched: Sequence[Watched],
        keep: Callable[[Sample], None],
        *,
        is_own_key: Callable[[bytes], bool] = lambda _: False,
        interval: float = INTERVAL,
        wall: Callable[[], float] = time.time,
        sharing: QuotaSharing | None = None,
    ) -> None:
        self._watched = {one.key: one for one in watched}
        self._keep = keep
        self._is_own_key = is_own_key
        self._interval = interval
        self._wall = wall
        self._salt = os.urandom(16)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._sharing = sharing
        if sharing is not None:
            sharing.serve(self._wish, self._learn)

    def follow(self, watched: Sequence[Watched]) -> None:
        """Watch other accounts from now on. What is known of one whose pool and credential stay the same is kept."""
        old = self._watched
        self._watched = {one.key: one for one in watched}
        for key, one in old.items():
            new = self._watched.get(key)
            if new is not None and (new.pool, new.credential) == (one.pool, one.credential):
                self._watched[key] = one

    def tap(self, exchange: Exchange) -> Tap | None:
        """Read an exchange's request only if its credential is needed now."""
        del exchange
        now = asyncio.get_running_loop().time()
        wanted = any(one.credential is None and self._due(one, now) for one in self._watched.values())
        return _Credential(self) if wanted else None

    def windows(self) -> list[QuotaWindow]:
        """The plans' windows by their last answers, for metrics; without those that have been reset since."""
        now = self._wall()
        plans = [(one, window) for one in self._watched.values() if one.latest is not None for window in one.latest.plan]
        return [
            QuotaWindow(
                window.name,
                window.ratio,
                None if window.resets_at is None else window.resets_at - now,
                one.name,
                one.account or "",
            )
            for one, window in plans
            if window.resets_at is None or window.resets_at > now
        ]

    def on_exchange_end(self, exchange: Exchange) -> None:
        watched = self._watched.get((exchange.upstream, exchange.account))
        if watched is not None and watched.secret is not None and went_well(exchange):
            self.ask(watched, watched.secret, watched.account)

    async def aclose(self) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def shown(self, exchange: Exchange, headers: Sequence[Header]) -> None:
        """A client's request went well; its headers hold the credential."""
        watched = self._watched.get((exchange.upstream, None))
        if watched is None or watched.credential is not None:
            return
        found = (bare(value) for wanted in _CREDENTIALS for name, value in headers if name == wanted)
        secret = next((value for value in found if value and not self._is_own_key(value)), None)
        if secret is not None and not self._is_mixed(watched, secret):
            self.ask(watched, secret, exchange.account)

    def _is_mixed(self, watched: Watched, secret: bytes) -> bool:
        """Whether clients alternate between several credentials. One that replaces another permanently is a new key."""
        owner = hashlib.blake2b(secret, key=self._salt, digest_size=8).digest()
        if owner in watched.owners[:-1]:
            watched.mixed = True
            log.info("clients use several credentials, so the quota is not asked any more", upstream=watched.name)
        elif owner not in watched.owners:
            watched.owners.append(owner)
        return watched.mixed

    def ask(self, watched: Watched, secret: bytes, account: str | None) -> None:
        """Ask now, unless it was asked within the interval.

        Args:
            account: whose credential `secret` is.
        """
        loop = asyncio.get_running_loop()
        if self._closed or not self._due(watched, loop.time()):
            return
        watched.asked_at = loop.time()
        asks = self._sharing is None or self._sharing.leads()
        work = self._ask(watched, secret, account) if asks else self._hand_over(watched, secret, account)
        task = loop.create_task(work, name="quota")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _due(self, watched: Watched, now: float) -> bool:
        return not watched.mixed and now - watched.asked_at >= self._interval

    async def _ask(self, watched: Watched, secret: bytes, account: str | None) -> None:
        try:
            status, body = await fetch(watched.pool, watched.quota.path, headers_for(watched.quota, secret), timeout=PATIENCE)
            if status != 200:
                raise QuotaUnreadable(f"the quota endpoint answered with status {status}")
            answer = parse(body)
        except (ProxyError, QuotaUnreadable, TimeoutError, OSError) as error:
            self._failed(watched, account, error)
            return
        if watched.failing:
            log.info("the quota can be read again", upstream=watched.name, account=account)
        watched.failing, watched.latest, watched.account = False, answer, account
        self._keep(Sample(int(self._wall() * 1000), watched.name, account, answer.windows))
        if self._sharing is not None:
            await self._sharing.tell(self._said(watched))

    # -- between workers

    async def _hand_over(self, watched: Watched, secret: bytes, account: str | None) -> None:
        """Let the leader ask. If there is none at the moment, the next exchange tries again."""
        assert self._sharing is not None
        said = await self._sharing.wish(Wish(watched.key, account, b"" if watched.credential is not None else secret))
        if said is None:
            watched.asked_at = float("-inf")
        else:
            self._learn(said)

    def _wish(self, wish: Wish) -> Said | None:
        """Another worker had a good exchange there: ask if it is time, and return what is known."""
        watched = self._watched.get(wish.key)
        if watched is None:
            return None
        secret = watched.secret or wish.secret
        if secret and (watched.credential is not None or not self._is_mixed(watched, secret)):
            self.ask(watched, secret, wish.account)
        return self._said(watched)

    def _said(self, watched: Watched) -> Said:
        age = asyncio.get_running_loop().time() - watched.asked_at
        return Said(watched.key, watched.account, watched.latest, age, watched.mixed)

    def _learn(self, said: Said) -> None:
        """Take over what the leader knows."""
        watched = self._watched.get(said.key)
        if watched is not None:
            watched.latest, watched.account = (said.plan, said.account) if said.plan else (watched.latest, watched.account)
            watched.mixed = said.mixed
            watched.asked_at = asyncio.get_running_loop().time() - said.age

    def _failed(self, watched: Watched, account: str | None, error: Exception) -> None:
        """Log it once; the next exchange after the interval tries again."""
        if watched.failing:
            return
        watched.failing = True
        reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        log.warning("the quota cannot be read; proxying goes on", upstream=watched.name, account=account, reason=reason[:300])


class _Credential(Tap):
    """Remembers a request's headers until its answer has said that the credential is good."""

    def __init__(self, poll: QuotaPoll) -> None:
        self._poll = poll
        self._headers: Sequence[Header] = ()
        self._good = False

    def on_request(self, headers: Sequence[Header], body: bytes, *, whole: bool) -> None:
        self._headers = headers

    def on_response(self, status: int, headers: Sequence[Header]) -> None:
        self._good = 200 <= status < 300

    def on_end(self, exchange: Exchange) -> None:
        headers, self._headers = self._headers, ()
        if self._good and exchange.kind is Kind.MESSAGES:
            self._poll.shown(exchange, headers)


def went_well(exchange: Exchange) -> bool:
    """Whether an exchange shows that requests go to its upstream, with a credential that is accepted there."""
    return exchange.kind is Kind.MESSAGES and 200 <= exchange.status < 300


def bare(value: bytes) -> bytes:
    """A credential without its scheme."""
    scheme, _, rest = value.partition(b" ")
    return rest.strip() if scheme.lower() == b"bearer" else value.strip()


def headers_for(quota: Quota, secret: bytes) -> list[Header]:
    """The header fields of a request for the quota."""
    credential = {
        "raw": (b"authorization", secret),
        "bearer": (b"authorization", b"Bearer " + secret),
        "x-api-key": (b"x-api-key", secret),
    }[quota.auth]
    more = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in quota.headers.items()]
    return [credential, (b"accept", b"application/json"), (b"user-agent", b"claude-proxy"), *more]
