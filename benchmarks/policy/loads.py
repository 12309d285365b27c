"""What Claude Code asks: sessions with a main agent, subagents, tool checks and titles, and how it takes a refusal.

The retry rules were measured with Claude Code 2.1.332 (docs/facts.md, "Claude Code"): up to 11 attempts, each after
max(`retry-after`, min(32 s, 0.5 s x 2^k)), both times 1 to 1.25. A tool check gets 10 and is then denied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from benchmarks.policy.world import Clock
from claude_proxy.routing.classes import Urgency

ATTEMPTS = 11
CHECK_ATTEMPTS = 10
LONGEST = 60.0  # seconds of a stream


@dataclass(frozen=True)
class Load:
    """How many sessions, and with how many subagents each."""

    name: str
    sessions: int
    subagents: int


LOADS = (
    Load("1 session x 20 subagents", 1, 20),
    Load("5 sessions mixed", 5, 2),
    Load("12 sessions, overload", 12, 2),
)
LIGHT = Load("1 session, no subagents", 1, 0)


@dataclass(eq=False)
class Call:
    """One call of the client, over all its attempts.

    Attributes:
        lasts: seconds from its acceptance to its end.
        asked_at: of the first attempt.
        sent_at: when the attempt that was accepted was sent.
        refused: attempts that the client saw refused.
        done: continues the agent; True if there was an answer.
    """

    session: str
    urgency: Urgency
    lasts: float
    asked_at: float
    done: Callable[[bool], None]
    patience: float = 288.0
    attempts: int = 0
    refused: int = 0
    sent_at: float | None = None


class Front(Protocol):
    """What the client talks to: a policy."""

    def ask(self, call: Call) -> None: ...


class Watcher(Protocol):
    """Who counts."""

    def asked(self, call: Call) -> None: ...

    def over(self, call: Call, *, answered: bool) -> None: ...


@dataclass
class Client:
    """Claude Code on one machine: sends calls, and sends them again after a refusal."""

    clock: Clock
    rng: Random
    front: Front
    watcher: Watcher
    scale: float = 1.0

    def call(self, session: str, urgency: Urgency, lasts: float, done: Callable[[bool], None]) -> None:
        patience = 48.0 if urgency is Urgency.BLOCKING else 288.0
        call = Call(session, urgency, lasts, self.clock.now, done, patience)
        self.watcher.asked(call)
        self._attempt(call)

    def _attempt(self, call: Call) -> None:
        call.attempts += 1
        self.front.ask(call)

    def answered(self, call: Call) -> None:
        self.watcher.over(call, answered=True)
        call.done(True)

    def refused(self, call: Call, retry_after: float | None, *, retry: bool = True) -> None:
        """An attempt was refused: try again later, or give up."""
        call.refused += 1
        most = CHECK_ATTEMPTS if call.urgency is Urgency.BLOCKING else ATTEMPTS
        if not retry or call.attempts >= most:
            self.watcher.over(call, answered=False)
            call.done(False)
            return
        backoff = min(32.0, 0.5 * 2.0 ** (call.attempts - 1)) * self.rng.uniform(1, 1.25)
        wait = max(backoff, (retry_after or 0.0) * self.rng.uniform(1, 1.25))
        self.clock.after(wait, lambda: self._attempt(call))


def stream(rng: Random, mean: float) -> float:
    """Seconds that an answer takes."""
    return min(LONGEST, 1.0 + rng.expovariate(1 / mean))


@dataclass
class Agent:
    """One agent: asks, runs a tool, which may have to be checked, and asks again, for as long as the simulation lasts."""

    client: Client
    session: str
    urgency: Urgency
    mean: float
    rng: Random
    checks: float = 0.3  # share of turns whose tool call is checked
    titles: float = 0.0  # share of turns before which a title is asked for
    steps: Iterator[None] = field(init=False)

    def start(self) -> None:
        self.client.clock.after(self.rng.uniform(0, 10), self._turn)

    def _turn(self) -> None:
        if self.rng.random() < self.titles:
            self.client.call(self.session, Urgency.BACKGROUND, self.rng.uniform(1, 4), lambda _: None)
            self.client.clock.after(self.rng.uniform(0, 0.07), self._ask)
        else:
            self._ask()

    def _ask(self) -> None:
        self.client.call(self.session, self.urgency, stream(self.rng, self.mean), self._tool)

    def _tool(self, answered: bool) -> None:
        if answered and self.rng.random() < self.checks:
            self.client.call(self.session, Urgency.BLOCKING, self.rng.uniform(1.5, 5), self._rest)
        else:
            self._rest(answered)

    def _rest(self, answered: bool) -> None:
        self.client.clock.after(self.rng.uniform(0.5, 6) if answered else self.rng.uniform(30, 90), self._turn)


def start(load: Load, client: Client, rng: Random, times: int = 1) -> None:
    """Start the agents of a load, `times` as many sessions."""
    for number in range(load.sessions * times):
        session = f"session {number}"
        Agent(client, session, Urgency.MAIN, 15.0, rng, checks=0.5, titles=0.15).start()
        for index in range(load.subagents):
            urgency = Urgency.WORKFLOW if index % 5 == 4 else Urgency.SUBAGENT
            Agent(client, session, urgency, 12.0, rng, checks=0.15).start()
