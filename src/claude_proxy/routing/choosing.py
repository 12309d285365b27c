"""Which of several accounts a request may use: preference, ejections, and the account that has its session's prompt cache. Pure.

Writing a prompt into a cache costs about twelve times what reading it costs, so a session stays with its account.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

from claude_proxy.routing.lane import NEVER, Lane
from claude_proxy.routing.plan import TABLE, Event, Facts
from claude_proxy.routing.recovery import RETURNS, Avoided
from claude_proxy.routing.ticket import Session, Ticket

LONG = 60.0  # seconds of waiting at its own account, predicted or past, above which a request may go to another one
CACHE = 300.0  # seconds of idleness after which a session is free again
RETURN_WAITS = 30.0  # seconds that a returning account waits for a request of a low class to try it
LOOK_AGAIN = 5.0  # seconds after which a wait is predicted again

LOW = 2  # classes from here on may try an account that comes back


def blocked(ticket: Ticket, lane: Lane, now: float) -> float:
    """0.0 if `ticket` may be sent to `lane`; else when to look again."""
    if ticket.not_before > now:
        return ticket.not_before
    if ticket.deadline < now:
        return NEVER  # the timer is late
    return 0.0 if ticket.candidates.only is lane else barred(ticket, lane, now)


def barred(ticket: Ticket, lane: Lane, now: float) -> float:
    """0.0 if `ticket`, which has several candidates, may be sent to `lane`; else when to look again."""
    home = _home(ticket, now)
    if not ticket.avoided and lane.is_sound and (home is None or home.is_sound):
        return 0.0 if home is None or home is lane else _kept_at(home, ticket, now)
    usable = [other for other in ticket.candidates.lanes if not (ticket.avoids(other, now) or other.is_lost(ticket, now))]
    if not usable and not _may_go_back(ticket, now):
        return 0.0  # it has failed everywhere: then anywhere
    if lane not in usable:
        return NEVER if lane.is_lost(ticket, now) else ticket.avoided[lane].until
    if lane.ejection.returning:
        healthy = [other for other in usable if not other.ejection.returning]
        if until := _returning(ticket, lane, healthy, usable, now):
            return until
    if home is None or home is lane or home not in usable or home.ejection.until > now:
        return 0.0
    return _kept_at(home, ticket, now)


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


def _home(ticket: Ticket, now: float) -> Lane | None:
    """The account that has the session's prompts in its cache; None if there is none, or `ticket` may not use it."""
    session = ticket.whose
    assert session is not None
    home = session.lane
    return home if home is not None and is_bound(session, now) and home in ticket.candidates.members else None


def _kept_at(home: Lane, ticket: Ticket, now: float) -> float:
    """A session stays with its account, unless it waits there for too long."""
    return 0.0 if waits_long(home, ticket, now) else now + LOOK_AGAIN


def waits_long(home: Lane, ticket: Ticket, now: float) -> bool:
    """Whether `ticket` would wait for long at the account of its session, or has: the prediction may be wrong."""
    if now - ticket.since >= LONG:
        return True
    if home.predicted_wait(now, len(home.homed)) <= LONG:  # at most as long as the last one
        return False
    return home.predicted_wait(now, _ahead(ticket, home)) > LONG


def last_that_stays(home: Lane, now: float) -> tuple[int, float, int] | None:
    """The place behind which requests would wait for long at their account; None while no request would."""
    if home.predicted_wait(now, len(home.homed)) <= LONG:
        return None
    ranks = _ranks(home)
    first = bisect_right(range(len(ranks)), LONG, key=lambda ahead: home.predicted_wait(now, ahead))
    return ranks[first - 1] if first else (-1, 0.0, 0)


def relents_at(home: Lane, now: float) -> float:
    """When the wait at an account that is closed is not long any more, if nothing else happens."""
    relents = max(home.pace.until, home.out_until, home.ejection.until) - LONG
    return relents if relents > now else NEVER


def _ahead(ticket: Ticket, home: Lane) -> int:
    """How many that are bound to `home` wait there before `ticket`, roughly."""
    return bisect_left(_ranks(home), _order(ticket))


def _ranks(home: Lane) -> list[tuple[int, float, int]]:
    if home.ranked_at != home.epoch:
        home.ranked_at = home.epoch
        home.ranks = sorted(_order(other) for other in home.homed)
    return home.ranks


def _order(ticket: Ticket) -> tuple[int, float, int]:
    assert ticket.whose is not None
    return ticket.urgency, ticket.whose.virtual, ticket.seq


def avoid(ticket: Ticket, lane: Lane, event: Event, now: float) -> None:
    """`ticket` has ended with `event` at `lane` and goes elsewhere, where its wait can take minutes, or end badly too.

    It may come back when the same account would be asked again if there were no other, and as often; after that, and where an
    account is never asked again, once that account has recovered or is back in rotation (see recovery.py).
    """
    delays, tries = TABLE[event].delays, (ticket.tries or {}).get((lane, event), 0)
    if delays:
        until = now + delays[tries - 1] if 0 < tries <= len(delays) and lane.bucket.open else NEVER
    else:
        until = lane.out_until if lane.out_until > now else NEVER
    in_rotation = event is Event.STOP and lane.out_until <= now  # it does not serve this model, and never will
    since = NEVER if in_rotation or tries > len(delays) + RETURNS else now
    before = ticket.avoided.get(lane)
    again = before is not None and before.until == NEVER  # that other requests are accepted has not helped this one
    ticket.avoided = ticket.avoided | {lane: Avoided(until, since, ticket.prompt if again else None)}


def _may_go_back(ticket: Ticket, now: float, *, but: Lane | None = None) -> bool:
    """Whether it may be sent to an account that it failed at (not to `but`), before its deadline."""
    return any(
        avoided.may_end(lane.recovery, ticket.deadline) and lane is not but and not lane.is_lost(ticket, now)
        for lane, avoided in ticket.avoided.items()
    )


def is_bound(session: Session, now: float) -> bool:
    """Whether the cache of its account may still have its prompts."""
    return session.warm and (session.running > 0 or now < session.used_at + CACHE)


def choose(ticket: Ticket, found: Lane, now: float) -> Lane:
    """The best account for a request that `found` has room for: its own, else by tier and weight."""
    home = ticket.whose.lane if ticket.whose is not None else None
    if home is found:
        return found
    if home is not None and home in ticket.candidates.members and _has_room(ticket, home, now):
        return home
    for tier in ticket.candidates.tiers:
        able = [lane for lane in tier if lane is found or _has_room(ticket, lane, now)]
        if able:
            return min(able, key=_level(tier))
    return found


def _level(tier: Sequence[Lane]) -> Callable[[Lane], float]:
    """The spread of an account. One that is new starts level with the least used: it must not get every new session."""
    least = min((lane.spread for lane in tier if lane.spread is not None), default=0.0)

    def spread(lane: Lane) -> float:
        if lane.spread is None:
            lane.spread = least
        return lane.spread

    return spread


def _has_room(ticket: Ticket, lane: Lane, now: float) -> bool:
    return lane.has_room(now) and not barred(ticket, lane, now)


def bind(ticket: Ticket, lane: Lane, now: float) -> None:
    """Note where a session is served. It moves only if its account cannot serve it any more."""
    session = ticket.whose
    assert session is not None
    avoided = ticket.avoided.get(lane)
    if avoided is not None:
        lane.bucket.take()  # it has failed there before, so this is a hidden retry
        if avoided.until == NEVER:
            lane.recovery.returns(ticket)
    home = session.lane
    if home is not lane:
        gone = home is None or ticket.avoids(home, now) or home.is_lost(ticket, now) or home.ejection.until > now
        if not gone and is_bound(session, now):
            return  # only this request goes elsewhere
        session.lane, session.warm = lane, False
        lane.spread = (lane.spread or 0.0) + 1 / lane.weight
        session.lift((lane,))
    session.used_at = now


def facts_of(ticket: Ticket, lane: Lane, event: Event, now: float, *, retry_after: float | None, same_prompt: int) -> Facts:
    """What decides about another attempt of a request that ended with `event` at `lane`; counts this try."""
    if ticket.tries is None:
        ticket.tries = {}
    tries = ticket.tries[lane, event] = ticket.tries.get((lane, event), 0) + 1
    others = (each for each in ticket.candidates.lanes if each is not lane and not ticket.avoids(each, now))
    return Facts(
        tries=tries,
        can_resend=ticket.can_resend,
        other=any(not each.is_lost(ticket, now) for each in others),
        later=_may_go_back(ticket, now, but=lane),
        bucket_open=lane.bucket.open,
        same_prompt=same_prompt,
        retry_after=retry_after,
        time_left=ticket.deadline - now,
    )
