"""Who is served next: by class, then by what each session has used, then by seniority. Pure.

Start-time fair queuing among the sessions (Goyal, Vin and Cheng 1996): each session has a virtual time, the slot-seconds it
has used, and the smallest is served next. A request's duration is unknown when it starts, so it is guessed and corrected.
"""

from __future__ import annotations

from collections.abc import Iterable

from claude_proxy.routing.ageing import AGED, effective, last_call
from claude_proxy.routing.choosing import LOOK_AGAIN, blocked
from claude_proxy.routing.classes import BACKGROUND, BLOCKING, SUBAGENT, Urgency
from claude_proxy.routing.flows import Flow, Ranked
from claude_proxy.routing.lane import GUESS, KEPT_SLOT, NEVER, Lane
from claude_proxy.routing.ticket import WAITING, Ticket

STREAK = 2  # requests of class BLOCKING in a row, after which another class is served
TITLE_WAITS = 0.1  # seconds before a title takes the last slot: it is sent up to 70 ms before its main turn


class Fair:
    """The order of a queue. The simulation compares it with another."""

    def hold(self, ticket: Ticket, lane: Lane, now: float) -> float:
        """Until when a request leaves the free slot to another one that may come; 0.0 if it need not."""
        if ticket.urgency < SUBAGENT:
            return 0.0
        if lane.keeps_slot(now) and now < (until := min(lane.main_at + KEPT_SLOT, last_call(ticket))):
            return until
        if ticket.urgency is BACKGROUND and now < ticket.since + TITLE_WAITS and lane.limit.free(now) == 1:
            return ticket.since + TITLE_WAITS
        return 0.0

    def pick(self, lane: Lane, now: float) -> tuple[Ticket | None, float]:
        """The waiting request that is sent next, or None and when to look again."""
        if lane.streak >= STREAK:
            best, _ = self._best(lane, now, but=BLOCKING)
            if best is not None:
                return best.ticket, NEVER
        best, wake = self._best(lane, now)
        return None if best is None else best.ticket, wake

    def _best(self, lane: Lane, now: float, but: Urgency | None = None) -> tuple[Ranked | None, float]:
        """The first by class, virtual time and seniority, leaving out one class."""
        if len(lane.flows) == 1:
            return self._search(lane.waiting, lane, now, but)
        best: Ranked | None = None
        wake, sound = NEVER, lane.is_sound
        for flow in lane.flows:
            home = flow.home
            if flow.candidates.only is None and not (sound and (home is None or home.is_sound)):
                best, until = self._search(flow.tickets, lane, now, but, best)
            else:
                best, until = self._first(flow, lane, now, but, best)
            wake = min(wake, until)
        return best, wake

    def _first(self, flow: Flow, lane: Lane, now: float, but: Urgency | None, best: Ranked | None) -> tuple[Ranked | None, float]:
        """The better one of `best` and the first of a flow."""
        order, whole = flow.for_lane(lane, now)
        wake = NEVER if whole else now + LOOK_AGAIN
        if not (order.high or order.low or flow.odd):
            return best, wake
        kept = min(lane.main_at + KEPT_SLOT, order.last_call) if order.low and lane.keeps_slot(now) else 0.0
        for some in (order.high,) if now < kept else (order.high, order.low):
            for one in some:
                if best is not None and one > best:
                    break
                if one.ticket.urgency is but or one.ticket.deadline < now:  # the timer is late
                    continue
                until = self.hold(one.ticket, lane, now)
                if not until:
                    best = one
                    break
                wake = min(wake, until)
        if now < kept:
            wake = min(wake, kept)
        if flow.odd:
            best, until = self._search(flow.odd, lane, now, but, best)
            wake = min(wake, until)
        return best, wake

    def _search(
        self, tickets: Iterable[Ticket], lane: Lane, now: float, but: Urgency | None, best: Ranked | None = None
    ) -> tuple[Ranked | None, float]:
        """The better one of `best` and the first of `tickets`. Each slot that becomes free costs this loop: it skips early."""
        found: Ticket | None = None
        best_class, best_virtual, best_seq = (99, 0.0, 0) if best is None else best[:3]
        wake = NEVER
        for ticket in tickets:
            urgency: int = ticket.urgency
            if urgency is but:
                continue
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
                found, best_class, best_virtual, best_seq = ticket, urgency, virtual, ticket.seq
        return best if found is None else Ranked(best_class, best_virtual, best_seq, found), wake

    def pick_probe(self, lane: Lane, now: float) -> Ticket | None:
        """The waiting request that is sent above the limit: one of the lowest class that can be sent again unnoticed."""
        best, best_key = None, (-1, 0)
        for ticket in lane.waiting:
            key = (ticket.urgency, -ticket.seq)
            if key > best_key and ticket.can_resend and not blocked(ticket, lane, now):
                best, best_key = ticket, key
        return best

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
