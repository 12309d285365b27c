"""Requests that nothing holds back, which are most: where one account serves alone, without a limit, they need no ticket.

Each has a lease, so that the account's limit can be learned from what runs. For one that is refused or fails, the caller makes a
ticket, which the queue adopts.
"""

from __future__ import annotations

from collections.abc import Hashable

from claude_proxy.routing.lane import Lane
from claude_proxy.routing.limit import Lease
from claude_proxy.routing.queue import Queue
from claude_proxy.routing.ticket import Action


class Passing:
    """The requests that pass by the queue's order. The methods return the queue's actions, as its own methods do."""

    __slots__ = ("_queue",)

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def let_pass(self, lane: Lane, now: float) -> Lease | None:
        """A request has come that only `lane` may serve: the lease to send it with, or None if it has to `arrive`."""
        if lane.shared or not lane.is_easy:
            return None
        queue = self._queue
        queue.sent += 1
        lease = Lease(queue.sent, now)
        lane.limit.send(lease, now)
        lane.pace.send(lease, now)
        return lease

    def head(self, lane: Lane, lease: Lease, prompt: Hashable, now: float) -> list[Action]:
        """See `Queue.head`; `prompt` is what would be `Ticket.prompt`."""
        lane.answered(prompt, lease, now)
        return self._queue.served(lane, now) if lane.waiting else []

    def over(self, lane: Lane, lease: Lease, now: float, *, ok: bool) -> list[Action]:
        """It is over; `ok` if the answer came whole, otherwise its client has left."""
        if ok and (lane.ejection.row or lane.ejection.returning):
            lane.ejection.success(lease.sent_at)
        lane.end(lease, now)
        return self._queue.served(lane, now) if lane in self._queue.watched else []
