"""How many requests an account lets run at once, learned from its refusals: an integer, found by "bracket and probe". Pure.

The latency of an answer says nothing here, because it is the length of the text. So only three things teach: a refusal, an
accepted request above the limit (a probe), and how long a slot stays taken at the provider after its stream has ended.
docs/resilience.md, "The limit", has the rules with their reasons and the simulation that their constants come from.
"""

from __future__ import annotations

from collections import deque
from random import Random

from claude_proxy.routing.doubt import Case, Doubt

JUDGED_AFTER = 0.8  # seconds after a refusal: by then others that were sent with it have been refused too
RECENT = 4.0  # seconds; a stream that ended within max(RECENT, delay + LAG) may still hold its slot at the provider
LAG = 2.0
DELAY_FIRST = 0.02  # seconds; the first step of the delay: a server may count a slot for an instant after the last byte
DELAY_GROWTH = 2.0  # a refusal raises the delay by this many times what it is, within DELAY_FIRST and DELAY_UP
DELAY_UP = 0.25  # seconds; the largest step of a refusal
DELAY_DOWN = 0.02  # seconds; the largest step of an acceptance: a twelfth of the other, so that about a twelfth is refused
DELAY_SHRINKING = 1 / 30  # an acceptance lowers the delay by this share of it at most
DELAY_MOST = 15.0
DELAY_LASTS = 4.0  # times what a request takes: to hold slots for longer than that costs more than the refusals it spares
DOUBTED = 2  # raises after which one request is sent without the delay, to see whether it is needed
DOUBTED_MOST = 64
DISPROVED = 2  # requests that are accepted without the delay, in a row, from which on each of them halves it
GUESS = 20.0  # seconds that a request is expected to take, before any has been seen
MEMORY = 0.1  # weight of the last request in the mean duration
PROBE_WAIT = 15.0  # seconds with a full limit and somebody waiting
PROBE_WAIT_MOST = 300.0
PROBE_REQUESTS = 48.0  # requests that are answered between two refused probes: about 20 of 1,000 requests are refused as probes
PROBE_REQUESTS_LOWERED = 8.0  # the same for LATELY seconds after the limit was lowered: it may be raised again soon
LATELY = 600.0
PROBE_NEXT = 1.0  # seconds after an accepted probe
PROBE_RETRY = 2.0  # seconds after an inconclusive one
DECIDED = 1.0  # seconds after which a request that was not refused counts as accepted
MOST_ENDED = 256  # ended streams that are remembered; more run at once only where there is no limit to learn


class Lease:
    """The right to send one request, from its grant to its end.

    Attributes:
        first: it has not been refused before.
        probe: it was sent above the limit.
        freed: it was sent into a slot that had just become free.
        early: it was sent before the delay of that slot was over.
        headed: its response head has come, and it was no refusal.
        ended_at: when it gave its slot back; None while it runs.
    """

    __slots__ = ("early", "ended_at", "first", "freed", "headed", "probe", "refused", "sent_at", "seq")

    def __init__(self, seq: int, sent_at: float, first: bool = True, probe: bool = False) -> None:
        self.seq = seq
        self.sent_at = sent_at
        self.first = first
        self.probe = probe
        self.freed = False
        self.early = False
        self.headed = False
        self.refused = False
        self.ended_at: float | None = None

    @property
    def undecided(self) -> bool:
        """Whether the upstream has neither accepted nor refused it yet."""
        return not (self.headed or self.refused) and self.ended_at is None


class Limit:
    """The limit of one account. Its methods must be called with a `now` that does not go back.

    Args:
        start: what to begin with; None is unlimited until a refusal teaches otherwise.
        ceiling: what the limit never exceeds (`max_concurrency`); None if there is no such bound.
        rng: for jitter.

    Attributes:
        value: the limit as learned; None is unlimited.
        delay: how long a slot stays taken after its stream has ended, in seconds.
        learned: whether `value` is more than what it began with: a refusal, a probe or an earlier process has taught it.
        leases: what is in flight, in the order of sending.
        probe: the running probe, until it is decided.
        cases: the refusals that are still to be judged.
        probe_at: when the next probe may go; None until the limit has been full with somebody waiting.
    """

    __slots__ = (
        "_accepted", "_doubt", "_doubted_after", "_ended", "_lasts", "_lowered", "_probe_wait", "_raises", "_rng", "cases",
        "ceiling", "delay", "learned", "leases", "probe", "probe_at", "value",
    )  # fmt: skip

    def __init__(self, start: int | None, ceiling: int | None, rng: Random) -> None:
        self.ceiling = ceiling
        self.value = start if ceiling is None else ceiling if start is None else min(start, ceiling)
        self.delay = 0.0
        self.learned = False
        self.leases: dict[Lease, None] = {}
        self.probe: Lease | None = None
        self.probe_at: float | None = None
        self._probe_wait = PROBE_WAIT
        self._lasts = GUESS
        self._raises = 0  # of the delay, since it was last doubted
        self._doubted_after = DOUBTED
        self._accepted = 0  # without the delay, in a row
        self._ended: deque[Lease] = deque(maxlen=MOST_ENDED)
        self.cases: list[Case] = []
        self._doubt = Doubt()
        self._lowered = (0, 0.0)  # from which limit, and when
        self._rng = rng

    # -- what may be sent

    def held(self, now: float) -> int:
        """Slots that are taken: requests in flight, and streams that ended less than `delay` ago."""
        return len(self.leases) + self._ended_within(self.delay, now)

    def full(self, now: float) -> bool:
        """Whether no slot is free."""
        return self.value is not None and self.held(now) >= self.value and not self._is_doubted(now)

    def _is_doubted(self, now: float) -> bool:
        """Whether a request may be sent into the slot that has just become free, to see whether the delay is needed.

        Only if all other slots are in use: then a refusal says that this one is not free yet.
        """
        if self._raises < self._doubted_after or not self._ended or len(self.leases) + 1 != self.value:
            return False
        freed_at = self._ended[-1].ended_at or 0.0
        return now - freed_at <= self.delay / 4 and not any(one.early and one.undecided for one in self.leases)

    def free(self, now: float) -> int | None:
        """How many slots are free; None if there is no limit."""
        return None if self.value is None else max(0, self.value - self.held(now))

    def opens_at(self) -> float | None:
        """When the next slot that an ended stream still holds becomes free; None if only an end can free one."""
        if self.value is None or len(self.leases) >= self.value:
            return None
        needed = self.value - len(self.leases)  # the youngest ended ones of this number may stay
        return None if needed > len(self._ended) else (self._ended[-needed].ended_at or 0.0) + self.delay

    def probe_due(self, now: float) -> float | None:
        """When one request may be sent above the full limit, given that somebody waits; None if not now. Starts the wait.

        A probe that is sent shortly after the end of a stream and refused proves nothing, so it waits for a moment in which none
        has ended, but not for long: where many run there may be none.
        """
        if self.value is None or self.probe is not None or (self.ceiling is not None and self.value >= self.ceiling):
            return None
        if len(self.leases) != self.value:  # fewer: it would prove nothing; more: an earlier one already runs above it
            return None
        if self.probe_at is None:
            self.probe_at = now + self._probe_wait
        quiet = (self._ended[-1].ended_at or 0.0) + self._late if self._ended else 0.0
        return max(self.probe_at, min(quiet, self.probe_at + PROBE_RETRY))

    # -- what happens

    def send(self, lease: Lease, now: float) -> None:
        """A request is sent."""
        if self.value is not None:
            lease.freed = len(self.leases) + 1 + self._ended_within(self._window, now) > self.value
            lease.early = len(self.leases) < self.value <= self.held(now)
            if lease.probe:
                self.probe = lease
        self.leases[lease] = None

    def head(self, lease: Lease, now: float) -> None:
        """The upstream has accepted it: a response head came that is no refusal."""
        if lease.headed:
            return
        lease.headed = True
        if self._doubt.counts:
            self._doubt.proven(self._proven(lease, now))
        if lease is self.probe:
            self._decide_probe(lease, now)
        elif lease.early:
            self._lower_delay()
        elif lease.first and lease.freed:
            self.delay -= min(DELAY_DOWN, self.delay * DELAY_SHRINKING)

    def end(self, lease: Lease, now: float, *, sent: bool = True) -> None:
        """It is over, well or not; its slot is held for `delay`, but not if nothing of it was `sent`."""
        if lease not in self.leases:
            return
        del self.leases[lease]
        lease.ended_at = now
        if lease is self.probe:
            self._probe_again(now, PROBE_RETRY)
        if sent:
            self._ended.append(lease)
            if lease.headed:
                self._lasts += MEMORY * (now - lease.sent_at - self._lasts)
                if self.delay:
                    self.delay = min(self.delay, self._delay_most)

    def refuse(self, lease: Lease, now: float, *, fresh: bool = True) -> bool:
        """The upstream has refused it because too many run.

        Args:
            fresh: whether it is the first one since something was accepted: only that one says something about the delay.

        Returns:
            Whether a slot that was given back late would explain it.
        """
        if lease not in self.leases:
            return False
        del self.leases[lease]
        lease.refused, lease.ended_at = True, now
        if lease.probe:
            if lease is self.probe:
                self._probe_refused(lease, now)
            return False
        window, delay = self._window, self.delay
        late = self.value is not None and self._ended_within(window, now) > 0
        before = [other for other in self.leases if other.seq < lease.seq]
        before += [other for other in self._ended if other.seq < lease.seq and (other.ended_at or 0.0) > lease.sent_at]
        if lease.early:
            self._raises, self._doubted_after = 0, min(DOUBTED_MOST, 2 * self._doubted_after)  # it is needed
            self._accepted = 0
        elif fresh and late:
            self._raise_delay(lease, len(before))
        ended = sum(lease.sent_at - window <= (other.ended_at or 0.0) <= lease.sent_at for other in self._ended)
        self.cases.append(Case(now + JUDGED_AFTER, before, ended, self._age(len(before), lease.sent_at), delay))
        return late

    def _age(self, running: int, now: float) -> float:
        """Seconds since the end of the stream whose slot must have been late, if that is why a request was refused."""
        missing = (self.value or 0) - running
        return now - (self._ended[-missing].ended_at or 0.0) if 0 < missing <= len(self._ended) else 0.0

    def _raise_delay(self, lease: Lease, running: int) -> None:
        """Perhaps a slot was given back late: hold slots for longer, but only if that would have held this request back.

        Args:
            running: how many others were in flight when it was sent.
        """
        assert self.value is not None
        longer = self.delay + min(DELAY_UP, max(DELAY_FIRST, self.delay * DELAY_GROWTH))
        longer = min(longer, self._delay_most)
        if longer > self.delay and running + self._ended_within(longer, lease.sent_at) >= self.value:
            self.delay = longer
            self._raises += 1

    def _lower_delay(self) -> None:
        """A slot was free before the delay was over. If that is no accident, the refusals that raised it had other reasons."""
        self._accepted += 1
        if self._accepted >= DISPROVED:
            self.delay = self.delay / 2 if self.delay > DELAY_FIRST else 0.0
            self._raises = self._doubted_after = DOUBTED

    def settle(self, now: float) -> float | None:
        """Judge the refusals that are due; returns when the next one is, None if there is none."""
        while self.cases and self.cases[0].due <= now:
            self._judge(self.cases.pop(0), now)
        return self.cases[0].due if self.cases else None

    def _judge(self, case: Case, now: float) -> None:
        """Lower the limit to what is known to have run, unless a slot was only given back late."""
        running = sum(not other.refused for other in case.before)
        seen = running + case.ended
        if not running or (self.value is not None and running >= self.value):
            return
        if self.value is None or seen < self.value:
            self._lower(seen, now)
        elif (lower := self._doubt.add(case, running)) is not None:
            self.delay = min(self.delay, self._doubt.delay)  # they have raised it for nothing
            self._lower(lower, now)

    def _lower(self, value: int, now: float) -> None:
        before, at = self._lowered
        if self.value is not None and (self.value > before or now >= at + LATELY):
            self._lowered = (self.value, now)
        self.value = value if self.ceiling is None else min(value, self.ceiling)
        self.learned = True
        self._doubt = Doubt()
        self._probe_wait = PROBE_WAIT
        self.probe_at = now + PROBE_WAIT

    # -- probes

    def _decide_probe(self, lease: Lease, now: float) -> None:
        """An accepted probe proves that as many can run as do run, however late slots are given back."""
        assert self.value is not None
        proven = self._proven(lease, now)
        if proven <= self.value:  # another stream has ended meanwhile: the probe may have taken its slot
            self._probe_again(now, PROBE_RETRY)
            return
        self.value = proven if self.ceiling is None else min(proven, self.ceiling)
        self.learned = True
        self._probe_wait = PROBE_WAIT
        self._probe_again(now, PROBE_NEXT)

    def _proven(self, lease: Lease, now: float) -> int:
        """How many are known to run at once, now that `lease` has been accepted."""
        return 1 + sum(other.seq < lease.seq and (other.headed or other.sent_at + DECIDED <= now) for other in self.leases)

    def _probe_refused(self, lease: Lease, now: float) -> None:
        late = self._late
        if any((other.ended_at or 0.0) + late > lease.sent_at for other in self._ended):
            self._probe_again(now, PROBE_RETRY)  # perhaps only because a slot was given back late
            return
        self._probe_wait = min(2 * self._probe_wait, self._probe_wait_most(now))
        self._probe_again(now, self._probe_wait * self._rng.uniform(0.8, 1.2))

    def _probe_wait_most(self, now: float) -> float:
        """Seconds in which so many requests are answered that one refused probe does not matter."""
        assert self.value is not None
        before, at = self._lowered
        requests = PROBE_REQUESTS_LOWERED if self.value < before and now < at + LATELY else PROBE_REQUESTS
        return max(PROBE_WAIT, min(PROBE_WAIT_MOST, requests * self._lasts / self.value))

    def _probe_again(self, now: float, wait: float) -> None:
        self.probe, self.probe_at = None, now + wait

    # -- ended streams

    @property
    def _delay_most(self) -> float:
        return min(DELAY_MOST, max(DELAY_UP, DELAY_LASTS * self._lasts))

    @property
    def _late(self) -> float:
        """Seconds after the end of a stream in which its slot may well be taken still."""
        return max(self.delay, DECIDED)

    @property
    def _window(self) -> float:
        return max(RECENT, self.delay + LAG)

    def _ended_within(self, seconds: float, now: float) -> int:
        """How many streams ended less than `seconds` ago; computed as in `opens_at`, so that rounding cannot tell them apart.

        Counted no further than the limit: more cannot hold a slot.
        """
        count = 0
        for other in reversed(self._ended):
            if (other.ended_at or 0.0) + seconds <= now or count == self.value:
                break
            count += 1
        return count

    # -- over a reload, over a restart

    def bound(self, ceiling: int | None) -> None:
        """Another ceiling is configured."""
        self.ceiling = ceiling
        if ceiling is not None:
            self.value = ceiling if self.value is None else min(self.value, ceiling)

    def divide(self, start: int | None, ceiling: int | None, before: int, after: int) -> None:
        """Another number of processes share the account: take what one of `after` may use, where one of `before` had it.

        With fewer processes than before a learned limit stays, and probes find what has become free.

        Args:
            start, ceiling: the new parts of what the account begins with and of what it never exceeds.
        """
        if not self.learned:
            self.value = start
        elif self.value is not None and after > before:
            self.value = max(1, self.value * before // after)
        self.bound(ceiling)

    def dump(self) -> dict[str, float | int | None]:
        """What was learned, for `load`."""
        return {"limit": self.value, "delay": round(self.delay, 3)}

    def load(self, learned: dict[str, float | int | None]) -> None:
        """Continue with what was learned before; what does not make sense is ignored."""
        value, delay = learned.get("limit"), learned.get("delay")
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            self.value = value if self.ceiling is None else min(value, self.ceiling)
            self.learned = True
        if isinstance(delay, int | float) and 0 <= delay <= DELAY_MOST:
            self.delay = float(delay)
            self._raises = self._doubted_after  # it may not be true any more
