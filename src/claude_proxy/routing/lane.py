"""An account as the queue sees it: what it lets run, when it may be asked, and which requests wait for it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from random import Random
from typing import TYPE_CHECKING

from claude_proxy.routing.classes import MAIN, SUBAGENT
from claude_proxy.routing.ejection import Bucket, Ejection
from claude_proxy.routing.limit import Lease, Limit
from claude_proxy.routing.pace import Pace
from claude_proxy.routing.plan import LONG_WAIT, Event
from claude_proxy.routing.recovery import Recovery
from claude_proxy.routing.ticket import Refusal, Ticket

if TYPE_CHECKING:
    from claude_proxy.routing.flows import Flow

NEVER = math.inf
OUT_PROBE = 600.0  # seconds between two requests that may ask an account that is out
GUESS = 20.0  # seconds that a request is expected to take, before any has been seen
MEMORY = 0.1  # weight of the last request in the mean duration
MOST_PROMPTS = 100  # kinds of prompts whose overload refusals are counted
KEPT_SLOT = 20.0  # seconds around a main agent's request in which one slot is kept for it

MakeLimit = Callable[[int | None, int | None, Random], Limit]


class Lane:
    """One account.

    Args:
        name: for people and for `dump`; unique among the accounts of a queue.
        start: the limit to begin with; None is unlimited until a refusal.
        ceiling: what the limit never exceeds; None for no such bound.
        weight: its share of new sessions among accounts of the same tier.

    Attributes:
        waiting: the requests that may be sent there.
        flows: the same in groups.
        homed: those of sessions that are bound to it; `epoch` counts the changes of their order, and `ranks` are their places
            after the change `ranked_at`.
        low: requests of subagents and below that are in flight.
        main_at: when a main agent's request last arrived or ended.
        virtual: the largest virtual time served.
        spread: new sessions so far, divided by `weight`; None until it has been compared with the others of its tier.
        mean: seconds that a request takes, averaged.
        streak: requests of class 0 that were granted in a row while others waited.
        shared: some requests may use it or another account: only these are kept from it while it is ejected.
        out_until: out of rotation until then (a used-up window, a refused credential); `out_reason` says why.
        draining: removed from the configuration: finishes what it has.
        closed: nothing could be sent when it was looked at last: nothing can before `wake`, if nothing happens.
        wake: when it has to be looked at again, if nothing happens before.
        whole: start and ceiling of the account, of which the limit has this process's part.
    """

    __slots__ = (
        "bucket", "closed", "draining", "ejection", "epoch", "flows", "homed", "limit", "low", "main_at", "mean", "name",
        "out_probe_at", "out_reason", "out_until", "overloads", "pace", "ranked_at", "ranks", "recovery", "shared", "spread",
        "streak", "virtual", "waiting", "wake", "weight", "whole",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        rng: Random,
        *,
        start: int | None = None,
        ceiling: int | None = None,
        weight: float = 1.0,
        make_limit: MakeLimit = Limit,
    ) -> None:
        self.name = name
        self.limit = make_limit(start, ceiling, rng)
        self.pace = Pace(rng)
        self.ejection = Ejection(rng)
        self.bucket = Bucket()
        self.recovery = Recovery()
        self.weight = max(weight, 1e-6)
        self.waiting: dict[Ticket, None] = {}
        self.flows: dict[Flow, None] = {}
        self.homed: dict[Ticket, None] = {}
        self.epoch = 0
        self.ranks: list[tuple[int, float, int]] = []
        self.ranked_at = -1
        self.low = 0
        self.main_at = -NEVER
        self.virtual = 0.0
        self.spread: float | None = None
        self.mean = GUESS
        self.streak = 0
        self.out_until = 0.0
        self.out_reason = ""
        self.out_probe_at = 0.0
        self.draining = False
        self.shared = False
        self.overloads: dict[Hashable, int] = {}
        self.closed = False
        self.wake = NEVER
        self.whole = (start, ceiling)

    @property
    def is_easy(self) -> bool:
        """Whether a request can be sent without a further look: no limit, no pause, nothing to be judged, nobody waiting."""
        limit = self.limit
        return limit.value is None and self.pace.calm and not (self.waiting or limit.cases or self.out_until or self.draining)

    @property
    def is_sound(self) -> bool:
        """Whether it is neither out, nor removed, nor ejected, nor just back."""
        return not (self.out_until or self.draining or self.ejection.returning)

    @property
    def in_flight(self) -> int:
        """Requests that have been sent and are not over."""
        return len(self.limit.leases)

    def opens_at(self, now: float) -> float | None:
        """When something may be sent: None is now, NEVER as long as nothing happens."""
        if self.draining:
            return NEVER
        if self.is_out(now):
            return self.out_until
        paused = self.pace.opens_at(now)
        if paused is not None:
            return paused
        if not self.limit.full(now):
            return None
        opens = self.limit.opens_at()
        return NEVER if opens is None else opens

    def has_room(self, now: float) -> bool:
        """Whether something may be sent now: `opens_at` is None. Asked of each account for each request that begins to wait."""
        limit = self.limit
        if limit.value is not None and len(limit.leases) >= limit.value and self.pace.calm:
            return False
        return self.opens_at(now) is None

    def probe_due(self, now: float) -> float | None:
        """When a request may be sent above the limit; None if not now."""
        if self.draining or self.is_out(now) or self.pace.opens_at(now) is not None:
            return None
        return self.limit.probe_due(now)

    def is_out(self, now: float) -> bool:
        """Whether it is out of rotation because its window is used up, or its credential is refused."""
        if self.out_until and self.out_until <= now:
            self.out_until, self.out_reason = 0.0, ""
        return bool(self.out_until)

    def is_lost(self, ticket: Ticket, now: float) -> bool:
        """Whether `ticket` cannot be sent there in time."""
        return self.draining or (self.is_out(now) and self.out_until > min(now + LONG_WAIT, ticket.deadline))

    def take_out(self, now: float, until: float, reason: str) -> None:
        """Take it out of rotation; a longer time out is never shortened."""
        self.out_until = max(self.out_until, until)
        self.out_reason = reason
        self.out_probe_at = now + OUT_PROBE

    def may_be_asked_though_out(self, ticket: Ticket, now: float) -> bool:
        """Whether it is time to find out if the account is back: what an upstream says of its resets is not always true."""
        return not self.draining and self.out_probe_at <= now and not ticket.avoids(self, now) and not self.limit.full(now)

    def keeps_slot(self, now: float) -> bool:
        """Whether one slot is kept for a main agent, which was or is here: subagents have taken all the others."""
        value = self.limit.value
        return value is not None and value >= 2 and self.low >= value - 1 and now < self.main_at + KEPT_SLOT

    def predicted_wait(self, now: float, ahead: int) -> float:
        """Seconds until a request with `ahead` requests before it is sent, roughly."""
        closed = max(self.pace.until, self.out_until, self.ejection.until) - now
        limit = self.limit.value
        return max(closed, 0.0 if limit is None else ahead * self.mean / limit)

    # -- one request

    def hold(self, ticket: Ticket) -> None:
        """Account for a ticket that is in flight."""
        if ticket.urgency >= SUBAGENT:
            self.low += 1

    def done(self, ticket: Ticket, now: float) -> None:
        """Account for a ticket that is not in flight any more, however that came."""
        if ticket.urgency >= SUBAGENT:
            self.low -= 1
        elif ticket.urgency is MAIN:
            self.main_at = now

    def refused(self, ticket: Ticket, lease: Lease, refusal: Refusal, now: float) -> int:
        """Learn from an explicit refusal; returns how many of its kind of prompt were refused in a row for overload, else 1."""
        event, retry_after = refusal.event, refusal.retry_after
        if event is Event.OVERLOAD:
            return self._overloaded(ticket, lease)
        if event is Event.STOP or (retry_after is not None and retry_after > LONG_WAIT):
            until = now + retry_after if retry_after is not None else NEVER
            self.take_out(now, refusal.until if refusal.until is not None else until, refusal.reason)
        elif event is Event.CONCURRENCY:
            self._learn(lease, now, retry_after)
        elif event is Event.RATE:
            self.pace.rate(lease, now, retry_after)
        return 1

    def _learn(self, lease: Lease, now: float, retry_after: float | None) -> None:
        """A refusal because too many run. Of several in a row only the first says something about slots given back late."""
        late = self.limit.refuse(lease, now, fresh=self.pace.is_fresh(lease) and not self.pace.in_trouble)
        if not lease.probe:
            delay = self.limit.delay if late else None
            self.pace.concurrency(lease, now, alone=not self.limit.leases, retry_after=retry_after, delay=delay)

    def _overloaded(self, ticket: Ticket, lease: Lease) -> int:
        prompt = ticket.prompt
        self.recovery.failed(prompt, lease.sent_at)
        if prompt is None:
            return 1
        count = self.overloads.pop(prompt, 0) + 1
        self.overloads[prompt] = count
        if len(self.overloads) > MOST_PROMPTS:
            del self.overloads[next(iter(self.overloads))]
        return count

    def answered(self, prompt: Hashable, lease: Lease, now: float) -> None:
        """The upstream has accepted a request, whose kind of prompt is `prompt`: forget what its refusals had led to."""
        self.closed = False
        self.limit.head(lease, now)
        if not self.bucket.full:
            self.bucket.success()
        if not self.pace.calm:
            self.pace.head(lease)
        if self.shared:
            self.recovery.accepted(prompt, lease.sent_at)
        if self.overloads:
            self.overloads.pop(prompt, None)
        if self.out_until and lease.sent_at >= self.out_probe_at - OUT_PROBE:
            self.out_until, self.out_reason = 0.0, ""  # asked although it was out, and it is not

    def end(self, lease: Lease, now: float, *, sent: bool = True) -> None:
        """A request is over, well or not; `sent` is False if nothing of it went out."""
        self.closed = False
        self.limit.end(lease, now, sent=sent)
        if lease.headed:
            self.mean += MEMORY * (now - lease.sent_at - self.mean)
