"""Requests that pass by the order of the queue: they teach it the same as tickets do, and become tickets when they go wrong."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import initialize

from claude_proxy.routing.classes import Urgency
from claude_proxy.routing.ejection import FAILURES, SPAN
from claude_proxy.routing.limit import Lease
from claude_proxy.routing.passing import Passed, Passing
from claude_proxy.routing.plan import Event
from claude_proxy.routing.ticket import Candidates, Refusal, State, Ticket
from tests.routing.desk import CONCURRENCY, OVERLOAD, RATE, Desk
from tests.routing.test_queue_invariants import MOST, QueueMachine, StrictDesk


class PassingDesk(StrictDesk):
    """Lets every request pass that may, as `proxy/turns.py` does.

    Attributes:
        passing: the leases of requests in `sent` that have no ticket in the queue's sense yet.
    """

    def __init__(self, *starts: int | None, most: int = MOST) -> None:
        super().__init__(*starts, most=most)
        self.rule = Passing(self.queue)
        self.passing: dict[Ticket, Passed] = {}

    def ask(self, session: str = "s", urgency: Urgency = Urgency.MAIN, **more: object) -> Ticket:  # type: ignore[override]
        candidates = more.get("candidates") or self.all
        assert isinstance(candidates, Candidates)
        lane = candidates.only
        passed = None if lane is None else self.rule.let_pass(lane, self.now)
        if passed is None:
            return super().ask(session, urgency, **more)  # type: ignore[arg-type]
        can_resend, prompt = bool(more.get("can_resend", True)), more.get("prompt")
        ticket = Ticket(session, urgency, candidates, self.now + 288.0, can_resend=can_resend, prompt=prompt)
        self.sent[ticket], self.passing[ticket] = passed.lane, passed
        self.check()
        return ticket

    def head(self, *tickets: Ticket) -> None:
        for ticket in tickets:
            if ticket in self.passing:
                self.carry_out(self.rule.head(self.passing[ticket], ticket.prompt, self.now))
            else:
                super().head(ticket)

    def end(self, *tickets: Ticket, ok: bool = True) -> None:
        for ticket in tickets:
            if not ok or ticket not in self.passing:
                self.adopt(ticket)
                super().end(ticket, ok=ok)
            else:
                self._over(ticket, ok=True)

    def leave(self, *tickets: Ticket) -> None:
        for ticket in tickets:
            if ticket in self.passing:
                self._over(ticket, ok=False)
            else:
                super().leave(ticket)

    def refuse(self, ticket: Ticket, refusal: Refusal = CONCURRENCY) -> None:
        for other in [other for other in self.passing if self.sent[other] is self.sent[ticket]]:
            self.adopt(other)
        super().refuse(ticket, refusal)

    def fail(self, ticket: Ticket, event: Event = Event.BROKEN) -> None:
        self.adopt(ticket)
        super().fail(ticket, event)

    def adopt(self, ticket: Ticket) -> None:
        passed = self.passing.pop(ticket, None)
        if passed is not None:
            self.rule.adopt(ticket, passed)

    def _over(self, ticket: Ticket, *, ok: bool) -> None:
        del self.sent[ticket]
        self.done[ticket], ticket.state = "over", State.DONE
        self.carry_out(self.rule.over(self.passing.pop(ticket), self.now, ok=ok))

    def check(self) -> None:
        passing, sent = self.passing, self.sent
        assert sum(lane.in_flight for lane in self.lanes) == len(sent), "slots = holders"
        self.sent = {ticket: lane for ticket, lane in sent.items() if ticket not in passing}
        for passed in passing.values():  # the rest of the account does not know them
            passed.lane.limit.leases.pop(passed.lease, None)
        try:
            super().check()
        finally:
            self.sent = sent
            for passed in passing.values():
                passed.lane.limit.leases[passed.lease] = None


def test_a_request_that_passes_is_in_flight_until_it_is_over() -> None:
    desk = PassingDesk(None)
    one, two, three = desk.ask_many(3)
    assert set(desk.passing) == {one, two, three}
    assert desk.lane.in_flight == 3
    desk.head(one, two)
    desk.end(one)
    desk.leave(two, three)
    assert desk.lane.in_flight == 0
    assert desk.queue.next_wake(desk.now) is None


def limited(desk: Desk) -> None:
    desk.lane.limit.value = 9


def paused(desk: Desk) -> None:
    desk.lane.pace.rate(Lease(0, desk.now), desk.now, 3.0)


def out(desk: Desk) -> None:
    desk.lane.take_out(desk.now, desk.now + 60, "window")


def draining(desk: Desk) -> None:
    desk.queue.drain(desk.lane, desk.now)


def shared(desk: Desk) -> None:
    Candidates([[desk.lane, desk.queue.lane("another")]])


def unjudged(desk: Desk) -> None:
    one, two = desk.ask_many(2)
    desk.refuse(two)
    desk.lane.pace.calm = True
    desk.leave(one, two)


@pytest.mark.parametrize("state", [limited, paused, out, draining, shared, unjudged])
def test_nothing_passes_where_something_has_to_be_decided(state: Callable[[Desk], None]) -> None:
    desk = PassingDesk(None)
    assert desk.rule.let_pass(desk.lane, desk.now) is not None
    desk = PassingDesk(None)
    state(desk)
    assert desk.rule.let_pass(desk.lane, desk.now) is None


def test_a_burst_of_requests_that_pass_teaches_the_limit() -> None:
    desk = PassingDesk(None)
    tickets = desk.ask_many(20, prompt="kind")  # type: ignore[arg-type]
    for ticket in tickets[2:10]:
        desk.refuse(ticket)
    desk.head(*tickets[:2])
    desk.leave(*tickets[10:])
    desk.wait(1.0)
    assert desk.lane.limit.value == 2
    assert desk.waiting.keys() == set(tickets[2:10])
    desk.end(*tickets[:2])
    desk.wait(30.0)
    assert desk.is_sent(tickets[2]), "the first one that was refused is the first to be sent again"


def test_after_a_refusal_the_others_are_known_as_if_they_had_had_tickets_from_the_beginning() -> None:
    desk = PassingDesk(None)
    main = desk.ask("s", Urgency.MAIN)
    helpers = desk.ask_many(3)
    refused = desk.ask("t", Urgency.SUBAGENT)
    desk.wait(0.1)
    desk.refuse(refused)
    assert not desk.passing
    assert (desk.lane.low, main.whose and main.whose.running) == (3, 4)
    desk.head(main, *helpers)
    desk.wait(1.0)
    assert desk.lane.limit.value == 4
    desk.end(main)
    desk.wait(5.0)
    assert not desk.is_sent(refused), "the slot is kept for the main agent"
    assert desk.is_sent(desk.ask("s", Urgency.MAIN))


def test_those_that_are_refused_keep_the_order_in_which_they_came() -> None:
    desk = PassingDesk(None)
    tickets = desk.ask_many(5)
    newcomer = None
    for ticket in reversed(tickets):
        desk.refuse(ticket)
        newcomer = newcomer or desk.ask(urgency=Urgency.SUBAGENT)
    desk.wait(120.0)
    order = [ticket for ticket in desk.grants() if ticket is not newcomer]
    assert order
    assert order == tickets[: len(order)]
    assert [ticket.seq for ticket in tickets] == sorted(ticket.seq for ticket in tickets)
    assert newcomer is not None
    assert newcomer.seq > tickets[-1].seq


@pytest.mark.parametrize("refusal", [CONCURRENCY, RATE, OVERLOAD])
def test_one_that_is_refused_waits_and_is_sent_again(refusal: Refusal) -> None:
    desk = PassingDesk(None)
    ticket = desk.ask()
    desk.refuse(ticket, refusal)
    assert not desk.is_sent(ticket)
    desk.wait(61.0)
    assert desk.is_sent(ticket)
    assert ticket not in desk.passing


def test_answers_that_break_off_eject_the_account_and_a_good_one_brings_it_back() -> None:
    desk = PassingDesk(None)
    for _ in range(FAILURES):
        ticket = desk.ask()
        desk.head(ticket)
        desk.end(ticket, ok=False)
        desk.wait(SPAN / 2)
    assert desk.lane.ejection.returning
    ticket = desk.ask()
    assert ticket in desk.passing, "there is no other account to go to"
    desk.head(ticket)
    desk.end(ticket)
    assert not desk.lane.ejection.returning


def test_a_client_that_leaves_says_nothing_good_of_the_account() -> None:
    desk = PassingDesk(None)
    desk.lane.ejection.failure(desk.now, desk.now)
    ticket = desk.ask()
    desk.leave(ticket)
    assert desk.lane.ejection.row == 1


class PassingMachine(QueueMachine):
    """The same random events, with requests that pass."""

    @initialize(starts=st.lists(st.sampled_from([None, None, 1, 2]), min_size=1, max_size=3), tiers=st.booleans())
    def begin(self, starts: list[int | None], tiers: bool) -> None:
        self.desk = PassingDesk(*starts, most=MOST)
        lanes = self.desk.lanes
        both = Candidates([[lane] for lane in lanes] if tiers else [lanes])
        self.choices = [Candidates([[lanes[0]]]), both if tiers else Candidates([[lanes[-1]]])]
        self.bodies = 0


TestPassing = PassingMachine.TestCase
TestPassing.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
