"""The waiting requests in groups, so that the next one for an account is found without a look at all of them. Pure.

A flow is what waits for the same accounts, of sessions that have their prompts at the same one of them. Its requests are sorted
when one is looked for after a change; several accounts that look for one in between share the order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from claude_proxy.routing import choosing
from claude_proxy.routing.ageing import changes_at, effective, last_call
from claude_proxy.routing.choosing import is_bound, last_that_stays, relents_at
from claude_proxy.routing.classes import SUBAGENT

if TYPE_CHECKING:
    from claude_proxy.routing.lane import Lane
    from claude_proxy.routing.ticket import Candidates, Session, Ticket

NEVER = math.inf


class Ranked(NamedTuple):
    """A request and its place: class after ageing, virtual time, seniority."""

    urgency: int
    virtual: float
    seq: int
    ticket: Ticket


class Order:
    """Requests that may be sent, the first first; sorted when they are asked for.

    Attributes:
        high: of main agents and above.
        low: the others.
        unsorted: both, before they have been sorted.
    """

    __slots__ = ("_last_call", "high", "low", "unsorted")

    def __init__(self, ranked: list[Ranked]) -> None:
        self.unsorted = ranked
        self._last_call: float | None = None
        self.high: list[Ranked] = []
        self.low: list[Ranked] = []

    def sort(self) -> None:
        """Sort them."""
        for one in sorted(self.unsorted):
            (self.high if one.ticket.urgency < SUBAGENT else self.low).append(one)
        self.unsorted = []

    @property
    def last_call(self) -> float:
        """When the first of the low ones takes a slot that is kept for a main agent."""
        if self._last_call is None:
            self._last_call = min((last_call(one.ticket) for one in self.low), default=NEVER)
        return self._last_call


class Flow:
    """See above.

    Args:
        candidates: the accounts that they may use.
        home: the one that their sessions have been bound to; None for none.

    Attributes:
        tickets: the requests, and their places as far as these are known.
        odd: those that need a look of their own.
    """

    __slots__ = ("_aged_at", "_away", "_fresh_until", "_own", "_seen", "candidates", "home", "odd", "tickets")

    def __init__(self, candidates: Candidates, home: Lane | None) -> None:
        self.candidates = candidates
        self.home = home
        self.tickets: dict[Ticket, Ranked | None] = {}
        self.odd: list[Ticket] = []
        self._own = self._away = Order([])
        self._aged_at = NEVER
        self._fresh_until = -NEVER
        self._seen: tuple[object, ...] = ()

    def touch(self) -> None:
        """Something has changed: the order is not valid any more."""
        self._fresh_until = -NEVER

    def for_lane(self, lane: Lane, now: float) -> tuple[Order, bool]:
        """What `lane` may send apart from the odd ones, and whether that is all of the others."""
        home = self.home
        if now >= self._fresh_until or (home is not None and self._seen != _looked_at(home)):
            self._look(now)
        order = self._own if home is None or home is lane else self._away
        if order.unsorted:
            order.sort()
        return order, order is self._own

    def _look(self, now: float) -> None:
        """Rank the requests again, and find those that may be sent elsewhere."""
        own = self._ranked(now)
        self._own, self._fresh_until = Order(own), self._aged_at
        if self.home is not None:
            self._seen = _looked_at(self.home)
            away, until = self._may_leave(own, self.home, now)
            self._away, self._fresh_until = Order(away), min(until, self._aged_at)

    def _may_leave(self, own: list[Ranked], home: Lane, now: float) -> tuple[list[Ranked], float]:
        """Those that may be sent elsewhere, and until when they are the same if nothing happens."""
        away, until = [], relents_at(home, now)
        last = last_that_stays(home, now)
        for one in own:
            ticket, session = one.ticket, one.ticket.whose
            assert session is not None
            late = now - ticket.since >= choosing.LONG or (last is not None and (ticket.urgency, one.virtual, one.seq) > last)
            if late or not is_bound(session, now):
                away.append(one)
                continue
            until = min(until, ticket.since + choosing.LONG)
            if not session.running:
                until = min(until, session.used_at + choosing.CACHE)
        return away, until

    def _ranked(self, now: float) -> list[Ranked]:
        """All but the odd ones. A place that is known is not computed again before one of them has aged."""
        aged = now >= self._aged_at
        if aged:
            self._aged_at = NEVER
        self.odd, found = [], []
        for ticket, one in self.tickets.items():
            if ticket.avoided or ticket.not_before > now:
                self.odd.append(ticket)
                continue
            if one is None or aged:
                assert ticket.whose is not None
                one = Ranked(effective(ticket, now), ticket.whose.virtual, ticket.seq, ticket)
                self.tickets[ticket] = one
                self._aged_at = min(self._aged_at, changes_at(ticket, now))
            found.append(one)
        return found


def _looked_at(home: Lane) -> tuple[object, ...]:
    """What the predicted wait at an account depends on."""
    return home.epoch, home.mean, home.limit.value, home.pace.until, home.out_until, home.ejection.until


class Flows:
    """The flows of all waiting requests."""

    __slots__ = ("_by_key", "_of_session")

    def __init__(self) -> None:
        self._by_key: dict[tuple[Candidates, Lane | None], Flow] = {}
        self._of_session: dict[Session, dict[Ticket, Flow]] = {}

    def add(self, ticket: Ticket) -> None:
        """It waits."""
        session, candidates = ticket.whose, ticket.candidates
        assert session is not None
        home = session.lane if session.lane in candidates.members and candidates.only is None else None
        flow = self._by_key.get((candidates, home))
        if flow is None:
            flow = self._by_key[candidates, home] = Flow(candidates, home)
            for lane in candidates.lanes:
                lane.flows[flow] = None
        flow.tickets[ticket] = None
        flow.touch()
        self._of_session.setdefault(session, {})[ticket] = flow

    def remove(self, ticket: Ticket) -> None:
        """It does not wait any more."""
        session = ticket.whose
        assert session is not None
        mine = self._of_session[session]
        flow = mine.pop(ticket)
        if not mine:
            del self._of_session[session]
        del flow.tickets[ticket]
        flow.touch()
        if not flow.tickets:
            del self._by_key[flow.candidates, flow.home]
            for lane in flow.candidates.lanes:
                del lane.flows[flow]

    def touch(self, session: Session) -> None:
        """The virtual time of a session has changed, or where its prompts are."""
        for ticket, flow in list(self._of_session.get(session, {}).items()):
            flow.tickets[ticket] = None
            flow.touch()
            if ticket.home is not None:
                ticket.home.epoch += 1
            if flow.home is not session.lane and flow.candidates.only is None:
                self.remove(ticket)
                self.add(ticket)
