"""Simulated time, and accounts at a provider that hide their limits."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

LIMITS = (1, 2, 3, 5, 10)


class Clock:
    """Runs functions at their time."""

    def __init__(self) -> None:
        self.now = 1.0
        self._count = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, time: float, function: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (max(time, self.now), self._count, function))

    def after(self, seconds: float, function: Callable[[], None]) -> None:
        self.at(self.now + seconds, function)

    def run(self, until: float) -> None:
        while self._heap and self._heap[0][0] <= until:
            self.now, _, function = heapq.heappop(self._heap)
            function()
        self.now = until


@dataclass(frozen=True)
class Scenario:
    """How the provider behaves.

    Attributes:
        limits: the limits between which it moves.
        moves: seconds between two moves, on average; infinite for a limit that stays.
        lag: a slot is free again up to so many seconds after its stream has ended.
        blackouts: seconds between two blackouts, on average; in one, all is refused for up to a minute.
        start: the limit that a policy begins with; None for none.
    """

    name: str
    limits: tuple[int, ...] = LIMITS
    moves: float = 1200.0
    lag: float = 2.0
    blackouts: float = 2400.0
    start: int | None = 2


FIXED = Scenario("fixed limit, no lag", (2,), math.inf, 0.0, math.inf)
LAGGING = Scenario("fixed limit, lag 0 to 2 s", (2,), math.inf, 2.0, math.inf)
COLD = Scenario("cold start", (2,), math.inf, 2.0, math.inf, None)
MOVING = Scenario("moving limit, lag, blackouts")


class Account:
    """One account at the provider: accepts up to its limit, and refuses the rest.

    Attributes:
        limit: the true one.
        dark: whether everything is refused.
        running: accepted requests that are not over.
        lagging: ended ones whose slots are not free yet.
        changed: called after each change of what would be accepted.
    """

    def __init__(self, scenario: Scenario, clock: Clock, rng: Random) -> None:
        self.scenario = scenario
        self.limit = rng.choice(scenario.limits)
        self.dark = False
        self.running = 0
        self.lagging = 0
        self.changed: list[Callable[[], None]] = []
        self.before_change: list[Callable[[], None]] = []
        self._clock = clock
        self._rng = Random(rng.random())
        self._dark = Random(rng.random())
        self._lags = Random(rng.random())  # so that all policies meet the same limits at the same times
        if math.isfinite(scenario.moves):
            clock.after(self._rng.expovariate(1 / scenario.moves), self._move)
        if math.isfinite(scenario.blackouts):
            clock.after(self._dark.expovariate(1 / scenario.blackouts), self._darken)

    @property
    def occupied(self) -> int:
        return self.running + self.lagging

    @property
    def free(self) -> int:
        return 0 if self.dark else max(0, self.limit - self.occupied)

    def accept(self) -> bool:
        """Whether a request that arrives now is accepted; it then runs until `release`."""
        if not self.free:
            return False
        self._tell(self.before_change)
        self.running += 1
        return True

    def release(self) -> None:
        self._tell(self.before_change)
        self.running -= 1
        self.lagging += 1
        self._clock.after(self._lags.uniform(0, self.scenario.lag), self._freed)

    def _freed(self) -> None:
        self._tell(self.before_change)
        self.lagging -= 1
        self._tell(self.changed)

    def _move(self) -> None:
        self._tell(self.before_change)
        self.limit = self._rng.choice([limit for limit in self.scenario.limits if limit != self.limit])
        self._clock.after(self._rng.expovariate(1 / self.scenario.moves), self._move)
        self._tell(self.changed)

    def _darken(self) -> None:
        self._tell(self.before_change)
        self.dark = True
        self._clock.after(self._dark.uniform(10, 60), self._lighten)

    def _lighten(self) -> None:
        self._tell(self.before_change)
        self.dark = False
        self._clock.after(self._dark.expovariate(1 / self.scenario.blackouts), self._darken)
        self._tell(self.changed)

    def _tell(self, functions: list[Callable[[], None]]) -> None:
        for function in functions:
            function()
