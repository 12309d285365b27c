"""What the queue shows of itself: for the page, the status line and the API. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from claude_proxy.routing.ageing import effective
from claude_proxy.routing.lane import Lane
from claude_proxy.routing.queue import Queue
from claude_proxy.routing.ticket import State, Ticket

UP, OUT, EJECTED, FAILING = "up", "out", "ejected", "failing"


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
        shared: some requests may use it or another account.
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
    shared: bool

    @property
    def upstream(self) -> str:
        """The name of its upstream: lanes are called `upstream/account`."""
        return self.name.partition("/")[0]

    @property
    def state(self) -> str:
        """Whether it is in rotation.

        `out` (its window is used up, or its credential refused), `ejected` (after failures; others are asked), `failing` (the
        same, but it is asked all the same, because no other account may serve its requests), else `up`.
        """
        if self.out_until is not None:
            return OUT
        if self.ejected_until is None:
            return UP
        return EJECTED if self.shared else FAILING

    @property
    def back_at(self) -> float | None:
        """When it is in rotation again; None if it is, or if that cannot be said."""
        times = [at for at in (self.out_until, self.ejected_until if self.shared else None) if at is not None]
        return max(times) if times and not math.isinf(max(times)) else None


@dataclass(frozen=True, slots=True)
class UpstreamView:
    """The accounts of one upstream together.

    Attributes:
        state: `up` while one of them is in rotation, else `out`, `ejected` or `failing`, as the one that returns first.
        back_at: when that one returns; None if it is up, or if that cannot be said.
        waiting: requests that may be sent there; one that may go to several upstreams is counted at each.
        limit: requests that all accounts together take at once, as learned; None while one of them is unlimited.
    """

    lanes: tuple[LaneView, ...]
    state: str
    back_at: float | None
    waiting: int
    limit: int | None


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
        shared=lane.shared,
    )


def upstreams(queue: Queue, now: float, accounts: Iterable[str] = ()) -> dict[str, UpstreamView]:
    """The state of the upstreams whose accounts the queue knows, by name.

    Args:
        accounts: those that are configured, as `upstream/account`: one that was never used is up, and unknown to the queue.
    """
    lanes: dict[str, list[Lane]] = {}
    for lane in queue.lanes.values():
        if not lane.draining:
            lanes.setdefault(lane.name.partition("/")[0], []).append(lane)
    unused = {name.partition("/")[0] for name in accounts if name not in queue.lanes}
    return {name: _together(of, now, unused=name in unused) for name, of in lanes.items()}


def _together(lanes: Iterable[Lane], now: float, *, unused: bool) -> UpstreamView:
    views = tuple(view(lane, now) for lane in lanes)
    best = min(views, key=lambda one: (one.state != UP, math.inf if one.back_at is None else one.back_at))
    limits = [one.limit for one in views if one.limit is not None]
    limit = sum(limits) if len(limits) == len(views) and not unused else None
    state, back_at = (UP, None) if unused else (best.state, best.back_at)
    return UpstreamView(views, state, back_at, len({one for lane in lanes for one in lane.waiting}), limit)


def places(queue: Queue, now: float) -> dict[Ticket, int]:
    """The places of all waiting requests (see `position`): for n of them in n log n."""
    found: dict[Ticket, int] = {}
    for lane in queue.lanes.values():
        for place, ticket in enumerate(sorted(lane.waiting, key=lambda one: _order(one, now)), 1):
            found[ticket] = min(place, found.get(ticket, place))
    return found


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
