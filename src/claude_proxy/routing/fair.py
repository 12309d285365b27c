"""Who is served next: by class, then by what each session has used, then by seniority. Pure.

Start-time fair queuing among the sessions (Goyal, Vin and Cheng 1996): each session has a virtual time, the slot-seconds it
has used, and the smallest is served next. A request's duration is unknown when it starts, so it is guessed and corrected.
"""

from __future__ import annotations

from collections.abc import Iterable

from claude_proxy.routing.choosing import blocked
from claude_proxy.routing.classes import BACKGROUND, BLOCKING, MAIN, SUBAGENT
from claude_proxy.routing.lane import GUESS, KEPT_SLOT, NEVER, Lane
from claude_proxy.routing.ticket import WAITING, Ticket

AGED = 45.0  # seconds of waiting that lift a request by one class, up to SUBAGENT
AGED_TO_MAIN = 300.0  # seconds of waiting that lift a subagent to MAIN; nothing is lifted to BLOCKING
STREAK = 2  # requests of class BLOCKING in a row, after which another class is served
LAST_CALL = 10.0  # seconds before its deadline, from which on a request may take the slot that is kept for a main agent
TITLE_WAITS = 0.1  # seconds before a title takes the last slot: it is sent up to 70 ms before its main turn


def effective(ticket: Ticket, now: float) -> int:
    """The class of a request after ageing."""
    urgency = ticket.urgency
    if urgency <= MAIN:
        return urgency
    waited = now - ticket.since
    if waited < AGED:
        return urgency
    return MAIN if waited >= AGED_TO_MAIN else max(SUBAGENT, urgency - int(waited / AGED))


def _last_call(ticket: Ticket) -> float:
    """When it takes even the slot that is kept for a main agent, because it would soon be told to come again."""
    if ticket.urgency is BACKGROUND:
        return NEVER
    return max(ticket.deadline - LAST_CALL, (ticket.since + ticket.deadline) / 2)


class Fair:
    """The order of a queue. The simulation compares it with another."""

    def hold(self, ticket: Ticket, lane: Lane, now: float) -> float:
        """Until when a request leaves the free slot to another one that may come; 0.0 if it need not."""
        if ticket.urgency < SUBAGENT:
            return 0.0
        if lane.keeps_slot(now) and now < (until := min(lane.main_at + KEPT_SLOT, _last_call(ticket))):
            return until
        if ticket.urgency is BACKGROUND and now < ticket.since + TITLE_WAITS and lane.limit.free(now) == 1:
            return ticket.since + TITLE_WAITS
        return 0.0

    def pick(self, lane: Lane, now: float) -> tuple[Ticket | None, float]:
        """The waiting request that is sent next, or None and when to look again."""
        if lane.streak >= STREAK:
            ticket, _ = self._best(lane, now, [each for each in lane.waiting if each.urgency is not BLOCKING])
            if ticket is not None:
                return ticket, NEVER
        return self._best(lane, now, lane.waiting)

    def _best(self, lane: Lane, now: float, tickets: Iterable[Ticket]) -> tuple[Ticket | None, float]:
        """The first by class, virtual time and seniority. Each slot that becomes free costs this loop: it skips early."""
        best: Ticket | None = None
        best_class, best_virtual, best_seq = 99, 0.0, 0
        wake = NEVER
        for ticket in tickets:
            urgency: int = ticket.urgency
            if now - ticket.since >= AGED:
                urgency = effective(ticket, now)
            if urgency > best_class:
                continue
            virtual = ticket.whose.virtual  # type: ignore[union-attr]  # it waits, so it has a session
            if urgency == best_class and (virtual, ticket.seq) > (best_virtual, best_seq):
                continue
            until = blocked(ticket, lane, now) or self.hold(ticket, lane, now)
            if until:
                wake = min(wake, until)
            else:
                best, best_class, best_virtual, best_seq = ticket, urgency, virtual, ticket.seq
        return best, wake

    def pick_probe(self, lane: Lane, now: float) -> Ticket | None:
        """The waiting request that is sent above the limit: one of the lowest class that can be sent again unnoticed."""
        able = [ticket for ticket in lane.waiting if ticket.can_resend and not blocked(ticket, lane, now)]
        return max(able, key=lambda ticket: (ticket.urgency, -ticket.seq), default=None)

    def granted(self, ticket: Ticket, lane: Lane) -> None:
        """Note who was served: the virtual time of a session is raised at once, by what a request is expected to take."""
        session = ticket.whose
        assert session is not None
        lane.virtual = max(lane.virtual, session.virtual)
        session.virtual += GUESS
        if ticket.urgency is BLOCKING:
            lane.streak += bool(lane.waiting)
        else:
            lane.streak = 0

    def refused(self, ticket: Ticket, lane: Lane) -> None:
        """The upstream has refused who was granted: a check that was not served must not give way to others as if it had been."""
        if ticket.urgency is BLOCKING and lane.streak:
            lane.streak -= 1


def youngest_of_the_largest(tickets: Iterable[Ticket]) -> Ticket:
    """Who is refused when too many wait: classes below MAIN first, then MAIN, then BLOCKING."""

    def rank(ticket: Ticket) -> tuple[int, int, int]:
        assert ticket.whose is not None
        return min(ticket.urgency, SUBAGENT), ticket.whose.waiting, ticket.seq

    return max((ticket for ticket in tickets if ticket.state is WAITING), key=rank)
