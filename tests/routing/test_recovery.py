"""A request that has given up on an account comes back once the account has recovered, and not before."""

from __future__ import annotations

from random import Random

import pytest

from claude_proxy.routing.classes import Urgency
from claude_proxy.routing.plan import TABLE, Event
from claude_proxy.routing.recovery import RETURNS
from claude_proxy.routing.ticket import Candidates, Pass, Refusal, Ticket
from tests.routing.desk import OVERLOAD, START, Desk

DEAD_KEY = Refusal(Event.STOP, reason="401")
HOWS = [OVERLOAD, Event.UNREACHABLE, Event.CERTIFICATE]
EVERY_WAY = pytest.mark.parametrize("how", HOWS, ids=["overloaded", "unreachable", "certificate"])


class Quick(Desk):
    """One that does not check each action: for many requests."""

    def check(self) -> None:
        pass


def goes_wrong(desk: Desk, ticket: Ticket, how: Refusal | Event) -> None:
    if isinstance(how, Refusal):
        desk.refuse(ticket, how)
    else:
        desk.fail(ticket, how)


def ask_first(desk: Desk, session: str = "other", prompt: str | None = None) -> Ticket:
    """A request that may use only the first account."""
    return desk.ask(session, Urgency.SUBAGENT, candidates=Candidates([[desk.lanes[0]]]), prompt=prompt)


def accept(desk: Desk, ticket: Ticket) -> None:
    desk.wait(0.1)
    desk.head(ticket)


def given_up(how: Refusal | Event, count: int = 1, prompt: str | None = None) -> tuple[Desk, list[Ticket]]:
    """Requests that failed at the first of two accounts, whose hidden retries are used up; the other account is busy."""
    desk = Desk(None, 1, fixed=True)
    holder = desk.ask("holder", candidates=Candidates([[desk.lanes[1]]]))
    desk.head(holder)
    desk.lanes[0].bucket.tokens = 0.0
    tickets = [desk.ask(f"s{number}", prompt=prompt) for number in range(count)]
    desk.wait(0.1)
    for ticket in tickets:
        goes_wrong(desk, ticket, how)
    desk.wait(30.0)
    assert all(ticket in desk.waiting for ticket in tickets)
    return desk, tickets


@EVERY_WAY
def test_it_comes_back_when_the_account_has_accepted_another_request(how: Refusal | Event) -> None:
    desk, (ticket,) = given_up(how)
    accept(desk, ask_first(desk))
    assert desk.sent[ticket] is desk.lanes[0]


@EVERY_WAY
def test_it_is_not_passed_on_while_an_account_that_has_recovered_is_there(how: Refusal | Event) -> None:
    """The last account fails just when the first one is well again: what clients saw of three upstreams that failed in turn."""
    desk = Desk(None, None)
    desk.lanes[0].bucket.tokens = desk.lanes[1].bucket.tokens = 0.0
    ticket = desk.ask("s", candidates=Candidates([[desk.lanes[0]], [desk.lanes[1]]]))
    desk.wait(0.1)
    goes_wrong(desk, ticket, how)
    assert desk.sent[ticket] is desk.lanes[1]
    desk.wait(0.1)
    accept(desk, ask_first(desk))
    goes_wrong(desk, ticket, how)
    assert desk.sent[ticket] is desk.lanes[0]


@EVERY_WAY
def test_it_is_passed_on_if_none_has_recovered(how: Refusal | Event) -> None:
    desk = Desk(None, None)
    desk.lanes[0].bucket.tokens = desk.lanes[1].bucket.tokens = 0.0
    ticket = desk.ask("s", candidates=Candidates([[desk.lanes[0]], [desk.lanes[1]]]))
    desk.wait(0.1)
    goes_wrong(desk, ticket, how)
    goes_wrong(desk, ticket, how)
    assert isinstance(desk.done[ticket], Pass)


@EVERY_WAY
def test_an_acceptance_of_what_was_sent_before_the_failure_says_nothing(how: Refusal | Event) -> None:
    desk = Desk(None, 1, fixed=True)
    desk.head(desk.ask("holder", candidates=Candidates([[desk.lanes[1]]])))
    desk.lanes[0].bucket.tokens = 0.0
    early, ticket = ask_first(desk), desk.ask("s")
    desk.wait(0.1)
    goes_wrong(desk, ticket, how)
    accept(desk, early)
    desk.wait(30.0)
    assert ticket in desk.waiting


@EVERY_WAY
@pytest.mark.parametrize("count", [2, 5, 20])
def test_one_comes_back_for_each_request_that_is_accepted(how: Refusal | Event, count: int) -> None:
    desk, tickets = given_up(how, count)
    accept(desk, ask_first(desk))
    for expected in range(1, count + 1):
        sent = [ticket for ticket in tickets if ticket in desk.sent]
        assert len(sent) == expected
        accept(desk, next(ticket for ticket in sent if ticket.lease is not None and not ticket.lease.headed))


@EVERY_WAY
@pytest.mark.parametrize("prompt", [None, "one"])
def test_if_the_first_that_comes_back_fails_the_others_stay_away(how: Refusal | Event, prompt: str | None) -> None:
    desk, tickets = given_up(how, 5, prompt)
    accept(desk, ask_first(desk))
    (back,) = (ticket for ticket in tickets if ticket in desk.sent)
    desk.wait(0.1)
    goes_wrong(desk, back, how)
    desk.wait(30.0)
    assert all(ticket in desk.waiting for ticket in tickets)


def test_if_the_client_of_the_first_that_comes_back_disconnects_the_next_one_follows() -> None:
    desk, tickets = given_up(OVERLOAD, 3)
    accept(desk, ask_first(desk))
    (back,) = (ticket for ticket in tickets if ticket in desk.sent)
    desk.leave(back)
    assert sum(ticket in desk.sent for ticket in tickets) == 1


def test_from_the_second_time_on_it_needs_an_accepted_request_of_the_same_kind() -> None:
    """z.ai answers 1305 to some prompts, always: that it accepts others does not help."""
    desk, (ticket,) = given_up(OVERLOAD, prompt="one")
    accept(desk, ask_first(desk, prompt="another"))
    desk.wait(0.1)
    desk.refuse(ticket, OVERLOAD)
    desk.wait(0.1)
    accept(desk, ask_first(desk, prompt="another"))
    assert ticket in desk.waiting
    accept(desk, ask_first(desk, prompt="one"))
    assert desk.sent[ticket] is desk.lanes[0]


def test_a_request_that_is_refused_however_well_the_account_is_does_not_come_back_for_ever() -> None:
    desk, (ticket,) = given_up(OVERLOAD)
    for _ in range(3 * RETURNS):
        accept(desk, ask_first(desk))
        if ticket in desk.sent:
            desk.wait(0.1)
            desk.refuse(ticket, OVERLOAD)
    assert ticket in desk.waiting
    assert ticket.tries is not None
    assert sum(ticket.tries.values()) == len(TABLE[Event.OVERLOAD].delays) + RETURNS + 1


def test_it_does_not_come_back_to_an_account_that_does_not_serve_its_model() -> None:
    desk, (ticket,) = given_up(Refusal(Event.STOP, until=0.0, reason="1220"))
    accept(desk, ask_first(desk))
    desk.wait(30.0)
    assert ticket in desk.waiting


def test_it_comes_back_to_a_key_that_is_valid_again() -> None:
    desk, (ticket,) = given_up(DEAD_KEY)
    desk.carry_out(desk.queue.readmit(desk.lanes[0], desk.now))
    accept(desk, ask_first(desk))
    assert desk.sent[ticket] is desk.lanes[0]


def fail_in_turn(seed: int, hops: int, hop: float, limit: int, steps: int) -> Desk:
    """Three accounts under fifty sessions. In each phase one is well, which it already was for a while when the others failed."""
    desk, dice = Quick(limit, limit, limit, fixed=True, seed=seed), Random(seed)
    well, bad = 0, {1, 2}
    for step in range(steps):
        if step % hops == 0:
            well = dice.randrange(3)
            bad.discard(well)
        elif step % hops == hops // 2:
            bad = {0, 1, 2} - {well}
        for number in range(30 - len(desk.sent) - len(desk.waiting)):
            desk.ask(f"s{dice.randrange(50)}", Urgency(1 + number % 2), prompt=f"prompt {number % 2}")
        sent = list(desk.sent.items())
        desk.wait(hop)
        for ticket, lane in sent:
            if desk.lanes.index(lane) in bad:
                desk.refuse(ticket, OVERLOAD)
            else:
                desk.head(ticket)
                desk.end(ticket)
    return desk


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("hops", [6, 10, 40])
@pytest.mark.parametrize("hop", [0.02, 0.2], ids=["quick", "slow"])
@pytest.mark.parametrize("limit", [3, 20])
def test_no_refusal_is_passed_on_while_one_of_three_that_fail_in_turn_is_well(
    seed: int, hops: int, hop: float, limit: int
) -> None:
    desk = fail_in_turn(seed, hops, hop, limit, 160)
    assert [how for how in desk.done.values() if how != "ended"] == []
    assert len(desk.done) > 100


def test_nor_in_an_hour_in_which_they_take_turns_every_half_minute() -> None:
    desk = fail_in_turn(seed=1, hops=60, hop=1.0, limit=20, steps=3600)
    assert [how for how in desk.done.values() if how != "ended"] == []
    assert desk.now >= START + 3600
    assert len(desk.done) > 10_000
