"""The waiting requests: how many, how long, which are the same, and whose place is kept after a refusal. Pure."""

from __future__ import annotations

import math
from collections.abc import Hashable

from claude_proxy.routing.classes import Urgency
from claude_proxy.routing.fair import youngest_of_the_largest
from claude_proxy.routing.flows import Flows
from claude_proxy.routing.places import Places
from claude_proxy.routing.ticket import Reason, Refuse, State, Ticket

MOST = 500
RETRY_SOON = 5.0  # seconds; more than 60 would tell Claude Code to stop
RETRY_LATER = 45.0  # seconds, times at most 1.25 in the client: before the kept place is dropped


class WaitingRoom:
    """The requests that wait.

    Args:
        most: requests that wait at once.

    Attributes:
        flows: the same requests in groups.
        soonest: no deadline of a waiting request is earlier; it may be too early itself.
    """

    __slots__ = ("_by_key", "_most", "flows", "places", "soonest", "tickets")

    def __init__(self, most: int = MOST) -> None:
        self.tickets: dict[Ticket, None] = {}
        self.flows = Flows()
        self.places = Places()
        self.soonest = math.inf
        self._by_key: dict[Hashable, Ticket] = {}
        self._most = most

    def add(self, ticket: Ticket) -> None:
        """It waits from now on."""
        assert ticket.whose is not None
        ticket.state = State.WAITING
        ticket.whose.waiting += 1
        self.tickets[ticket] = None
        self.soonest = min(self.soonest, ticket.deadline)
        for lane in ticket.candidates.lanes:
            lane.waiting[ticket] = None
        ticket.home = ticket.whose.lane
        if ticket.home is not None:
            ticket.home.homed[ticket] = None
            ticket.home.epoch += 1
        self.flows.add(ticket)
        if ticket.key is not None:
            self._by_key.setdefault(ticket.key, ticket)

    def remove(self, ticket: Ticket) -> None:
        """It does not wait any more."""
        assert ticket.whose is not None
        del self.tickets[ticket]
        ticket.whose.waiting -= 1
        for lane in ticket.candidates.lanes:
            lane.waiting.pop(ticket, None)
        if ticket.home is not None:
            ticket.home.homed.pop(ticket, None)
            ticket.home.epoch += 1
        self.flows.remove(ticket)
        if ticket.key is not None and self._by_key.get(ticket.key) is ticket:
            del self._by_key[ticket.key]
        if not self.tickets:
            self.soonest = math.inf

    def keep(self, ticket: Ticket, now: float) -> list[Refuse]:
        """It could not be sent at once. Returns who is refused: it, if it is too late, or one of those that are too many."""
        self.identify(ticket, now)
        if ticket.deadline <= now:
            return [self.refuse(ticket, Reason.DEADLINE, now)]
        refused = []
        while (victim := self.overfull()) is not None:
            refused.append(self.refuse(victim, Reason.FULL, now))
        return refused

    def identify(self, ticket: Ticket, now: float) -> None:
        """Find out whether it is the same request as an earlier one, and let it take that one's place.

        An older copy that still waits goes behind it: its client has probably given up on it.
        """
        if ticket.identity is None or ticket.key is not None:
            return
        ticket.key = key = ticket.identity()
        place = self.places.take(key, now)
        if place is not None:
            ticket.seq, ticket.since = place.seq, place.since
        twin = self._by_key.get(key)
        if twin is not None and twin.seq < ticket.seq:
            ticket.seq, twin.seq = twin.seq, ticket.seq
            ticket.since = min(ticket.since, twin.since)
        self._by_key[key] = ticket
        for one in (ticket, twin):
            if one is not None and one.whose is not None:
                self.flows.touch(one.whose)

    def overfull(self) -> Ticket | None:
        """Who has to go because too many wait; None if nobody has to."""
        return youngest_of_the_largest(self.tickets) if len(self.tickets) > self._most else None

    def overdue(self, now: float) -> list[Ticket]:
        """The waiting requests whose deadline has passed."""
        if now < self.soonest:
            return []
        late = [ticket for ticket in self.tickets if ticket.deadline <= now]
        self.soonest = min((ticket.deadline for ticket in self.tickets if ticket.deadline > now), default=math.inf)
        return late

    def refuse_the_lost(self, ticket: Ticket, now: float) -> Refuse:
        """Send a waiting request away because none of its accounts is in rotation in time."""
        backs = [lane.out_until for lane in ticket.candidates.lanes if not lane.draining]
        until = min(backs, default=math.inf)
        return self.refuse(ticket, Reason.OUT if backs else Reason.GONE, now, None if math.isinf(until) else until)

    def refuse(self, ticket: Ticket, reason: Reason, now: float, until: float | None = None) -> Refuse:
        """Send a waiting request away, in our words."""
        self.remove(ticket)
        ticket.state = State.DONE
        if reason is Reason.OUT:
            return Refuse(ticket, reason, None, retry=False, until=until)
        if ticket.urgency is Urgency.BACKGROUND and reason is not Reason.GONE:
            return Refuse(ticket, reason, None, retry=False)  # nobody waits for it: one attempt instead of eleven
        if ticket.key is not None:
            self.places.keep(ticket.key, ticket.seq, ticket.since, now)
        return Refuse(ticket, reason, RETRY_LATER if reason is Reason.FULL else RETRY_SOON, kept=ticket.key is not None)
