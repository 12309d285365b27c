"""Which of several accounts a request may use: preference, ejections, and the account that has its session's prompt cache. Pure.

Writing a prompt into a cache costs about twelve times what reading it costs, so a session stays with its account.
"""

from __future__ import annotations

from claude_proxy.routing.fair import Key, lift
from claude_proxy.routing.lane import NEVER, Lane
from claude_proxy.routing.ticket import Session, Ticket

LONG = 60.0  # seconds of predicted wait at its own account, above which a request may go to another one
CACHE = 300.0  # seconds of idleness after which a session is free again
RETURN_WAITS = 30.0  # seconds that a returning account waits for a request of a low class to try it
LOOK_AGAIN = 5.0  # seconds after which a wait is predicted again

LOW = 2  # classes from here on may try an account that comes back


def barred(ticket: Ticket, lane: Lane, now: float) -> float:
    """0.0 if `ticket`, which has several candidates, may be sent to `lane`; else when to look again."""
    usable = [other for other in ticket.candidates.lanes if other not in ticket.avoided and not other.is_lost(ticket, now)]
    if not usable:
        return 0.0  # it has failed everywhere: then anywhere
    if lane not in usable:
        return NEVER
    out = lane.ejection
    if out.returning:
        healthy = [other for other in usable if not other.ejection.returning]
        if until := _returning(ticket, lane, healthy, usable, now):
            return until
    return _kept_at_home(ticket, lane, usable, now)


def _returning(ticket: Ticket, lane: Lane, healthy: list[Lane], usable: list[Lane], now: float) -> float:
    """An ejected account is asked only if all are, the first to return first; a returned one is tried by one request."""
    out = lane.ejection
    if not healthy and lane is min(usable, key=lambda other: other.ejection.until):
        return 0.0
    if now < out.until:
        return out.until if healthy else NEVER
    if any(lease.sent_at >= out.until for lease in lane.limit.leases):
        return NEVER
    return 0.0 if ticket.urgency >= LOW or not healthy or now >= out.until + RETURN_WAITS else out.until + RETURN_WAITS


def _kept_at_home(ticket: Ticket, lane: Lane, usable: list[Lane], now: float) -> float:
    """A session stays with its account, unless it would wait there for long."""
    session = ticket.whose
    assert session is not None
    home = session.lane
    if home is None or home is lane or home not in usable or not is_bound(session, now) or home.ejection.until > now:
        return 0.0
    if home.predicted_wait(now, len(home.waiting)) <= LONG:
        return now + LOOK_AGAIN
    return 0.0 if home.predicted_wait(now, _ahead(ticket, home, now)) > LONG else now + LOOK_AGAIN


def _ahead(ticket: Ticket, lane: Lane, now: float) -> int:
    """How many wait before `ticket` there, by the fair order."""
    mine = _order(ticket)
    return sum(_order(other) < mine for other in lane.waiting)


def _order(ticket: Ticket) -> Key:
    assert ticket.whose is not None
    return ticket.urgency, ticket.whose.virtual, ticket.seq


def is_bound(session: Session, now: float) -> bool:
    """Whether the cache of its account may still have its prompts."""
    return session.warm and (session.running > 0 or now < session.used_at + CACHE)


def choose(ticket: Ticket, found: Lane, now: float) -> Lane:
    """The best account for a request that `found` has room for: its own, else by tier and weight."""
    home = ticket.whose.lane if ticket.whose is not None else None
    if home is not None and home is not found and home in ticket.candidates.lanes and _has_room(ticket, home, now):
        return home
    for tier in ticket.candidates.tiers:
        able = [lane for lane in tier if lane is found or _has_room(ticket, lane, now)]
        if able:
            return found if home is found else min(able, key=lambda lane: lane.spread)
    return found


def _has_room(ticket: Ticket, lane: Lane, now: float) -> bool:
    return lane.opens_at(now) is None and not barred(ticket, lane, now)


def bind(ticket: Ticket, lane: Lane, now: float) -> None:
    """Note where a session is served. It moves only if its account cannot serve it any more."""
    session = ticket.whose
    assert session is not None
    home = session.lane
    if home is not lane:
        gone = home is None or home in ticket.avoided or home.is_lost(ticket, now) or home.ejection.until > now
        if not gone and is_bound(session, now):
            return  # only this request goes elsewhere
        session.lane, session.warm = lane, False
        lane.spread += 1 / lane.weight
        lift(session, (lane,))
    session.used_at = now
