"""The policies that are compared: ours, ours with one part replaced, and none."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from benchmarks.policy.loads import Call, Client
from benchmarks.policy.world import Account, Clock
from claude_proxy.routing.choosing import LOOK_AGAIN, blocked
from claude_proxy.routing.fair import Fair
from claude_proxy.routing.lane import Lane
from claude_proxy.routing.limit import Lease, Limit
from claude_proxy.routing.plan import Event
from claude_proxy.routing.queue import Queue
from claude_proxy.routing.ticket import Action, Candidates, Grant, Refusal, Refuse, Ticket

WAY = (0.03, 0.15)  # seconds from the proxy to the provider, or back
HEAD = (0.5, 3.0)  # seconds from the provider's acceptance to the response head


class FirstCome(Fair):
    """First come, first served: no classes, no sessions, no kept slot."""

    def pick(self, lane: Lane, now: float) -> tuple[Ticket | None, float]:
        able = [ticket for ticket in lane.waiting if not blocked(ticket, lane, now)]
        return min(able, key=lambda ticket: ticket.seq, default=None), now + LOOK_AGAIN

    def hold(self, ticket: Ticket, lane: Lane, now: float) -> float:
        return 0.0


class Fixed(Limit):
    """A limit that learns nothing."""

    def __init__(self, start: int | None, ceiling: int | None, rng: Random) -> None:
        super().__init__(2, 2, rng)

    def refuse(self, lease: Lease, now: float, *, fresh: bool = True) -> bool:
        self.end(lease, now, sent=False)
        lease.refused = True
        return False


class Aimd(Limit):
    """Additive increase, multiplicative decrease: the usual rule for congestion."""

    def __init__(self, start: int | None, ceiling: int | None, rng: Random) -> None:
        super().__init__(start, ceiling, rng)
        self.window = float(start or 2)

    def head(self, lease: Lease, now: float) -> None:
        if not lease.headed:
            self.window += 1 / self.window
            self.value = int(self.window)
        lease.headed = True

    def refuse(self, lease: Lease, now: float, *, fresh: bool = True) -> bool:
        self.end(lease, now, sent=False)
        lease.refused = True
        if fresh:
            self.window = max(1.0, self.window / 2)
            self.value = int(self.window)
        return False

    def probe_due(self, now: float) -> float | None:
        return None


class Known(Limit):
    """The limit as it really is, and which slots are really free."""

    def __init__(self, account: Account, rng: Random) -> None:
        super().__init__(account.limit, None, rng)
        self.account = account

    def _look(self) -> None:
        self.value = max(1, self.account.limit)

    def full(self, now: float) -> bool:
        self._look()
        undecided = sum(lease.undecided for lease in self.leases)
        return self.account.free - undecided <= 0

    def free(self, now: float) -> int:
        return max(0, self.account.free - sum(lease.undecided for lease in self.leases))

    def opens_at(self) -> float | None:
        return None

    def probe_due(self, now: float) -> float | None:
        return None


class Upstream:
    """Sends calls to accounts, and reports what becomes of them."""

    def __init__(self, clock: Clock, rng: Random) -> None:
        self.clock = clock
        self.rng = rng
        self.sent = 0
        self.refused = 0

    def send(
        self, account: Account, lasts: float, head: Callable[[], None], end: Callable[[], None], no: Callable[[], None]
    ) -> None:
        self.sent += 1
        self.clock.after(self.rng.uniform(*WAY), lambda: self._decide(account, lasts, head, end, no))

    def _decide(
        self, account: Account, lasts: float, head: Callable[[], None], end: Callable[[], None], no: Callable[[], None]
    ) -> None:
        if not account.accept():
            self.refused += 1
            self.clock.after(self.rng.uniform(*WAY), no)
            return
        headed = min(self.rng.uniform(*HEAD), lasts)
        self.clock.after(headed, head)
        self.clock.after(lasts, lambda: self._end(account, end))

    def _end(self, account: Account, end: Callable[[], None]) -> None:
        account.release()
        end()


class Queued:
    """The queue between client and accounts, as the proxy uses it."""

    def __init__(
        self,
        accounts: list[Account],
        upstream: Upstream,
        rng: Random,
        *,
        order: Fair | None = None,
        make_limit: Callable[[Account], Callable[[int | None, int | None, Random], Limit]] | None = None,
    ) -> None:
        self.client: Client
        self.upstream = upstream
        self.clock = upstream.clock
        self.accounts: dict[Lane, Account] = {}
        make = iter(accounts)
        self.queue = Queue(
            rng,
            most=500 * len(accounts),
            order=order,
            make_limit=Limit if make_limit is None else lambda *known: make_limit(next(make))(*known),
        )
        for number, account in enumerate(accounts):
            self.accounts[self.queue.lane(f"account {number}", start=account.scenario.start)] = account
        self.candidates = Candidates([list(self.accounts)])
        self.calls: dict[Ticket, Call] = {}
        self._wake: float | None = None
        if make_limit is not None:
            for account in accounts:
                account.changed.append(self.look_again)

    def learned(self) -> list[tuple[Lane, Account]]:
        return list(self.accounts.items())

    def ask(self, call: Call) -> None:
        ticket = Ticket(
            call.session, call.urgency, self.candidates, self.clock.now + call.patience, identity=lambda: id(call)
        )  # fmt: skip
        self.calls[ticket] = call
        self.carry_out(self.queue.arrive(ticket, self.clock.now))

    def look_again(self) -> None:
        """Only a policy that knows everything is told when a slot becomes free."""
        for lane in self.accounts:
            lane.wake = self.clock.now
        self.carry_out(self.queue.tick(self.clock.now))

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Grant):
                self._send(action)
                continue
            call = self.calls.pop(action.ticket)
            if isinstance(action, Refuse):
                self.client.refused(call, action.retry_after, retry=action.retry)
            else:
                self.client.refused(call, None)
        self._arm()

    def _send(self, grant: Grant) -> None:
        ticket, call, now = grant.ticket, self.calls[grant.ticket], self.clock.now

        def head() -> None:
            call.sent_at = now
            self.carry_out(self.queue.head(ticket, self.clock.now))

        def end() -> None:
            del self.calls[ticket]
            self.carry_out(self.queue.ended(ticket, self.clock.now))
            self.client.answered(call)

        def no() -> None:
            self.carry_out(self.queue.refused(ticket, Refusal(Event.CONCURRENCY), self.clock.now))

        self.upstream.send(self.accounts[grant.lane], call.lasts, head, end, no)

    def _arm(self) -> None:
        wake = self.queue.next_wake(self.clock.now)
        if wake is not None and (self._wake is None or wake < self._wake):
            self._wake = wake
            self.clock.at(wake, lambda: self._fire(wake))

    def _fire(self, wake: float) -> None:
        if self._wake == wake:
            self._wake = None
            self.carry_out(self.queue.tick(self.clock.now))


class Unqueued:
    """No queue: each request is sent as it comes, and each refusal reaches the client."""

    def __init__(self, accounts: list[Account], upstream: Upstream, rng: Random) -> None:
        self.client: Client
        self.accounts = accounts
        self.upstream = upstream
        self.rng = rng

    def learned(self) -> list[tuple[Lane, Account]]:
        return []

    def ask(self, call: Call) -> None:
        now = self.upstream.clock.now

        def head() -> None:
            call.sent_at = now

        account = self.accounts[int(call.session.split()[-1]) % len(self.accounts)]
        self.upstream.send(
            account, call.lasts, head, lambda: self.client.answered(call), lambda: self.client.refused(call, None)
        )  # fmt: skip


Policy = Queued | Unqueued
Make = Callable[[list[Account], Upstream, Random], Policy]

POLICIES: dict[str, Make] = {
    "the rules": Queued,
    "first come, first served": lambda *known: Queued(*known, order=FirstCome()),
    "limit fixed at 2": lambda *known: Queued(*known, make_limit=lambda _: Fixed),
    "AIMD": lambda *known: Queued(*known, make_limit=lambda _: Aimd),
    "no queue": Unqueued,
    "limit known": lambda *known: Queued(*known, make_limit=lambda account: lambda *_: Known(account, known[2])),
}
