"""A scripted outage: phases that follow one another, each with its refusals, faults and limits."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .limiter import Limiter
from .recorded import Recorded
from .refusals import DEFAULT_RESET, Refusal, refusal
from .scenario import Scenario

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Phase:
    """What an upstream does from one minute of the script until its next phase.

    Attributes:
        at: minutes from the start.
        say: what happens, in words.
        refuse: refuse requests in this way.
        answer: answer requests with this instead of a good answer.
        share: of the requests that ``refuse`` or ``answer`` meets, 0 to 1.
        max_concurrency: requests at once per key; None keeps the limit before it, 0 lifts it.
        release_lag: seconds for which a slot stays taken after its answer; None keeps it.
        resets: minute at which a used-up window is back; None is the next phase.
        upstream: number of the upstream that it concerns, from 1; None is every upstream.
        account: number of the upstream's account, from 1; None is every account.
    """

    at: float
    say: str = ""
    refuse: Refusal | None = None
    answer: Scenario | None = field(default=None, repr=False)
    share: float = 1.0
    max_concurrency: int | None = None
    release_lag: float | None = None
    resets: float | None = None
    upstream: int | None = None
    account: int | None = None


class Stage:
    """Chooses the answers of one simulator by the phases of a script and the limit of each key.

    Only ``POST .../v1/messages`` is affected. ``begin`` starts the clock.
    """

    def __init__(
        self,
        phases: Sequence[Phase],
        *,
        provider: str = "zai",
        keys: Sequence[str] = (),
        speed: float = 1.0,
        good: Callable[[Recorded], Scenario] | None = None,
        seed: int = 0,
        clock: Callable[[], float] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``provider``: whose refusals to send; ``keys``: of the accounts, in order; ``speed``: script seconds in a second;
        ``good``: the answer when nothing is wrong; ``clock``: seconds, by default the event loop's; ``wall``: Unix seconds.
        """
        self.limiter = Limiter()
        self._phases = sorted(phases, key=lambda phase: phase.at)
        self._provider = provider
        self._keys = list(keys)
        self._speed = speed
        self._good = good
        self._random = random.Random(seed)  # noqa: S311 - a script, no secret
        self._clock = clock
        self._wall = wall
        self._began: float | None = None

    def begin(self) -> None:
        """Start the script's clock, if it does not run yet."""
        if self._began is None:
            self._began = self._now()

    @property
    def minute(self) -> float:
        """Minutes of the script that have passed."""
        return 0.0 if self._began is None else (self._now() - self._began) * self._speed / MINUTE

    def __call__(self, recorded: Recorded) -> Scenario | None:
        """Return the answer to a request; None for one that is not affected. It takes a slot, so it is called once for each."""
        if recorded.method != "POST" or not recorded.path.endswith("/v1/messages"):
            return None
        key = credential(recorded)
        meant, found = self._current(key)
        if meant and found.refuse is not None:
            return refusal(found.refuse, self._provider, self._resets_at(found))
        if not self.limiter.enter(key, id(recorded), self._now()):
            return refusal("concurrency", self._provider, 0.0)
        if meant and found.answer is not None:
            return found.answer
        return self._good(recorded) if self._good is not None else Scenario()

    def ended(self, recorded: Recorded) -> None:
        """Free the slot of a request."""
        self.limiter.leave(credential(recorded), id(recorded), self._now())

    def _current(self, key: str) -> tuple[bool, Phase]:
        """The phase that a key is in, and whether it meets this request. Sets the limits that hold now."""
        self.begin()
        found = Phase(0.0)
        limit, lag = None, 0.0
        for phase in self._phases:
            if phase.at > self.minute:
                break
            if phase.max_concurrency is not None:
                limit = phase.max_concurrency or None
            lag = phase.release_lag if phase.release_lag is not None else lag
            if phase.account is None or self._keys[phase.account - 1 : phase.account] == [key]:
                found = phase
        self.limiter.limit, self.limiter.lag = limit, lag / self._speed
        met = found.share >= 1 or self._random.random() < found.share
        return met, found

    def _resets_at(self, phase: Phase) -> float:
        later = [other.at for other in self._phases if other.at > phase.at]
        minute = phase.resets if phase.resets is not None else min(later, default=None)
        if minute is None:
            return self._wall() + DEFAULT_RESET
        return math.ceil(self._wall() + max(0.0, minute - self.minute) * MINUTE / self._speed)

    def _now(self) -> float:
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()


def credential(recorded: Recorded) -> str:
    """The key that a request shows, without its scheme; empty if it shows none."""
    bearer = (recorded.header("authorization") or "").partition(" ")[2]
    return recorded.header("x-api-key") or bearer
