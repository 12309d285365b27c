"""Where one account serves alone and has no limit, requests need no ticket: they pass. Most requests are of this kind.

Each has a lease, so that the account's limit can be learned from what runs. Once one of them is refused, the caller makes tickets
of those that still run, and the queue goes on as if they had had tickets from the beginning. One that fails gets a ticket too.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from claude_proxy.routing.classes import MAIN
from claude_proxy.routing.lane import Lane
from claude_proxy.routing.limit import Lease
from claude_proxy.routing.queue import Queue
from claude_proxy.routing.ticket import Action, Ticket


class Passed(NamedTuple):
    """A request in flight without a ticket.

    Attributes:
        seq: its seniority, as `Ticket.seq`.
    """

    lane: Lane
    lease: Lease
    seq: int


class Passing:
    """The requests that pass by the queue's order. `head` and `over` return the queue's actions, as its own methods do."""

    __slots__ = ("_queue",)

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def let_pass(self, lane: Lane, now: float) -> Passed | None:
        """A request has come that only `lane` may serve. None if it has to `arrive`."""
        if lane.shared or not lane.is_easy:
            return None
        queue = self._queue
        queue.sent += 1
        queue.arrived += 1
        lease = Lease(queue.sent, now)
        lane.limit.send(lease, now)
        lane.pace.send(lease, now)
        return Passed(lane, lease, queue.arrived)

    def head(self, passed: Passed, prompt: Hashable, now: float) -> list[Action]:
        """See `Queue.head`; `prompt` is what would be `Ticket.prompt`."""
        lane = passed.lane
        lane.answered(prompt, passed.lease, now)
        return self._queue.served(lane, now) if lane.waiting else []

    def over(self, passed: Passed, now: float, *, ok: bool) -> list[Action]:
        """It is over, and the account is not to blame; `ok` if its answer was good, not if its client has left before."""
        lane, lease, _ = passed
        if ok and (lane.ejection.row or lane.ejection.returning):
            lane.ejection.success(lease.sent_at)
        lane.end(lease, now)
        return self._queue.served(lane, now) if lane in self._queue.watched else []

    def adopt(self, ticket: Ticket, passed: Passed) -> None:
        """From now on it is `ticket`, which has been sent."""
        lane, lease, ticket.seq = passed
        self._queue.sessions.join(ticket, lease.sent_at)
        if ticket.urgency is MAIN:
            lane.main_at = max(lane.main_at, lease.sent_at)
        self._queue.hold(ticket, lane, lease)
