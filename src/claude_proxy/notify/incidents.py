"""Which incidents there are, and when each of them is worth a notice. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from claude_proxy.notify.advice import ACCOUNT_OUT, UNREACHABLE
from claude_proxy.notify.desk import Draft, Kind
from claude_proxy.notify.fault import Fault, condition
from claude_proxy.notify.incident import GOOD, HOLD, QUIET, End, Incident, Stage, sequence_of
from claude_proxy.notify.notice import Notice
from claude_proxy.notify.wording import Wording

FLAPPING = 1800.0  # seconds within which openings are counted
OPENINGS = 3  # that make it unstable
UNSTABLE = 3600.0  # seconds for which it is then one incident
REMEMBERED = 50  # incidents that are over
MAX_OPEN = 64  # upstreams and codes are few; beyond, the oldest is closed silently
NETWORK = "\nnetwork"


class Past(msgspec.Struct):
    """What is remembered of a key between its incidents.

    Attributes:
        openings: when a notice about it was opened, lately.
        sequence: of its last incident's messages: one that opens again soon takes the place of the old message.
        closed_at: when its last incident ended.
    """

    openings: list[float] = []
    sequence: str = ""
    closed_at: float = 0.0

    def is_forgotten(self, now: float) -> bool:
        """Whether nothing in it matters any more."""
        return all(now - at > FLAPPING for at in (self.closed_at, *self.openings))


class Incidents:
    """All incidents of one proxy.

    Args:
        wording: writes the notices.
        make_id: makes the ids of incidents.

    Attributes:
        open: by key; those that are held too.
        over: the last ones that have ended, the newest last.
        changed: those that are to be written down again.
        withdrawn: sequences whose unsent notices are not wanted any more.
    """

    def __init__(self, wording: Wording, make_id: Callable[[], int]) -> None:
        self._wording = wording
        self._make_id = make_id
        self.open: dict[str, Incident] = {}
        self.past: dict[str, Past] = {}
        self.over: list[Incident] = []
        self.changed: dict[int, Incident] = {}
        self.withdrawn: list[str] = []

    def failed(self, fault: Fault, now: float) -> list[Draft]:
        """A client saw a failure."""
        incident = self._of(fault, now)
        incident.count(fault, now)
        if fault.about.group == UNREACHABLE:
            incident.inhibited = self._network_is_down and not incident.delivered
        if incident.stage is Stage.HELD and not incident.inhibited and incident.ripe(now):
            return [self._open(incident, now)]
        return []

    def told_elsewhere(self, key: str) -> None:
        """Another notice has told what an incident would tell, and tells its end too."""
        self.open[key].inhibited = True

    def cause_of(self, fault: Fault) -> Incident | None:
        """The open incident that tells why an account is out."""
        known = [one for one in self.open.values() if one.last.about.of_account and one.last.word != ACCOUNT_OUT]
        return next((one for one in known if one.last.is_about(fault.upstream, fault.account)), None)

    def answered(self, upstream: str, model: str, began: float, now: float, account: str = "") -> list[Draft]:
        """A client got a good answer from an upstream."""
        drafts = self.network_works(now)
        for incident in [*self.open.values()]:
            if incident.last.is_about(upstream, account) and incident.answered(model, began) and now >= self._calm_at(incident):
                drafts += self._close(incident, End.WORKS, now)
        return drafts

    def holds(self, fault: Fault, now: float) -> list[Draft]:
        """A condition holds."""
        known = self.open.get(fault.key)
        if known is not None:
            known.last = fault
            return []
        incident = self._of(fault, now)
        incident.lasting = True
        return [self._open(incident, now)]

    def ended(self, fault: Fault, now: float) -> list[Draft]:
        """A condition does not hold any more."""
        incident = self.open.get(fault.key)
        return [] if incident is None else self._close(incident, End.OVER, now)

    def happened(self, fault: Fault, now: float) -> list[Draft]:
        """Something happened that is over at once, such as a crash. After the third time in 30 minutes an hour is silent."""
        past = self._past(fault.key, now)
        incident = Incident(self._make_id(), fault.key, "", fault, now, now, lasting=True, stage=Stage.CLOSED, closed_at=now)
        incident.sequence = self._sequence(incident, past, now)
        past.openings.append(now)
        past.sequence, past.closed_at = incident.sequence, now
        openings = len(past.openings)
        self._remember(incident)
        if openings > OPENINGS:
            return []
        incident.told = True
        write = self._wording.opening(incident, now)
        notice = self._wording.crashing(incident, openings, now) if openings == OPENINGS else write
        return [self._draft(Kind.ALERT, notice, incident, now)]

    # -- the network

    @property
    def _network_is_down(self) -> bool:
        return NETWORK in self.open

    @property
    def nothing_works(self) -> bool:
        """Whether upstreams cannot be reached, none has answered since that began, and nobody knows yet."""
        return any(one.delivered is False for one in self._unreachable) and not any(one.good for one in self._unreachable)

    @property
    def _unreachable(self) -> list[Incident]:
        return [one for one in self.open.values() if one.last.about.group == UNREACHABLE]

    def delivered(self, sequence: str) -> None:
        """A message of this sequence has reached ntfy."""
        for incident in self.open.values():
            if incident.sequence == sequence:
                incident.delivered = True

    def network_fails(self, now: float) -> list[Draft]:
        """ntfy cannot be reached either: one incident stands for all that cannot be reached."""
        if self._network_is_down or not self.nothing_works:
            return []
        unknown = [one for one in self._unreachable if not one.delivered]
        began = min(one.opened for one in unknown)
        incident = Incident(self._make_id(), NETWORK, "", condition("network", ""), began, now, lasting=True)
        incident.sequence = sequence_of(NETWORK, incident.id)
        self.open[NETWORK] = incident
        for one in unknown:
            one.inhibited, one.told = True, False
            self.withdrawn.append(one.sequence)
        return [self._open(incident, now)]

    def network_works(self, now: float) -> list[Draft]:
        """Something outside could be reached. What still fails is an incident of its own from here on."""
        incident = self.open.get(NETWORK)
        if incident is None:
            return []
        for one in [*self.open.values()]:
            if one.inhibited and one.last.about.group == UNREACHABLE:
                self._remove(one, now)
        return self._close(incident, End.OVER, now)

    # -- time

    def due(self, now: float) -> list[Draft]:
        """Do what time alone brings about."""
        drafts: list[Draft] = []
        for incident in [*self.open.values()]:
            drafts += self._due(incident, now)
        for key in [key for key, past in self.past.items() if key not in self.open and past.is_forgotten(now)]:
            del self.past[key]
        return drafts

    def next_due(self) -> float | None:
        """When `due` has something to do next; None if never."""
        times = [time for incident in self.open.values() for time in self._times(incident)]
        return min(times, default=None)

    def _times(self, incident: Incident) -> Iterator[float]:
        if incident.stage is Stage.HELD and incident.ripe(incident.opened + HOLD) and not incident.inhibited:
            yield incident.opened + HOLD
        if incident.stage is Stage.OPEN and not incident.inhibited and not incident.lasting:
            yield incident.update_at
        if incident.last.reset_at is not None and incident.last.reset_at > incident.failed_at:
            yield incident.last.reset_at
        if not incident.lasting:
            yield max(incident.quiet_at, self._calm_at(incident))

    def _due(self, incident: Incident, now: float) -> list[Draft]:
        if incident.key not in self.open:
            return []  # closed in this round
        reset_at = incident.last.reset_at
        if reset_at is not None and now >= reset_at > incident.failed_at:
            return self._close(incident, End.RESET, now)
        if now >= incident.quiet_at and now >= self._calm_at(incident):
            return self._close(incident, End.WORKS if incident.good >= GOOD else End.QUIET, now)
        if incident.stage is Stage.HELD:
            return [self._open(incident, now)] if incident.ripe(now) and not incident.inhibited else []
        if now >= incident.update_at and not incident.inhibited and not incident.lasting:
            incident.schedule(now)
            self.changed[incident.id] = incident
            return [self._draft(Kind.UPDATE, self._wording.update(incident, now), incident, now)]
        return []

    def _calm_at(self, incident: Incident) -> float:
        """When an unstable incident may end: after its hour, and not before it has been calm for long."""
        return max(incident.unstable_until, incident.failed_at + FLAPPING) if incident.unstable_until else 0.0

    # -- the life of one

    def _of(self, fault: Fault, now: float) -> Incident:
        incident = self.open.get(fault.key)
        if incident is None:
            if len(self.open) >= MAX_OPEN:
                self._remove(min(self.open.values(), key=lambda one: one.failed_at), now)
            incident = Incident(self._make_id(), fault.key, "", fault, now, now)
            incident.sequence = self._sequence(incident, self._past(fault.key, now), now)
            self.open[fault.key] = incident
        self.changed[incident.id] = incident
        return incident

    def _sequence(self, incident: Incident, past: Past, now: float) -> str:
        again = past.sequence and now - past.closed_at < FLAPPING
        return past.sequence if again else sequence_of(incident.key, incident.id)

    def _past(self, key: str, now: float) -> Past:
        past = self.past.setdefault(key, Past())
        past.openings = [at for at in past.openings if now - at < FLAPPING]
        return past

    def _open(self, incident: Incident, now: float) -> Draft:
        past = self._past(incident.key, now)
        past.openings.append(now)
        incident.stage, incident.told = Stage.OPEN, True
        incident.schedule(now)
        self.changed[incident.id] = incident
        openings = len(past.openings)
        if openings < OPENINGS:
            return self._draft(Kind.ALERT, self._wording.opening(incident, now), incident, now)
        incident.unstable_until = now + UNSTABLE
        return self._draft(Kind.ALERT, self._wording.unstable(incident, openings, now), incident, now)

    def _close(self, incident: Incident, end: End, now: float) -> list[Draft]:
        self._remove(incident, now)
        if not incident.told or incident.inhibited:
            return []
        kind = Kind.ALERT if end is End.RESET else Kind.CLOSE  # that one can go on is worth a sound
        return [self._draft(kind, self._wording.closing(incident, end, now), incident, now)]

    def _remove(self, incident: Incident, now: float) -> None:
        del self.open[incident.key]
        network = self.open.get(NETWORK)
        if network is not None and incident.inhibited and incident.last.about.group == UNREACHABLE:
            network.total += incident.total
        incident.stage, incident.closed_at = Stage.CLOSED, now
        past = self._past(incident.key, now)
        past.closed_at = now
        if incident.told:
            past.sequence = incident.sequence
        self._remember(incident)

    def _remember(self, incident: Incident) -> None:
        self.changed[incident.id] = incident
        self.over.append(incident)
        del self.over[:-REMEMBERED]

    def _draft(self, kind: Kind, notice: Notice, incident: Incident, now: float) -> Draft:
        return Draft(kind, notice, self._wording.line(incident, now), (incident.id,))


assert QUIET > HOLD, "an incident must not end by silence before it can be told"
