"""``python -m benchmarks.slots``: where an upstream's slots go under the load of `benchmarks.turns`, in simulated time.

Each slot-second that no request used is accounted for by what the queue knew at that moment. The queue and its rules are the real
ones; upstream, network and clients are simulated, so that a run of minutes takes a tenth of a second, and says why.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.policy.world import Clock
from benchmarks.turns import LASTS, THINKS
from claude_proxy.routing.classes import Urgency
from claude_proxy.routing.plan import Event
from claude_proxy.routing.queue import Queue
from claude_proxy.routing.ticket import Action, Candidates, Grant, Refusal, Ticket

WAY = (0.0005, 0.002)  # seconds from the proxy to the upstream, or back
FREED = (0.0, 0.003)  # seconds after the end of an answer until its slot is free, without a lag
PATIENCE = {Urgency.MAIN: 288.0, Urgency.SUBAGENT: 288.0, Urgency.BLOCKING: 48.0}
SECONDS = {Urgency.MAIN: LASTS["main"], Urgency.BLOCKING: LASTS["tool check"], Urgency.SUBAGENT: LASTS["subagent"]}
USED, KEPT, HIDDEN = "used", "kept for the main agent", "of a limit that was raised, before a request found out"
LATE, WAY_THERE, PAUSED = "not free yet at the upstream", "on the way", "pause after a refusal"
UNKNOWN, HELD, NOBODY, OTHER = "of a limit believed to be lower", "held in case they are not free yet", "nobody waits", "other"
KINDS = (USED, KEPT, HIDDEN, UNKNOWN, PAUSED, HELD, LATE, WAY_THERE, NOBODY, OTHER)

Phases = list[tuple[float, int]]  # from which second on, and the limit


@dataclass(eq=False)
class Call:
    """A request of a client, and what follows its answer; agent 0 is the main agent."""

    agent: int
    urgency: Urgency
    lasts: float
    asked_at: float
    then: Callable[[], None]


@dataclass
class World:
    """The upstream, its clients, and the queue between them.

    Attributes:
        spent: slot-seconds by what became of them.
        requests, refused: at the upstream.
        seen: refusals that a client saw.
        waits: seconds until a request was accepted, by class.
        served: requests that were accepted, by agent.
    """

    phases: Phases
    seed: int
    lag: float = 0.0
    subagents: int = 30
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    requests: int = 0
    refused: int = 0
    seen: int = 0
    waits: dict[Urgency, list[float]] = field(default_factory=lambda: defaultdict(list))
    served: Counter[int] = field(default_factory=Counter)
    _running: Counter[bool] = field(default_factory=Counter)  # main agents and checks, subagents
    _late: int = 0
    _sent: int = 0
    _hidden: int = 0
    _calls: dict[Ticket, Call] = field(default_factory=dict)
    _wake: float | None = None

    def __post_init__(self) -> None:
        self._clock, self._dice = Clock(), Random(self.seed)
        self._queue = Queue(Random(self.seed + 1000))
        self._lane = self._queue.lane("account", start=2)
        self._candidates = Candidates([[self._lane]])
        self._limit, self._since = self.phases[0][1], self._clock.now
        for at, limit in self.phases[1:]:
            self._clock.at(1.0 + at, lambda limit=limit: self._move(limit))  # type: ignore[misc]
        for number in range(self.subagents + 1):
            self._clock.after(self._dice.random(), lambda number=number: self._turn(number))  # type: ignore[misc]

    def run(self, seconds: float) -> World:
        self._clock.run(1.0 + seconds)
        self._account()
        return self

    # -- the clients

    def _turn(self, agent: int) -> None:
        def rest() -> None:
            self._clock.after(THINKS, lambda: self._turn(agent))

        def check() -> None:
            self._ask(agent, Urgency.BLOCKING, rest)

        if agent:
            self._ask(agent, Urgency.SUBAGENT, rest)
        else:
            self._ask(agent, Urgency.MAIN, check)

    def _ask(self, agent: int, urgency: Urgency, then: Callable[[], None]) -> None:
        self._arrive(Call(agent, urgency, self._dice.uniform(*SECONDS[urgency]), self._clock.now, then))

    def _arrive(self, call: Call) -> None:
        self._account()
        ticket = Ticket("session", call.urgency, self._candidates, self._clock.now + PATIENCE[call.urgency])
        self._calls[ticket] = call
        self._carry_out(self._queue.arrive(ticket, self._clock.now))

    # -- the queue

    def _carry_out(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Grant):
                self._sent += 1
                self._later(WAY, self._decide, action.ticket)
                continue
            self.seen += 1
            call = self._calls.pop(action.ticket)
            self._clock.after(5.0, lambda call=call: self._arrive(call))  # type: ignore[misc]
        wake = self._queue.next_wake(self._clock.now)
        if wake is not None and (self._wake is None or wake < self._wake):
            self._wake = wake
            self._clock.at(wake, lambda: self._tick(wake))

    def _tick(self, wake: float) -> None:
        if self._wake == wake:
            self._wake = None
            self._account()
            self._carry_out(self._queue.tick(self._clock.now))

    def _later(self, between: tuple[float, float], function: Callable[[Ticket], None], ticket: Ticket) -> None:
        self._clock.after(self._dice.uniform(*between), lambda: function(ticket))

    # -- the upstream

    def _decide(self, ticket: Ticket) -> None:
        self._account()
        self.requests += 1
        self._sent -= 1
        if self._running.total() + self._late >= self._limit:
            self.refused += 1
            self._later(WAY, self._no, ticket)
            return
        call = self._calls[ticket]
        self.waits[call.urgency].append(self._clock.now - call.asked_at)
        self.served[call.agent] += 1
        self._running[call.urgency >= Urgency.SUBAGENT] += 1
        self._hidden = 0 if self._running.total() > self._limit - self._hidden else self._hidden
        headed = call.lasts if call.urgency is Urgency.BLOCKING else 0.0
        self._later((headed + WAY[0], headed + WAY[1]), self._head, ticket)
        self._later((call.lasts + WAY[1], call.lasts + WAY[1]), self._end, ticket)

    def _no(self, ticket: Ticket) -> None:
        self._account()
        self._carry_out(self._queue.refused(ticket, Refusal(Event.CONCURRENCY), self._clock.now))

    def _head(self, ticket: Ticket) -> None:
        self._account()
        self._carry_out(self._queue.head(ticket, self._clock.now))

    def _end(self, ticket: Ticket) -> None:
        self._account()
        self._running[ticket.urgency >= Urgency.SUBAGENT] -= 1
        self._late += 1
        self._clock.after(self.lag + self._dice.uniform(*FREED), self._free)
        self._later(WAY, self._ended, ticket)

    def _ended(self, ticket: Ticket) -> None:
        self._account()
        call = self._calls.pop(ticket)
        self._carry_out(self._queue.ended(ticket, self._clock.now))
        call.then()

    def _free(self) -> None:
        self._account()
        self._late -= 1

    def _move(self, limit: int) -> None:
        self._account()
        self._hidden, self._limit = max(0, self._hidden + limit - self._limit), limit

    # -- the account

    def _account(self) -> None:
        """Say what each slot was used for since the last time; what the queue knows has not changed since."""
        seconds, middle, self._since = self._clock.now - self._since, (self._clock.now + self._since) / 2, self._clock.now
        left = self._limit
        for kind, count in self._slots(middle):
            count = min(left, count)
            self.spent[kind] += count * seconds
            left -= count

    def _slots(self, now: float) -> Iterable[tuple[str, int]]:
        """What slots are used for, and how many; the first count first."""
        limit, lane = self._lane.limit, self._lane
        yield USED, self._running.total()
        yield HIDDEN, self._hidden
        yield LATE, self._late
        yield WAY_THERE, self._sent
        reasons = (
            (NOBODY, not lane.waiting),
            (KEPT, not self._running[False] and self._running[True] == self._limit - self._hidden - 1 > 0),
            (PAUSED, lane.pace.opens_at(now) is not None),
            (UNKNOWN, limit.value is not None and limit.value < self._limit),
            (HELD, limit.full(now)),
        )
        yield next((kind for kind, holds in reasons if holds), OTHER), self._limit


def moving(seconds: float, limit: int = 2) -> Phases:
    """The limit is 1 in the middle third."""
    return [(0.0, limit), (seconds / 3, 1), (2 * seconds / 3, limit)]


def known(spent: dict[str, float]) -> float:
    """The share of slots that were used, of those that could be known."""
    return spent[USED] / (sum(spent.values()) - spent[HIDDEN])


def added(worlds: list[World]) -> dict[str, float]:
    """The slot-seconds of several runs."""
    return {kind: sum(one.spent[kind] for one in worlds) for kind in KINDS}


app = typer.Typer(add_completion=False)


@app.command(help=__doc__)
def main(
    seconds: Annotated[float, typer.Option(help="Simulated seconds of a run.")] = 150.0,
    seeds: Annotated[int, typer.Option(help="How many runs.")] = 20,
    lag: Annotated[float, typer.Option(help="Seconds for which a slot stays taken after its answer.")] = 0.0,
) -> None:
    cases = {"limit 2": [(0.0, 2)], "limit 1": [(0.0, 1)], "limit 2, 1, 2": moving(seconds)}
    table = Table("% of all slots", *cases)
    runs = {name: [World(phases, seed, lag).run(seconds) for seed in range(seeds)] for name, phases in cases.items()}
    sums = {name: added(worlds) for name, worlds in runs.items()}
    for kind in KINDS:
        table.add_row(kind, *(f"{100 * spent[kind] / sum(spent.values()):.2f}" for spent in sums.values()))
    table.add_section()
    table.add_row("used of those that could be known", *(f"{100 * known(spent):.1f}" for spent in sums.values()))
    table.add_row("the same, worst run", *(f"{100 * min(known(one.spent) for one in each):.1f}" for each in runs.values()))
    refused = {name: sum(one.refused for one in each) / sum(one.requests for one in each) for name, each in runs.items()}
    table.add_row("refused at the upstream per 1,000", *(f"{1000 * share:.0f}" for share in refused.values()))
    table.add_row("refusals that a client saw", *(str(sum(one.seen for one in each)) for each in runs.values()))
    Console(width=120).print(table)


if __name__ == "__main__":
    app()
