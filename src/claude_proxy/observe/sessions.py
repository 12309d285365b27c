"""Running sessions: their exchanges, their project, the credentials they use, and which upstream is failing.

All of it is in memory and bounded; no conversation text is kept.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from claude_proxy.exchange import COMPLETED, MESSAGES, Exchange, Failure, Header, Listener, Tap
from claude_proxy.observe.cache import AUXILIARY
from claude_proxy.observe.credentials import marks
from claude_proxy.protocol.blocks import MAX_BODY
from claude_proxy.protocol.project import project_in

MAX_SESSIONS = 2000
MAX_CREDENTIALS = 4  # the latest of a session: a client may renew its token
RECENT = 15.0  # seconds that a finished exchange is kept; the ledger has it after one second
MAX_RECENT = 64  # sessions of which they are kept
MAX_OF_SESSION = 64  # of one session
TROUBLE = 600.0  # seconds after which a failure is no longer reported
LEARN_AGAIN = 1.0  # seconds after which a session's next request is read again: its credential may have been renewed
TRIES = 5  # bodies searched for a session's project
UNKNOWN, AGENT, MAIN, TOLD = range(4)  # source of a project's name; a higher one replaces a lower one


@dataclass(slots=True)
class _Session:
    credentials: tuple[frozenset[bytes], ...] = ()
    project: str | None = None
    rank: int = UNKNOWN
    tries: int = 0
    read_at: float = -LEARN_AGAIN  # when a good exchange was last read
    account: tuple[str, str] | None = None  # the upstream and account of the last good exchange


class Trouble(NamedTuple):
    """Consecutive failures of one upstream.

    Attributes:
        failure, status: of the last one.
        times: how many.
        since, until: when the first and the last one ended, in seconds of the clock.
    """

    upstream: str
    failure: Failure
    status: int
    times: int
    since: float
    until: float


class Sessions(Listener):
    """Watches exchanges by session; also sets `Exchange.project`.

    Args:
        projects: whether project names are read and kept.
        clock: monotonic seconds.
    """

    def __init__(self, *, projects: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._projects = projects
        self._clock = clock
        self._known: OrderedDict[str, _Session] = OrderedDict()
        self._running: dict[str, dict[str, Exchange]] = {}
        self._recent: dict[str, deque[tuple[float, Exchange]]] = {}  # the session that ended one last is last
        self._swept_at = clock()
        self._troubles: dict[str, Trouble] = {}

    # -- queries

    def running(self, session: str) -> list[Exchange]:
        """The session's running Messages calls, refreshed, oldest first."""
        found = [one for one in self._running.get(session, {}).values() if one.kind is MESSAGES]
        for exchange in found:
            exchange.refresh()
        return found

    def recent(self, session: str) -> list[Exchange]:
        """The session's calls that ended in the last seconds: the ledger may not have them yet."""
        oldest = self._clock() - RECENT
        return [exchange for at, exchange in self._recent.get(session, ()) if at >= oldest]

    def showed(self, session: str, credentials: frozenset[bytes]) -> bool:
        """Whether a successful exchange of this session was sent with one of these credentials (`marks`)."""
        known = self._known.get(session)
        return known is not None and any(not credentials.isdisjoint(shown) for shown in known.credentials)

    def account(self, session: str) -> tuple[str, str] | None:
        """The upstream and account that the session used last; None if it is not known."""
        known = self._known.get(session)
        return None if known is None else known.account

    def trouble(self) -> Trouble | None:
        """The upstream that is failing, the most recent one if several are; None if there is none."""
        now = self._clock()
        found = [one for one in self._troubles.values() if now - one.until < TROUBLE]
        return max(found, key=lambda one: one.until, default=None)

    def tell_project(self, session: str, project: str | None) -> None:
        """Set the project that the client itself reports."""
        if project is not None and self._projects:
            known = self._session(session)
            known.project, known.rank = project, TOLD

    # -- hooks

    def on_exchange_start(self, exchange: Exchange) -> None:
        if exchange.session is not None:
            self._running.setdefault(exchange.session, {})[exchange.id] = exchange

    def on_exchange_end(self, exchange: Exchange) -> None:
        if exchange.kind is MESSAGES and (self._troubles or exchange.failure is not None):
            self._judge(exchange)
        session = exchange.session
        if session is None:
            return
        running = self._running.get(session)
        if running is not None:
            running.pop(exchange.id, None)
            if not running:
                del self._running[session]
        known = self._known.get(session)
        if known is not None:
            exchange.project = known.project
            if exchange.kind is MESSAGES and 200 <= exchange.status < 300:
                known.account = exchange.upstream, exchange.account or ""
        now = self._clock()
        recent = self._recent.pop(session, None)
        if recent is None:
            recent = deque(maxlen=MAX_OF_SESSION)
            if len(self._recent) >= MAX_RECENT:
                del self._recent[next(iter(self._recent))]
        self._recent[session] = recent
        recent.append((now, exchange))
        if now > self._swept_at + RECENT:
            self._sweep(now)

    def tap(self, exchange: Exchange) -> Tap | None:
        """A tap for Messages calls of a session: their headers hold its credential, their bodies its project.

        A session that sends many a second is read once a second.
        """
        if exchange.session is None or exchange.kind is not MESSAGES:
            return None
        known = self._known.get(exchange.session)
        if known is not None and self._clock() < known.read_at + LEARN_AGAIN:
            settled = known.tries >= TRIES or known.rank >= MAIN  # of what `_seeks_project` asks
            if settled or not self._seeks_project(known, exchange):
                return None
        return _SessionTap(self, exchange)

    def read_project(self, exchange: Exchange, body: bytes) -> None:
        """Search a body for the project, unless an equal or better source named it already."""
        if exchange.session is None or len(body) > MAX_BODY:
            return
        known = self._session(exchange.session)
        if not self._seeks_project(known, exchange):
            return
        known.tries += 1
        project = project_in(body)
        if project is not None:
            known.project, known.rank, known.tries = project, _rank(exchange), 0

    def learn(self, session: str, credentials: frozenset[bytes]) -> None:
        """Remember the credentials of a successful exchange of this session."""
        if credentials:
            known = self._session(session)
            known.read_at = self._clock()
            if credentials not in known.credentials:
                known.credentials = (*known.credentials, credentials)[-MAX_CREDENTIALS:]

    def _seeks_project(self, known: _Session, exchange: Exchange) -> bool:
        """Whether this exchange's body may name the session's project, and no equal or better source has named it."""
        wanted = self._projects and exchange.request_class != AUXILIARY
        return wanted and known.tries < TRIES and _rank(exchange) > known.rank

    def _session(self, session: str) -> _Session:
        known = self._known.get(session)
        if known is None:
            known = self._known[session] = _Session()
            if len(self._known) > MAX_SESSIONS:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(session)
        return known

    def _sweep(self, now: float) -> None:
        """Drop what is not recent any more."""
        self._swept_at = now
        for session, recent in list(self._recent.items()):
            while recent and recent[0][0] < now - RECENT:
                recent.popleft()
            if not recent:
                del self._recent[session]

    def _judge(self, exchange: Exchange) -> None:
        failure, upstream = exchange.failure, exchange.upstream
        if failure is None:
            if exchange.outcome is COMPLETED and exchange.status < 400:
                self._troubles.pop(upstream, None)
        elif failure.side == "upstream" and upstream:
            now = self._clock()
            before = self._troubles.get(upstream)
            if before is None or now - before.until >= TROUBLE:
                self._troubles[upstream] = Trouble(upstream, failure, exchange.status, 1, now, now)
            else:
                self._troubles[upstream] = Trouble(upstream, failure, exchange.status, before.times + 1, before.since, now)


def _rank(exchange: Exchange) -> int:
    return MAIN if exchange.agent is None else AGENT


class _SessionTap(Tap):
    """Reads the credentials and the project of one request."""

    __slots__ = ("_credentials", "_exchange", "_sessions")

    def __init__(self, sessions: Sessions, exchange: Exchange) -> None:
        self._sessions = sessions
        self._exchange = exchange
        self._credentials: frozenset[bytes] = frozenset()

    def on_request(self, headers: Sequence[Header], body: bytes, *, whole: bool) -> None:
        self._credentials = marks(headers)
        if whole:
            self._sessions.read_project(self._exchange, body)

    def on_end(self, exchange: Exchange) -> None:
        if exchange.session is not None and 200 <= exchange.status < 300:
            self._sessions.learn(exchange.session, self._credentials)
