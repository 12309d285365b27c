"""The groups of waiting requests: the next one is found as by a look at all of them."""

from __future__ import annotations

from random import Random

import pytest

from claude_proxy.routing import choosing
from claude_proxy.routing.ageing import AGED, AGED_TO_MAIN, changes_at, effective
from claude_proxy.routing.classes import Urgency
from claude_proxy.routing.fair import Fair
from claude_proxy.routing.lane import Lane
from claude_proxy.routing.plan import Event
from claude_proxy.routing.ticket import Candidates, Refusal, Ticket
from tests.routing.desk import CONCURRENCY, OVERLOAD, Desk

REFUSALS = (CONCURRENCY, OVERLOAD, Refusal(Event.STOP, retry_after=200.0, reason="used up"))


class Compared(Fair):
    """Looks for each request in both ways."""

    def __init__(self) -> None:
        self.lanes: list[Lane] = []
        self.looked = self.found = 0

    def pick(self, lane: Lane, now: float) -> tuple[Ticket | None, float]:
        for but in (None, Urgency.BLOCKING):
            best, wake = self._best(lane, now, but)
            for other in self.lanes:
                other.ranked_at = -1
            plain, plain_wake = self._search(lane.waiting, lane, now, but)
            assert best == plain
            assert best is not None or wake <= plain_wake, "it is not looked at again in time"
            self.looked += 1
            self.found += best is not None
        return super().pick(lane, now)


def anything(desk: Desk, dice: Random, routes: list[Candidates], failing: bool) -> None:
    """Something happens; with `failing`, one account after the other fails for a minute."""
    sent = list(desk.sent)
    if len(desk.waiting) < 30 and dice.random() < 0.5:
        desk.ask(
            f"session {dice.randrange(12)}",
            dice.choice(list(Urgency)),
            candidates=dice.choice(routes),
            patience=dice.choice([48.0, 288.0]),
            body=dice.randrange(40),
            prompt=dice.choice([None, "p", "q"]),
        )
    elif not sent or dice.random() < 0.2:
        desk.wait(dice.choice([0.01, 0.5, 3.0, 20.0, 70.0]))
    elif dice.random() < 0.15:
        desk.refuse(dice.choice(sent), dice.choices(REFUSALS, (20, 8, 1))[0])
    elif failing and (ticket := dice.choice(sent)).lane is desk.lanes[int(desk.now / 60) % len(desk.lanes)]:
        desk.fail(ticket, dice.choice([Event.UNREACHABLE, Event.BROKEN]))
    elif dice.random() < 0.05:
        desk.leave(dice.choice([*sent, *desk.waiting]))
    else:
        ticket = dice.choice(sent)
        desk.head(ticket)
        if ticket in desk.sent and dice.random() < 0.7:
            desk.end(ticket, ok=dice.random() < 0.95)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("accounts", [2, 3, 6])
@pytest.mark.parametrize("failing", [False, True])
def test_the_next_request_is_the_same_as_by_a_look_at_all_of_them(accounts: int, seed: int, failing: bool) -> None:
    order, dice = Compared(), Random(seed)
    desk = Desk(*(dice.choice([1, 2, 3, None]) for _ in range(accounts)), seed=seed)
    desk.queue._order, order.lanes = order, desk.lanes
    routes = [Candidates([desk.lanes]), Candidates([desk.lanes[:1], desk.lanes[1:]]), Candidates([desk.lanes[:2]])]
    routes.append(Candidates([[desk.lanes[-1]]]))
    for _ in range(800):
        anything(desk, dice, routes, failing)
    assert order.looked > order.found > 50


@pytest.mark.parametrize("urgency", list(Urgency))
def test_the_class_changes_when_it_is_said_to(urgency: Urgency) -> None:
    ticket = Desk(1).ask(urgency=urgency)
    now, seen = ticket.since, effective(ticket, ticket.since)
    while (changes := changes_at(ticket, now)) <= ticket.since + 2 * AGED_TO_MAIN:
        assert effective(ticket, changes - 0.001) == seen
        seen, now = effective(ticket, changes), changes
        assert effective(ticket, changes - 0.001) != seen
    assert effective(ticket, now + 10 * AGED) == seen


def busy(*sessions: str) -> tuple[Desk, list[Ticket]]:
    """Accounts that let one request run, each with one of a session."""
    desk = Desk(*(1 for _ in sessions), fixed=True)
    return desk, [desk.ask(session) for session in sessions]


def test_a_session_that_waits_stays_with_its_account_from_its_first_answer_on() -> None:
    desk, (x, y, z) = busy("x", "y", "z")
    first, again, other = desk.ask("w"), desk.ask("x"), desk.ask("y")
    desk.end(z)
    assert desk.sent[first] is z.candidates.lanes[2]
    desk.head(x, y)
    desk.end(first)
    assert not desk.is_sent(again)
    assert not desk.is_sent(other)


def test_a_session_that_waits_is_free_once_its_account_has_forgotten_its_prompts() -> None:
    desk, (x, y, z) = busy("x", "y", "z")
    desk.head(x, y, z)
    desk.end(y)
    desk.wait(choosing.CACHE - 2.0)
    other = desk.ask("other")
    waiting, kept = desk.ask("y"), desk.ask("x")
    assert desk.sent[other] is desk.lanes[1]
    free = desk.ask("free")
    desk.end(z)
    assert desk.is_sent(free)
    desk.wait(3.0)
    desk.end(free)
    assert desk.is_sent(waiting)
    assert not desk.is_sent(kept)
