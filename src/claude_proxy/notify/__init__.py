"""Notices: tells a person through ntfy when an upstream or this proxy fails, keeps failing, and recovers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from claude_proxy.exchange import Exchange, Listener
from claude_proxy.notify.command import Command
from claude_proxy.notify.incident import Incident
from claude_proxy.notify.notice import Notice, plain
from claude_proxy.notify.ntfy import Http
from claude_proxy.notify.publisher import Publisher, Send
from claude_proxy.notify.rules import Rules
from claude_proxy.protocol.providers import Provider, find_at
from claude_proxy.settings import SECRETS, Settings

__all__ = ["CLOSE_TIMEOUT", "Notice", "Notifier", "secrets_of", "sender"]

CLOSE_TIMEOUT = 1.5  # seconds; together with the 8 of GRACEFUL_TIMEOUT less than Docker's 10


class Notifier(Listener):
    """The listener that pushes notices. Its hooks only decide and queue, so a dead or slow ntfy never delays an exchange.

    Args:
        settings: `enabled(settings)` must be true.
        send: makes one attempt to push; by default over HTTP or, with NTFY_VIA=cli, the ntfy command.
        clock: event-loop seconds; by default the running loop's.
        wall: Unix seconds.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        send: Send | None = None,
        clock: Callable[[], float] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._base_url = settings.base_url
        self._secrets = secrets_of(settings)
        self._rules = Rules(self._label, self._provider)
        self._clock = clock
        self._wall = wall
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._closed = False
        self.publisher = Publisher(send or sender(settings), wall=wall)

    @staticmethod
    def enabled(settings: Settings) -> bool:
        """Whether notices are on, that is, a topic is set."""
        return settings.ntfy_topic is not None

    async def start(self) -> None:
        """Start sending, beginning with what is queued already."""
        self.publisher.start()

    async def aclose(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Send pending notices and counted repeats, then stop, within `timeout` plus one second."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._push(self._rules.flush(self._now()))
        await self.publisher.aclose(timeout)

    def on_exchange_end(self, exchange: Exchange) -> None:
        """Count a failure or a recovery."""
        self._push(self._rules.ended(exchange, self._now() if exchange.ended is None else exchange.ended))
        self._arm()

    def on_upstream_state(self, upstream: str, state: str) -> None:
        """Report an ejection, unless the failures that caused it have been reported."""
        self._push(self._rules.state(upstream, state, self._now(), self._wall()))
        self._arm()

    def incidents(self) -> list[dict[str, Any]]:
        """The incidents as the API shows them, the last failure first."""
        ahead = self._wall() - self._now()
        found = sorted(self._rules.incidents, key=lambda incident: incident.failed_at, reverse=True)
        return [shown(incident, ahead, self._secrets) for incident in found]

    def tick(self) -> None:
        """Send what is due; called by a timer."""
        self._timer = None
        self._push(self._rules.due(self._now()))
        self._arm()

    def _arm(self) -> None:
        """Schedule `tick` for the next due time; reset a timer that would fire too late."""
        due = self._rules.next_due()
        if due is None or self._closed or (self._timer is not None and self._due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self._now()), self.tick)

    def _push(self, notices: list[Notice]) -> None:
        for notice in notices:
            self.publisher.put(notice.scrubbed(self._secrets))

    def _now(self) -> float:
        return asyncio.get_running_loop().time() if self._clock is None else self._clock()

    def _provider(self, upstream: str) -> Provider:
        """Return the provider of an upstream: the one named `default` has the provider of BASE_URL."""
        return find_at(self._base_url if upstream in ("", "default") else upstream)

    def _label(self, upstream: str) -> str:
        """Return a short name for an upstream: the provider's, or the user's own name for it."""
        is_name = upstream not in ("", "default") and not {".", "/"} & set(upstream)
        return plain(upstream) if is_name else self._provider(upstream).label


def shown(incident: Incident, ahead: float, secrets: list[str]) -> dict[str, Any]:
    """An incident as the API shows it.

    Args:
        ahead: what Unix time is ahead of the event loop's.
        secrets: what must not stand in it.
    """
    fault = incident.last
    return {
        "upstream": fault.upstream,
        "code": fault.word,
        "meaning": fault.about.name.en,
        "message": Notice("", fault.message, 3, (), "").scrubbed(secrets).message,
        "fix": fault.about.do.en,
        "failing": incident.failing,
        "opened_at": _rfc3339(incident.opened + ahead),
        "last_failed_at": _rfc3339(incident.failed_at + ahead),
        "failures": incident.total,
    }


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def sender(settings: Settings) -> Send:
    """Return the way of sending notices that NTFY_VIA names."""
    return Command(settings).send if settings.ntfy_via == "cli" else Http(settings).send


def secrets_of(settings: Settings) -> list[str]:
    """Return what no message may contain: every secret, and the upstream's host unless it is public."""
    values = [getattr(settings, name) for name in sorted(SECRETS)]
    found = [value.get_secret_value() for value in values if value is not None]
    parts = urlsplit(settings.base_url)
    if not find_at(settings.base_url).public:
        found += [parts.netloc, parts.hostname or ""]
    return found
