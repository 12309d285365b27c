"""The queue on the path: a request waits here for its turn, and the results of its attempts are reported back.

`routing/queue.py` decides, without a clock or I/O; this module gives it a clock and a timer, and does the waiting. Only
`POST /v1/messages` takes turns, because it is what the upstreams limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import TYPE_CHECKING, cast

from claude_proxy.errors import NotFound, NoTurn
from claude_proxy.exchange import ABORTED, CANCELLED, CLIENT_STALLED, COUNT_TOKENS, CUT, STALLED, UNFINISHED
from claude_proxy.protocol.shape import Shape, read_shape
from claude_proxy.proxy.accounts import Account
from claude_proxy.proxy.lessons import failure_in, is_good, refusal_in
from claude_proxy.proxy.refusing import no_turn
from claude_proxy.routing.classes import classify, patience
from claude_proxy.routing.lane import Lane
from claude_proxy.routing.passing import Passing
from claude_proxy.routing.queue import Queue
from claude_proxy.routing.snapshot import places
from claude_proxy.routing.ticket import Action, Candidates, Pass, Reason, Refuse, Ticket

if TYPE_CHECKING:
    from claude_proxy.proxy.attempt import Result
    from claude_proxy.proxy.call import Call
    from claude_proxy.proxy.config import Config

MOST_CHOICES = 2000  # combinations of accounts that are remembered
PLACES_KEPT = 0.2  # seconds for which the places in the queue are shown before they are found again
_LEFT = (CANCELLED, CLIENT_STALLED, ABORTED)
_BROKEN = (CUT, STALLED, UNFINISHED)


class Choice(Candidates):
    """The accounts that a request may use, and the queue's name for each."""

    __slots__ = ("accounts",)

    def __init__(self, tiers: Iterable[Iterable[tuple[Lane, Account]]]) -> None:
        pairs = [list(tier) for tier in tiers]
        self.accounts = {lane: account for tier in pairs for lane, account in tier}
        super().__init__([lane for lane, _ in tier] for tier in pairs)


class Turn(Ticket):
    """One request in the queue.

    Attributes:
        decided: the queue's decision about it, until it is acted on; None if there is none.
        waiter: done once `decided` is set.
    """

    __slots__ = ("decided", "waiter")

    candidates: Choice
    decided: Action | None
    waiter: asyncio.Future[None] | None


class Turns:
    """The queue of one process.

    Args:
        workers: how many processes share the accounts' limits, at first.
        rng: for jitter and probes.
        wall: Unix seconds.
    """

    def __init__(self, *, workers: int = 1, rng: Random | None = None, wall: Callable[[], float] = time.time) -> None:
        self.queue = Queue(rng or Random())  # noqa: S311 - spreads load, protects nothing
        self.queue.divide(workers, 0.0)
        self._passing = Passing(self.queue)
        self._wall = wall
        self._choices: dict[object, Choice] = {}
        self._waiting: dict[Turn, Call] = {}
        self._passed: dict[Call, Lane] = {}  # those in flight without a turn, in the order in which they came
        self._places: dict[Ticket, int] = {}
        self._placed_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when the timer fires; uvloop's handle does not tell if that time has passed

    # -- what the path calls

    async def take(self, call: Call) -> None:
        """Wait until the request may be sent, and set `call.account`. A request that still has its turn keeps it.

        Raises:
            NoTurn: it does not get one in time.
            NotFound: no upstream serves the model.
        """
        turn = call.turn
        if turn is None:
            if call.passed is not None:
                return
            choice, now = self._choice(call.config.tiers_for(call)), call.loop.time()
            if choice.only is not None and (passed := self._passing.let_pass(choice.only, now)) is not None:
                call.passed = choice, passed
                self._passed[call] = choice.only
                call.use(choice.accounts[choice.only])
                return
            turn = call.turn = self._turn(call, choice)
            self._carry(self.queue.arrive(turn, now), call.loop)
        if turn.lease is not None and turn.decided is None:
            return
        if turn.decided is None:
            await self._wait(call, turn)
        decided, turn.decided = turn.decided, None
        if isinstance(decided, Refuse):
            accounts = self._accounts(turn, decided)
            call.exchange.upstream, call.exchange.account = accounts[0].upstream.name, accounts[0].name
            raise no_turn(decided, accounts, call.settings.timezone, self._wall() - call.loop.time())
        assert turn.lane is not None
        call.use(turn.candidates.accounts[turn.lane])

    def settle(self, call: Call, result: Result) -> bool:
        """Report how an attempt has ended. Returns whether to try again, which begins with `take`."""
        now = call.loop.time()
        if call.passed is not None:
            if is_good(result):
                self._carry_any(self._passing.head(call.passed[1], _prompt(call), now), call.loop)
                return False
            self._adopt(call)
        turn = call.turn
        if turn is None or turn.lease is None:
            return False
        if result.error is not None and result.error.side == "proxy":  # no upstream was asked
            self._carry(self.queue.leave(turn, now), call.loop)
            return False
        turn.can_resend = call.request.kept == call.client.size  # all that has been read is still there
        self._carry_any(self._learn(call, turn, result, now), call.loop)
        if turn.lease is not None and turn.decided is None:
            return False  # it was answered
        if isinstance(turn.decided, Pass):
            turn.decided = None
            return False
        turn.can_resend = _is_kept(call)
        return True

    def _learn(self, call: Call, turn: Turn, result: Result, now: float) -> list[Action]:
        if is_good(result):
            return self.queue.head(turn, now)
        refusal = refusal_in(call, result, self._wall())
        if refusal is not None:
            for other in [other for other, lane in self._passed.items() if lane is turn.lane]:
                self._adopt(other)
            return self.queue.refused(turn, refusal, now)
        if (event := failure_in(result)) is not None:
            return self.queue.failed(turn, event, now)
        return self.queue.head(turn, now)

    def end(self, call: Call) -> None:
        """The exchange has ended, in whatever way: give back its turn, if it has one."""
        outcome, now = call.exchange.outcome, call.loop.time()
        if call.passed is not None:
            passed, headed = call.passed[1], call.passed[1].lease.headed
            if not (headed and outcome in _BROKEN):
                call.passed = None
                del self._passed[call]
                self._carry_any(self._passing.over(passed, now, ok=headed and outcome not in _LEFT), call.loop)
                return
            self._adopt(call)
        turn = call.turn
        if turn is None:
            return
        call.turn = turn.identity = None  # a reference cycle otherwise
        if turn.waiter is not None:
            turn.waiter.cancel()
        if outcome in _LEFT or (turn.lease is not None and not turn.lease.headed):
            actions = self.queue.leave(turn, now)
        else:
            actions = self.queue.ended(turn, now, ok=outcome not in _BROKEN)
        self._carry_any(actions, call.loop)

    def home(self, call: Call) -> Account:
        """The account for a request that takes no turn: for count_tokens its session's, otherwise the first."""
        tiers = call.config.tiers_for(call)
        session = self.queue.sessions.find(_session(call))
        if call.request.target.kind is COUNT_TOKENS and session is not None and session.lane is not None:
            choice = self._choice(tiers)
            return choice.accounts.get(session.lane) or tiers[0][0]
        return tiers[0][0]

    # -- beside the path

    def follow(self, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        """A reload has put `config` in force: removed accounts finish what they have, and requests that wait for them move."""
        self._choices.clear()
        for turn, call in list(self._waiting.items()):
            if turn.decided is None and any(account.removed for account in turn.candidates.accounts.values()):
                with contextlib.suppress(NotFound):  # it is refused below, together with its account
                    self._carry(self.queue.move(turn, self._choice(config.tiers_for(call)), loop.time()), loop)
        held = {account.id for account in config.accounts}
        upstreams = {upstream.name for upstream in config.upstreams if not upstream.accounts}
        for lane in list(self.queue.lanes.values()):
            if lane.name not in held and lane.name.partition("/")[0] not in upstreams:
                self._carry(self.queue.drain(lane, loop.time()), loop)
            elif lane.out_until:  # the file may have been changed because of that
                self._carry(self.queue.readmit(lane, loop.time()), loop)

    def share(self, workers: int, loop: asyncio.AbstractEventLoop) -> None:
        """So many processes share the accounts' limits from now on."""
        self._carry(self.queue.divide(workers, loop.time()), loop)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- inside

    def _turn(self, call: Call, choice: Choice) -> Turn:
        fields = call.request.fields
        turn = Turn(
            _session(call),
            classify(fields, lambda: _shape(call)),
            choice,
            call.exchange.started + patience(fields, call.settings.queue_wait),
            can_resend=_is_kept(call),
            identity=lambda: _identity(call),
            prompt=_prompt(call),
        )
        turn.decided = turn.waiter = None
        return turn

    def _adopt(self, call: Call) -> None:
        """A request that had passed needs a turn after all."""
        assert call.passed is not None
        choice, passed = call.passed
        turn = self._turn(call, choice)
        call.turn, call.passed = turn, None
        del self._passed[call]
        self._passing.adopt(turn, passed)

    def _choice(self, tiers: tuple[tuple[Account, ...], ...]) -> Choice:
        choice = self._choices.get(tiers)
        if choice is None:
            if len(self._choices) >= MOST_CHOICES:
                self._forget()
            choice = self._choices[tiers] = Choice([[(self._lane(one), one) for one in tier] for tier in tiers])
        return choice

    def _lane(self, account: Account) -> Lane:
        start, ceiling, weight = account.starting_limit, account.max_concurrency, account.upstream.served.weight
        return self.queue.lane(account.id, start=start, ceiling=ceiling, weight=weight)

    def _forget(self) -> None:
        """There were too many clients: forget those without a running or waiting request."""
        self._choices.clear()
        for lane in list(self.queue.lanes.values()):
            self.queue.discard(lane)

    async def _wait(self, call: Call, turn: Turn) -> None:
        loop, start = call.loop, call.loop.time()
        turn.waiter = loop.create_future()
        self._waiting[turn] = call
        call.exchange.place = lambda: self._place(turn, loop.time())
        self._arm(loop)
        try:
            await turn.waiter
        finally:
            turn.waiter = call.exchange.place = None
            del self._waiting[turn]
            self._places.pop(turn, None)
            call.exchange.queue_wait = (call.exchange.queue_wait or 0.0) + loop.time() - start

    def _place(self, turn: Turn, now: float) -> int | None:
        """The place of a waiting request. All are found at once, because a viewer of one shows all."""
        if now > self._placed_at + PLACES_KEPT or turn not in self._places:
            self._places, self._placed_at = places(self.queue, now), now
        return self._places.get(turn)

    def _carry_any(self, actions: Sequence[Action], loop: asyncio.AbstractEventLoop) -> None:
        if actions or self._timer is not None or self.queue.watched:
            self._carry(actions, loop)

    def _carry(self, actions: Iterable[Action], loop: asyncio.AbstractEventLoop) -> None:
        for action in actions:
            turn = cast("Turn", action.ticket)
            turn.decided = action
            if turn.waiter is not None and not turn.waiter.done():
                turn.waiter.set_result(None)
        if self._timer is not None or self.queue.watched:
            self._arm(loop)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        wake = self.queue.next_wake(loop.time())
        if self._timer is not None:
            if wake == self._due:
                return
            self._timer.cancel()
            self._timer = None
        if wake is not None:
            self._due, self._timer = wake, loop.call_at(wake, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._carry(self.queue.tick(loop.time()), loop)
        self._arm(loop)

    def _accounts(self, turn: Turn, refused: Refuse) -> tuple[Account, ...]:
        """The accounts that a refusal of ours is about."""
        accounts = turn.candidates.accounts
        if refused.reason is Reason.OUT or turn.lane not in accounts:  # a reload may have moved it since its last attempt
            return tuple(accounts.values())
        return (accounts[turn.lane],)


def _session(call: Call) -> object:
    """Whose request it is: the queue is fair among these."""
    exchange = call.exchange
    return exchange.session or exchange.key or exchange.client


def _prompt(call: Call) -> tuple[str | None, str | None]:
    """What an overload refusal may depend on besides the load: the kind of system prompt."""
    return call.exchange.request_class, call.exchange.user_agent


def _shape(call: Call) -> Shape | None:
    return read_shape(call.request.whole()) if _is_kept(call) else None


def _is_kept(call: Call) -> bool:
    """Whether the whole body is there. If not, the next attempt reads more of it, and may be the last one possible."""
    return call.client.done and call.request.kept == call.client.size


def _identity(call: Call) -> tuple[object, ...]:
    """What this request has in common with the same one sent again by its client."""
    exchange, request = call.exchange, call.request
    digest = hashlib.blake2b(request.whole(), digest_size=16).digest()
    return (_session(call), exchange.agent, request.fields.get(b"content-length"), digest)


__all__ = ["NoTurn", "Turn", "Turns"]
