"""Refusals that have nothing to do with how many run must not stop an account; those of a real limit must still be learned.

An upstream is simulated for some minutes: it refuses at random, or above a limit, or gives slots back late.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from random import Random

import pytest

from claude_proxy.routing.classes import Urgency
from claude_proxy.routing.plan import Event
from claude_proxy.routing.queue import Queue
from claude_proxy.routing.ticket import Action, Candidates, Grant, Refusal, Ticket

WAY = 0.01  # seconds from the proxy to the upstream
THINKS = 0.05
CLIENTS = 32


class World:
    """One account, and clients that send one request after the other.

    Args:
        start: the limit that the proxy has learned before; None for none.
        limit: the true one.
        share: of the requests that are refused at random.
        lasts: seconds that a request takes, on average.
        lag: seconds for which a slot stays taken after its request.
        always: the first request is refused each time.

    Attributes:
        answered, refused: requests.
        limit: the true one; it may be changed.
        held: the longest time in seconds for which requests waited only because slots may not be free yet, while none ran.
    """

    def __init__(
        self,
        start: int | None,
        limit: int | None = None,
        *,
        share: float = 0.0,
        lasts: float = 2.5,
        lag: float = 0.0,
        always: bool = False,
        seed: int = 1,
    ) -> None:
        self.now = self.held = 0.0
        self.answered = self.refused = self.taken = 0
        self.queue = Queue(Random(seed))
        self.lane = self.queue.lane("account", start=start)
        self.limit, self._share, self._lasts, self._lag = limit, share, lasts, lag
        self._always: Ticket | None = None
        self._candidates = Candidates([[self.lane]])
        self._dice = Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        for number in range(CLIENTS):
            self._ask_later(number)
        if always:
            self._always = self._ask(CLIENTS)

    def run(self, seconds: float) -> None:
        while True:
            wake = self.queue.next_wake(self.now)
            at = min(self._events[0][0] if self._events else seconds + 1, seconds + 1 if wake is None else wake)
            if at > seconds:
                return
            if self.queue.room.tickets and not self.lane.in_flight and self.lane.pace.opens_at(self.now) is None:
                self.held = max(self.held, at - self.now)
            self.now = max(self.now, at)
            if wake is not None and wake <= self.now:
                self._carry_out(self.queue.tick(self.now))
            else:
                heapq.heappop(self._events)[2]()

    def _after(self, seconds: float, function: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + seconds, self._count, function))

    def _ask_later(self, number: int) -> None:
        self._after(THINKS * self._dice.uniform(0.5, 1.5), lambda: self._ask(number))

    def _ask(self, number: int) -> Ticket:
        ticket = Ticket(number, Urgency.MAIN, self._candidates, self.now + 1e6)
        self._carry_out(self.queue.arrive(ticket, self.now))
        return ticket

    def _carry_out(self, actions: Iterable[Action]) -> None:
        for action in actions:
            assert isinstance(action, Grant), "nobody is refused by us"
            self._after(WAY, lambda ticket=action.ticket: self._decide(ticket))  # type: ignore[misc]

    def _decide(self, ticket: Ticket) -> None:
        full = self.limit is not None and self.taken >= self.limit
        if full or ticket is self._always or self._dice.random() < self._share:
            self.refused += 1
            self._carry_out(self.queue.refused(ticket, Refusal(Event.CONCURRENCY), self.now))
            return
        self.taken += 1
        self._after(WAY, lambda: self._carry_out(self.queue.head(ticket, self.now)))
        self._after(max(2 * WAY, self._lasts * self._dice.uniform(0.5, 1.5)), lambda: self._end(ticket))

    def _end(self, ticket: Ticket) -> None:
        self.answered += 1
        self._after(self._lag, self._free)
        self._carry_out(self.queue.ended(ticket, self.now))
        assert isinstance(ticket.session, int)
        self._ask_later(ticket.session)

    def _free(self) -> None:
        self.taken -= 1


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("limit", [None, 1, 2, 10, 51])
@pytest.mark.parametrize("lasts", [0.02, 2.5, 20.0])
def test_nothing_is_held_up_for_long_by_slots_that_are_free(limit: int | None, share: float, lasts: float) -> None:
    world = World(limit, limit, share=share, lasts=lasts)
    world.run(min(200.0, 2000 * lasts))
    assert world.held <= (1.0 if lasts < 1 else 4.0)


@pytest.mark.parametrize(("share", "least"), [(0.02, 0.9), (0.1, 0.6)])
@pytest.mark.parametrize("limit", [1, 2, 10, 51])
def test_what_is_refused_at_random_costs_the_account_only_the_pauses(limit: int, share: float, least: float) -> None:
    world = World(limit, limit, share=share)
    world.run(400.0)
    assert world.answered >= least * min(limit, CLIENTS) * 400.0 / (2.5 + (THINKS if limit > CLIENTS else 0.0))


@pytest.mark.parametrize("share", [0.02, 0.1])
@pytest.mark.parametrize("known", [2.0, 15.0])
def test_a_delay_that_was_learned_wrongly_is_unlearned(share: float, known: float) -> None:
    world = World(2, 2, share=share)
    world.lane.limit.load({"limit": 2, "delay": known})
    world.run(100.0)
    assert world.lane.limit.delay < 0.5


@pytest.mark.parametrize("lag", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_a_lag_that_is_there_is_learned_nevertheless(limit: int, lag: float) -> None:
    world = World(limit, limit, lag=lag)
    world.run(600.0)
    before = world.refused, world.answered
    world.run(1200.0)
    refused, answered = world.refused - before[0], world.answered - before[1]
    assert refused <= 0.25 * answered
    assert answered >= 0.8 * limit * 600.0 / (2.5 + lag)
    assert world.lane.limit.value == limit


@pytest.mark.parametrize("lag", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("lasts", [0.3, 1.0, 2.5, 6.0])
@pytest.mark.parametrize(("limit", "lowered"), [(2, 1), (3, 1), (5, 3)])
def test_a_lower_limit_is_learned_however_short_requests_are(limit: int, lowered: int, lasts: float, lag: float) -> None:
    """While they are short, a slot given back late would explain every refusal."""
    world = World(limit, limit, lasts=lasts, lag=lag)
    world.run(100.0)
    assert world.lane.limit.value == limit
    world.limit = lowered
    world.run(130.0)
    assert world.lane.limit.value == lowered


@pytest.mark.parametrize("lasts", [0.3, 1.0, 2.5])
@pytest.mark.parametrize(("limit", "lowered"), [(2, 1), (3, 1), (5, 3)])
def test_a_limit_that_is_lowered_and_raised_again_is_found_soon(limit: int, lowered: int, lasts: float) -> None:
    world = World(limit, limit, lasts=lasts)
    world.run(100.0)
    world.limit = lowered
    world.run(200.0)
    world.limit = limit
    world.run(250.0)
    assert world.lane.limit.value == limit


@pytest.mark.parametrize("limit", [None, 2, 10, 51])
@pytest.mark.parametrize(("lasts", "least"), [(0.02, 0.08), (2.5, 0.5)])
def test_one_request_that_is_always_refused_does_not_hold_up_the_others(limit: int | None, lasts: float, least: float) -> None:
    world = World(limit, limit, lasts=lasts, always=True)
    world.run(100.0)
    assert world.answered >= least * min(limit or CLIENTS, CLIENTS) * 100.0 / (lasts + THINKS)
