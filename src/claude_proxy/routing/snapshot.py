"""What the queue shows of itself: for the page, the status line and the API. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from claude_proxy.routing.fair import effective
from claude_proxy.routing.lane import Lane
from claude_proxy.routing.queue import Queue
from claude_proxy.routing.ticket import State, Ticket


@dataclass(frozen=True, slots=True)
class LaneView:
    """One account. Times are in the clock that the queue is called with, None where they have passed.

    Attributes:
        limit: as learned; None is unlimited.
        ceiling: what it never exceeds, as configured.
        delay: how long a slot stays taken after its stream has ended, in seconds, as learned.
        in_flight: requests that run; `held` counts slots that ended streams still take too.
        waiting: requests that may be sent there; with several accounts each is counted at all of them.
        paused_until: end of the pause after a refusal.
        starts_per_minute: the cap, if rate refusals have led to one.
        out_until: when its window is back; infinite for a refused credential. `out_reason` says why.
        ejected_until: end of the time out after failures; `ejections` count until quiet minutes take them back.
        failures: in a row.
        retries: hidden ones that are left (see `Bucket`).
        next_probe_at: when a request may go above the limit, if somebody waits then.
        draining: removed from the configuration, and not finished.
    """

    name: str
    limit: int | None
    ceiling: int | None
    delay: float
    in_flight: int
    held: int
    waiting: int
    paused_until: float | None
    starts_per_minute: int | None
    out_until: float | None
    out_reason: str
    ejected_until: float | None
    ejections: int
    failures: int
    retries: float
    next_probe_at: float | None
    draining: bool


@dataclass(frozen=True, slots=True)
class QueueView:
    """All of it.

    Attributes:
        waiting: requests that wait.
        kept: places that are kept for requests that were told to come again.
        oldest: when the request that has waited longest arrived; None if nobody waits.
    """

    lanes: tuple[LaneView, ...]
    waiting: int
    kept: int
    oldest: float | None


def snapshot(queue: Queue, now: float) -> QueueView:
    """The state of a queue; takes about 10 us for each account, so it is for readers, not for each request."""
    tickets = queue.room.tickets
    oldest = min((ticket.since for ticket in tickets), default=None)
    return QueueView(tuple(view(lane, now) for lane in queue.lanes.values()), len(tickets), len(queue.room.places), oldest)


def view(lane: Lane, now: float) -> LaneView:
    """The state of one account."""

    def ahead(moment: float | None) -> float | None:
        return moment if moment is not None and moment > now else None

    limit, ejection = lane.limit, lane.ejection
    return LaneView(
        name=lane.name,
        limit=limit.value,
        ceiling=limit.ceiling,
        delay=limit.delay,
        in_flight=lane.in_flight,
        held=limit.held(now),
        waiting=len(lane.waiting),
        paused_until=ahead(lane.pace.until),
        starts_per_minute=lane.pace.cap,
        out_until=ahead(lane.out_until),
        out_reason=lane.out_reason,
        ejected_until=ahead(ejection.until),
        ejections=ejection.times,
        failures=ejection.row,
        retries=lane.bucket.tokens,
        next_probe_at=ahead(limit.probe_at),
        draining=lane.draining,
    )


def position(ticket: Ticket, now: float) -> int | None:
    """The place of a waiting request, 1 for the next one, at the account where it is best; None if it does not wait."""
    if ticket.state is not State.WAITING:
        return None
    mine = _order(ticket, now)
    lanes = [lane for lane in ticket.candidates.lanes if not lane.draining] or ticket.candidates.lanes
    return 1 + min(sum(_order(other, now) < mine for other in lane.waiting) for lane in lanes)


def predicted_wait(ticket: Ticket, now: float) -> float | None:
    """Seconds until it is probably sent; None if it does not wait, or if that cannot be said."""
    place = position(ticket, now)
    if place is None:
        return None
    wait = min(lane.predicted_wait(now, place) for lane in ticket.candidates.lanes)
    return None if math.isinf(wait) else wait


def _order(ticket: Ticket, now: float) -> tuple[int, float, int]:
    assert ticket.whose is not None
    return effective(ticket, now), ticket.whose.virtual, ticket.seq
