"""Collects what the status line of a session shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from claude_proxy.exchange import Exchange, State
from claude_proxy.observe.session_sums import SessionSums
from claude_proxy.observe.sessions import Sessions, Trouble
from claude_proxy.observe.sources import QuotaWindow
from claude_proxy.protocol.project import folder_name
from claude_proxy.protocol.status_line import Client, Status, Window

MAX_WINDOWS = 2


class StatusSource:
    """Builds the status of a session.

    Args:
        sessions: running sessions.
        sums: adds up a session's usage; None without a ledger.
        hosts: host name of each upstream, by the upstream's name.
        quota: returns the plans' windows, as for the metrics; empty if unknown.
        clock: the event loop's clock, in seconds, which exchanges use too.
    """

    def __init__(
        self,
        sessions: Sessions,
        sums: SessionSums | None = None,
        *,
        hosts: Mapping[str, str] | None = None,
        quota: Callable[[], Iterable[QuotaWindow]] = tuple,
        clock: Callable[[], float] = lambda: asyncio.get_running_loop().time(),
    ) -> None:
        self.sessions = sessions
        self._sums = sums
        self._hosts = hosts or {}
        self._quota = quota
        self._clock = clock

    async def status(self, client: Client) -> Status:
        """The status of the client's session. Also records the project that the client reports."""
        session = client.session
        if session is not None and client.project_dir is not None:
            self.sessions.tell_project(session, folder_name(client.project_dir))
        sums = None if session is None or self._sums is None else await self._sums.of(session)
        used = sums is not None and sums.tokens.total > 0
        trouble = self.sessions.trouble()
        running = () if session is None else self.sessions.running(session)
        return Status(
            model=client.model,
            cost=sums.cost if sums is not None and used else None,
            tokens=sums.tokens if sums is not None and used else None,
            context=client.context,
            quota=self._windows(session),
            waiting=self._waiting(running),
            place=_place(running),
            trouble=None if trouble is None else self._words(trouble),
        )

    def _waiting(self, running: Iterable[Exchange]) -> float | None:
        """Seconds since the upstream last sent anything to this session; None if nothing is running."""
        waiting = [one for one in running if one.state is not State.READING]
        if not waiting:
            return None
        now = self._clock()
        return min(now - (one.started if one.heard_at is None else one.heard_at) for one in waiting)

    def _windows(self, session: str | None) -> tuple[Window, ...]:
        """The windows of the plan that the session uses. If that is not known, those of the only plan."""
        known = list(self._quota())
        account = None if session is None else self.sessions.account(session)
        plans = {(one.upstream, one.account) for one in known} if account is None else {account}
        if len(plans) != 1:
            return ()
        windows = ((one.name, one.used, one.reset) for one in known if (one.upstream, one.account) in plans)
        return tuple(Window(name, 1 - used, reset) for name, used, reset in windows if used is not None)[:MAX_WINDOWS]

    def _words(self, trouble: Trouble) -> str:
        """Such as "api.z.ai: overloaded (529), 3 times", with the provider's own code if there is one."""
        failure = trouble.failure
        what = failure.kind.removesuffix("_error").replace("_", " ")
        number = failure.provider_code or (trouble.status if trouble.status >= 400 else None)
        times = "" if trouble.times == 1 else f", {trouble.times} times"
        return f"{self._hosts.get(trouble.upstream) or trouble.upstream}: {what}{f' ({number})' if number else ''}{times}"


def _place(running: Iterable[Exchange]) -> int | None:
    """The best place in the queue; None unless everything that the session runs waits there."""
    places = [None if one.place is None else one.place() for one in running if one.state is not State.READING]
    known = [place for place in places if place is not None]
    return min(known) if known and len(known) == len(places) else None
