"""The rules for when to notify a person: exchanges in, notices out. Pure: time is an argument, nothing is sent from here.

There is one incident per upstream and error class. Its first failure is reported at once. Repeats are counted and reported
together after ten minutes, then after thirty, then every hour, so a nightlong outage is a dozen messages. A recovery
closes the incident with one message. If it flaps, it is not reported each time, only counted until the gap is over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from claude_proxy.exchange import Exchange, Failure, Outcome
from claude_proxy.notify import wording
from claude_proxy.notify.advice import OWN, advise
from claude_proxy.notify.incident import Fault, Incident
from claude_proxy.notify.notice import Notice, plain
from claude_proxy.protocol.providers import Provider, find_at

STORM = 10  # Claude Code tries one request 11 times; only more repeats than that get their own message
MAX_INCIDENTS = 32  # an upstream may invent error types; beyond this number they share one incident
OTHER = "other"
EJECTED = "ejected"
STOPPING = "draining"  # the code of a refusal while this process stops
_NOBODYS = frozenset((Outcome.REFUSED, Outcome.CANCELLED, Outcome.CLIENT_STALLED, Outcome.ABORTED))


def concerns(exchange: Exchange) -> bool:
    """Whether an exchange can open or close an incident; probes, token counts and model lists cannot."""
    path = exchange.path.strip("/")
    aside = path in ("", "api/hello", "v1/models") or path.startswith("v1/models/") or path.endswith("/count_tokens")
    return not aside and exchange.method not in ("HEAD", "OPTIONS")


class Rules:
    """All incidents of one process.

    Args:
        label: maps an upstream's name to a short name that is safe to publish.
        provider: maps an upstream's name to its provider.
    """

    def __init__(self, label: Callable[[str], str], provider: Callable[[str], Provider] = find_at) -> None:
        self._label = label
        self._provider = provider
        self._incidents: dict[tuple[str, str], Incident] = {}

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """Those that are open, or were until lately."""
        return tuple(self._incidents.values())

    def ended(self, exchange: Exchange, now: float) -> list[Notice]:
        """An exchange is over.

        Args:
            exchange: with its outcome.
            now: event-loop seconds, the clock of the exchange's own times.
        """
        if exchange.failure is None:
            return self._answered(exchange, now) if self._incidents else []
        if not _tells(exchange, exchange.failure) or not concerns(exchange):
            return []
        return self._failed(Fault.of(exchange, exchange.failure, self._provider(exchange.upstream)), now)

    def state(self, upstream: str, state: str, now: float, wall: float) -> list[Notice]:
        """An upstream was ejected (state `ejected`) or came back (any other).

        Args:
            now: event-loop seconds.
            wall: Unix seconds.
        """
        if state == EJECTED:
            known = any(name == upstream and incident.told for (name, _), incident in self._incidents.items())
            return [] if known else self._failed(Fault(upstream, EJECTED, "", "", 0, wall, f"{wall}", OWN[EJECTED]), now)
        incident = self._incidents.get((upstream, EJECTED))
        return self._recovered(incident, now) if incident is not None and incident.failing else []

    def due(self, now: float) -> list[Notice]:
        """Return the notices that are due because a gap is over."""
        self._forget(now)
        return [self._follow_up(incident, now) for incident in self._incidents.values() if incident.fresh and incident.due <= now]

    def next_due(self) -> float | None:
        """Return when `due` has the next notice, in event-loop seconds; None if there is none."""
        return min((incident.due for incident in self._incidents.values() if incident.fresh), default=None)

    def flush(self, now: float) -> list[Notice]:
        """Return notices for what was counted but not reported, because the process stops."""
        return [self._follow_up(incident, now) for incident in self._incidents.values() if incident.fresh]

    def _failed(self, fault: Fault, now: float) -> list[Notice]:
        self._forget(now)
        key = (fault.upstream, fault.word)
        if key not in self._incidents and len(self._incidents) >= MAX_INCIDENTS:
            fault = replace(fault, upstream="", word=OTHER, about=advise(Failure("upstream", OTHER, "")))
            key = ("", OTHER)
        incident = self._incidents.get(key)
        if incident is None:
            incident = self._incidents[key] = Incident.open(fault, now)
            incident.count(fault, now)
            notice = wording.opening(incident, self._label(fault.upstream))
            incident.tell(now)
            return [notice]
        incident.count(fault, now)
        return [self._follow_up(incident, now)] if now >= incident.due else []

    def _answered(self, exchange: Exchange, now: float) -> list[Notice]:
        good = exchange.outcome is Outcome.COMPLETED and 200 <= exchange.status < 400
        if not good or not concerns(exchange):
            return []
        return [
            notice
            for (upstream, _), incident in self._incidents.items()
            if upstream in (exchange.upstream, "") and incident.failing and _proves(exchange, incident)
            for notice in self._recovered(incident, now)
        ]

    def _recovered(self, incident: Incident, now: float) -> list[Notice]:
        if not incident.told:  # the new failures were not reported yet: they are when the gap is over
            incident.close()
            return []
        label = self._label(incident.last.upstream)
        notices = [wording.storm(incident, label, now)] if incident.fresh > STORM else []
        notices.append(wording.recovery(incident, label, now))
        incident.fresh = 0
        incident.close()
        return notices

    def _follow_up(self, incident: Incident, now: float) -> Notice:
        notice = wording.follow_up(incident, self._label(incident.last.upstream), now)
        incident.tell(now)
        return notice

    def _forget(self, now: float) -> None:
        for key in [key for key, incident in self._incidents.items() if incident.over(now)]:
            del self._incidents[key]


def _tells(exchange: Exchange, failure: Failure) -> bool:
    """Whether a failure is news: not the client's fault, and not our own shutdown, which was intended.

    An answer that reached its `stop_reason` is complete: however it ended, nothing is missing.
    """
    harmless = exchange.outcome in _NOBODYS or exchange.stop_reason is not None
    return failure.side != "client" and not harmless and failure.kind != STOPPING


def _proves(exchange: Exchange, incident: Incident) -> bool:
    """Whether a good answer shows that the incident is over: its request came after the last failure.

    An answer already under way proves nothing: at a concurrency limit some finish while other requests are refused.
    """
    if exchange.started < incident.failed_at:
        return False
    if incident.last.about.scope == "upstream":
        return True
    incident.models.discard(plain(exchange.model))
    return not incident.models
