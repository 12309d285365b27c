"""A hand-written caller of the queue: carries out what it decides, and checks on the way what must always hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from random import Random

from claude_proxy.routing.classes import Urgency
from claude_proxy.routing.lane import Lane
from claude_proxy.routing.plan import Event
from claude_proxy.routing.queue import Queue
from claude_proxy.routing.ticket import Action, Candidates, Grant, Pass, Refusal, Refuse, State, Ticket

START = 1000.0
CONCURRENCY = Refusal(Event.CONCURRENCY)
RATE = Refusal(Event.RATE)
OVERLOAD = Refusal(Event.OVERLOAD)


class Desk:
    """Reports events to a queue and keeps its own account of what the queue has decided.

    Args:
        starts: the limit that each account begins with.
        fixed: the limits are configured, so that nothing is probed.

    Attributes:
        sent, waiting: the tickets that are in flight or wait, according to the actions.
        done: how each finished ticket ended.
        log: every action, in order.
    """

    def __init__(self, *starts: int | None, most: int = 500, seed: int = 1, fixed: bool = False) -> None:
        self.now = START
        self.queue = Queue(Random(seed), most=most)
        self.lanes = [
            self.queue.lane(f"account {number}", start=start, ceiling=start if fixed else None)
            for number, start in enumerate(starts)
        ]
        self.all = Candidates([self.lanes]) if self.lanes else None
        self.sent: dict[Ticket, Lane] = {}
        self.waiting: dict[Ticket, None] = {}
        self.done: dict[Ticket, Action | str] = {}
        self.log: list[Action] = []

    @property
    def lane(self) -> Lane:
        return self.lanes[0]

    # -- what happens

    def ask(
        self,
        session: str = "s",
        urgency: Urgency = Urgency.MAIN,
        *,
        patience: float = 288.0,
        body: Hashable = None,
        can_resend: bool = True,
        candidates: Candidates | None = None,
        prompt: Hashable = None,
    ) -> Ticket:
        """A request comes; with `body` its identity."""
        chosen = candidates or self.all
        assert chosen is not None
        identity = None if body is None else lambda: (session, body)
        ticket = Ticket(
            session, urgency, chosen, self.now + patience, can_resend=can_resend, identity=identity, prompt=prompt
        )  # fmt: skip
        self.waiting[ticket] = None
        self.carry_out(self.queue.arrive(ticket, self.now))
        return ticket

    def ask_many(self, count: int, session: str = "s", urgency: Urgency = Urgency.SUBAGENT, **more: float) -> list[Ticket]:
        return [self.ask(session, urgency, **more) for _ in range(count)]  # type: ignore[arg-type]

    def head(self, *tickets: Ticket) -> None:
        for ticket in tickets:
            self.carry_out(self.queue.head(ticket, self.now))

    def end(self, *tickets: Ticket, ok: bool = True) -> None:
        for ticket in tickets:
            self._finish(ticket, "ended")
            self.carry_out(self.queue.ended(ticket, self.now, ok=ok))

    def leave(self, *tickets: Ticket) -> None:
        for ticket in tickets:
            self._finish(ticket, "left")
            self.carry_out(self.queue.leave(ticket, self.now))

    def refuse(self, ticket: Ticket, refusal: Refusal = CONCURRENCY) -> None:
        """The upstream refuses it; it waits again unless an action says otherwise."""
        del self.sent[ticket]
        self.waiting[ticket] = None
        self.carry_out(self.queue.refused(ticket, refusal, self.now))

    def fail(self, ticket: Ticket, event: Event = Event.BROKEN) -> None:
        del self.sent[ticket]
        self.waiting[ticket] = None
        self.carry_out(self.queue.failed(ticket, event, self.now))

    def wait(self, seconds: float) -> None:
        """Time passes; the queue is called when it wants to be."""
        end = self.now + seconds
        for _ in range(2_000):
            wake = self.queue.next_wake(self.now)
            if wake is None or wake > end:
                break
            assert wake >= self.now
            self.now = wake
            self.carry_out(self.queue.tick(self.now))
        else:
            raise AssertionError("the queue wants to be called again and again")
        self.now = end

    # -- what the queue decides

    def carry_out(self, actions: Iterable[Action]) -> None:
        for action in actions:
            self.log.append(action)
            ticket = action.ticket
            assert ticket in self.waiting, f"{action} is about a request that does not wait"
            del self.waiting[ticket]
            if isinstance(action, Grant):
                assert action.lane in ticket.candidates.lanes
                assert ticket.deadline >= self.now, "granted after its deadline"
                assert not action.probe or ticket.can_resend, "a client could see the refusal of this probe"
                self.sent[ticket] = action.lane
            else:
                self.done[ticket] = action
        self.check()

    def _finish(self, ticket: Ticket, how: str) -> None:
        self.sent.pop(ticket, None)
        self.waiting.pop(ticket, None)
        self.done[ticket] = how

    # -- what always holds

    def check(self) -> None:
        assert list(self.queue.room.tickets) == list(self.waiting) or set(self.queue.room.tickets) == set(self.waiting)
        assert len(self.waiting) <= self.queue.room._most
        in_flight = Counter(self.sent.values())
        low = Counter(lane for ticket, lane in self.sent.items() if ticket.urgency >= Urgency.SUBAGENT)
        for lane in self.lanes:
            assert lane.in_flight == in_flight[lane], "slots = holders"
            assert lane.low == low[lane]
            assert set(lane.waiting) == {ticket for ticket in self.waiting if lane in ticket.candidates.lanes}
        running = Counter(ticket.whose for ticket in self.sent)
        queued = Counter(ticket.whose for ticket in self.waiting)
        for ticket in [*self.sent, *self.waiting]:
            assert ticket.whose is not None
            assert ticket.whose.running == running[ticket.whose]
            assert ticket.whose.waiting == queued[ticket.whose]
        assert all(ticket.state is State.SENT for ticket in self.sent)
        assert all(ticket.state is State.WAITING for ticket in self.waiting)
        assert all(ticket.state is State.DONE for ticket in self.done)

    # -- what tests ask

    def is_sent(self, ticket: Ticket) -> bool:
        return ticket in self.sent

    def grants(self) -> list[Ticket]:
        """The granted tickets, in order; one that was granted twice stands there twice."""
        return [action.ticket for action in self.log if isinstance(action, Grant)]

    def refusal(self, ticket: Ticket) -> Refuse:
        action = self.done[ticket]
        assert isinstance(action, Refuse), action
        return action

    def passed(self, ticket: Ticket) -> Pass:
        action = self.done[ticket]
        assert isinstance(action, Pass), action
        return action
