"""Whatever happens in whatever order: no account gets more than its limit and one probe, and each request ends once."""

from __future__ import annotations

import math
from collections.abc import Iterable

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from claude_proxy.routing.choosing import LOOK_AGAIN
from claude_proxy.routing.classes import Urgency
from claude_proxy.routing.plan import Event
from claude_proxy.routing.ticket import Action, Candidates, Grant, Pass, Refusal, Ticket
from tests.routing.desk import Desk

REFUSALS = st.builds(
    Refusal,
    st.sampled_from([Event.CONCURRENCY, Event.CONCURRENCY, Event.CONCURRENCY, Event.RATE, Event.OVERLOAD, Event.STOP]),
    st.sampled_from([None, None, 0.0, 3.0, 59.0, 61.0, 3600.0]),
)
FAILURES = st.sampled_from([Event.UNREACHABLE, Event.CERTIFICATE, Event.BROKEN])
MOST = 12


class StrictDesk(Desk):
    """Checks the accounts after each round of grants."""

    def carry_out(self, actions: Iterable[Action]) -> None:
        actions = list(actions)
        super().carry_out(actions)
        for lane in {action.lane for action in actions if isinstance(action, Grant)}:
            assert not lane.draining
            if (value := lane.limit.value) is not None:
                assert lane.in_flight <= value + (lane.limit.probe is not None), "more than the limit and one probe"


class QueueMachine(RuleBasedStateMachine):
    """Random events on one to three accounts."""

    @initialize(starts=st.lists(st.sampled_from([None, 1, 2, 3]), min_size=1, max_size=3), tiers=st.booleans())
    def begin(self, starts: list[int | None], tiers: bool) -> None:
        self.desk = StrictDesk(*starts, most=MOST)
        lanes = self.desk.lanes
        self.choices = [Candidates([[lane] for lane in lanes] if tiers else [lanes]), Candidates([[lanes[0]]])]
        self.bodies = 0

    def _sent(self, pick: int) -> Ticket | None:
        tickets = list(self.desk.sent)
        return tickets[pick % len(tickets)] if tickets else None

    @rule(
        session=st.integers(0, 3),
        urgency=st.sampled_from(Urgency),
        patience=st.sampled_from([0.0, 5.0, 48.0, 288.0]),
        can_resend=st.booleans(),
        body=st.none() | st.integers(0, 5),
        choice=st.integers(0, 1),
    )
    def arrive(self, session: int, urgency: Urgency, patience: float, can_resend: bool, body: int | None, choice: int) -> None:
        self.desk.ask(
            f"session {session}", urgency, patience=patience, body=body, can_resend=can_resend, candidates=self.choices[choice]
        )

    @rule(count=st.integers(5, 20), session=st.integers(0, 3))
    def burst(self, count: int, session: int) -> None:
        self.desk.ask_many(count, f"session {session}")

    @rule(pick=st.integers(0, 50))
    def head(self, pick: int) -> None:
        if (ticket := self._sent(pick)) is not None:
            self.desk.head(ticket)

    @rule(pick=st.integers(0, 50), ok=st.booleans())
    def end(self, pick: int, ok: bool) -> None:
        if (ticket := self._sent(pick)) is not None:
            self.desk.head(ticket)
            if ticket in self.desk.sent:
                self.desk.end(ticket, ok=ok)

    @rule(pick=st.integers(0, 50), refusal=REFUSALS)
    def refuse(self, pick: int, refusal: Refusal) -> None:
        ticket = self._sent(pick)
        if ticket is None or ticket.lease is None or ticket.lease.headed:
            return
        probe = ticket.lease.probe
        self.desk.refuse(ticket, refusal)
        if probe and refusal.event is Event.CONCURRENCY and (refusal.retry_after or 0) <= 60:
            assert not isinstance(self.desk.done.get(ticket), Pass), "a client saw the refusal of a probe"

    @rule(pick=st.integers(0, 50), event=FAILURES)
    def fail(self, pick: int, event: Event) -> None:
        if (ticket := self._sent(pick)) is not None:
            self.desk.fail(ticket, event)

    @rule(pick=st.integers(0, 50))
    def leave(self, pick: int) -> None:
        tickets = [*self.desk.sent, *self.desk.waiting]
        if tickets:
            self.desk.leave(tickets[pick % len(tickets)])

    @rule(pick=st.integers(0, 50))
    def report_after_the_end(self, pick: int) -> None:
        """A late report about a request that is over changes nothing."""
        done = list(self.desk.done)
        if done:
            ticket = done[pick % len(done)]
            queue, now = self.desk.queue, self.desk.now
            assert queue.ended(ticket, now) == queue.leave(ticket, now) == queue.head(ticket, now) == []
            assert queue.failed(ticket, Event.BROKEN, now) == []

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.9, 1.3, 5.0, 20.0, 61.0, 310.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        self.desk.wait(seconds)

    @rule()
    def the_timer_is_early(self) -> None:
        self.desk.carry_out(self.desk.queue.tick(self.desk.now))

    @rule(which=st.integers(0, 2))
    def an_account_is_removed(self, which: int) -> None:
        lanes = self.desk.lanes
        if sum(not lane.draining for lane in lanes) > 1:
            self.desk.carry_out(self.desk.queue.drain(lanes[which % len(lanes)], self.desk.now))

    @invariant()
    def nobody_waits_beyond_the_deadline(self) -> None:
        if hasattr(self, "desk"):
            assert all(ticket.deadline >= self.desk.now for ticket in self.desk.waiting)

    @invariant()
    def the_queue_wants_to_be_called_while_somebody_waits(self) -> None:
        if hasattr(self, "desk") and self.desk.waiting:
            wake = self.desk.queue.next_wake(self.desk.now)
            assert wake is not None
            assert math.isfinite(wake)

    @invariant()
    def no_slot_is_left_free_while_somebody_may_take_it(self) -> None:
        if not hasattr(self, "desk"):
            return
        queue, now = self.desk.queue, self.desk.now
        wake = queue.next_wake(now)
        if wake is not None and wake <= now:
            return  # the timer is about to fire
        for lane in self.desk.lanes:
            if lane.waiting and lane.opens_at(now) is None:
                ticket, _ = queue._order.pick(lane, now)
                # How long a session would wait at its own account is predicted again every few seconds only.
                predicted = ticket is not None and ticket.candidates.only is None and lane.wake <= now + LOOK_AGAIN
                assert ticket is None or predicted

    def teardown(self) -> None:
        """When all clients have left, nothing is left."""
        if hasattr(self, "desk"):
            self.desk.leave(*self.desk.waiting, *self.desk.sent)
            self.desk.wait(1000.0)
            assert not any(lane.in_flight or lane.waiting for lane in self.desk.lanes)
            assert self.desk.queue.next_wake(self.desk.now) is None


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
