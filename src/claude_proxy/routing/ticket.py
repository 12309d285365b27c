"""A request that wants to be sent, and what the queue decides about it. Pure data."""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from claude_proxy.routing.classes import Urgency
from claude_proxy.routing.plan import Event
from claude_proxy.routing.recovery import Avoided

if TYPE_CHECKING:
    from claude_proxy.routing.lane import Lane
    from claude_proxy.routing.limit import Lease


class Candidates:
    """The accounts that a request may use. Made once per route, not per request.

    Args:
        tiers: accounts of equal preference stand together; an earlier tier is asked first.
    """

    __slots__ = ("lanes", "members", "only", "tiers")

    def __init__(self, tiers: Iterable[Iterable[Lane]]) -> None:
        self.tiers = tuple(tuple(tier) for tier in tiers)
        self.lanes = tuple(dict.fromkeys(lane for tier in self.tiers for lane in tier))
        self.members = frozenset(self.lanes)
        self.only = self.lanes[0] if len(self.lanes) == 1 else None
        for lane in self.lanes:
            lane.shared = lane.shared or self.only is None
        if not self.lanes:
            raise ValueError("a request needs at least one account")


class Session:
    """What the queue knows about one session of a client.

    Attributes:
        virtual: slot-seconds that it has used, for the order among sessions.
        lane: the account that has its prompt cache; `warm` once that account has accepted a request.
        used_at: when it was last served there.
        waiting, running: its requests.
    """

    __slots__ = ("lane", "running", "used_at", "virtual", "waiting", "warm")

    def __init__(self) -> None:
        self.virtual = 0.0
        self.lane: Lane | None = None
        self.warm = False
        self.used_at = 0.0
        self.waiting = 0
        self.running = 0

    def lift(self, lanes: Sequence[Lane]) -> None:
        """It comes, or comes back, and gets no credit for the time in which it asked for nothing."""
        lane = self.lane or (lanes[0] if len(lanes) == 1 else None)
        served = lane.virtual if lane is not None else min(lane.virtual for lane in lanes)
        if served > self.virtual:
            self.virtual = served


_NONE: dict[Lane, Avoided] = {}  # of a request that has not failed anywhere; never changed


class State(enum.Enum):
    """Where a ticket is."""

    NEW = "new"
    WAITING = "waiting"
    SENT = "sent"
    DONE = "done"


NEW, WAITING, SENT, DONE = State  # see `exchange.py`


class Ticket:
    """One request, from its arrival to its end; the queue sets everything but the arguments.

    Args:
        session: whose request it is: what must be served fairly. Without a session id, something that tells clients apart.
        urgency: its class.
        candidates: the accounts that it may use.
        deadline: when it must have been granted at the latest (absolute; see `classes.patience`).
        can_resend: whether its body is kept, so that it may be sent again after a refusal.
        identity: computes what a request that is sent again has in common with this one (session, agent, hash of the body).
            Called at most once, only if the request has to wait. None: no place is kept.
        prompt: what requests with the same kind of system prompt have in common; None if that is unknown.

    Attributes:
        seq: its seniority; the lowest is the oldest.
        since: when it, or the request whose place it continues, arrived.
        lease: the right to send it, while it has one; `lane` is where.
        home: the account that its session was bound to when it began to wait.
        refusals: how often it was refused and came back.
        not_before: when it may be sent again.
        avoided: accounts that it failed at, and how long it goes elsewhere.
        tries: how often it ended with each event at each account.
    """

    __slots__ = (
        "avoided", "can_resend", "candidates", "deadline", "home", "identity", "key", "lane", "lease", "not_before", "prompt",
        "refusals", "seq", "session", "since", "state", "tries", "urgency", "whose",
    )  # fmt: skip

    def __init__(
        self,
        session: Hashable,
        urgency: Urgency,
        candidates: Candidates,
        deadline: float,
        *,
        can_resend: bool = True,
        identity: Callable[[], Hashable] | None = None,
        prompt: Hashable = None,
    ) -> None:
        self.session = session
        self.urgency = urgency
        self.candidates = candidates
        self.deadline = deadline
        self.can_resend = can_resend
        self.identity = identity
        self.prompt = prompt
        self.state = NEW
        self.seq = 0
        self.since = 0.0
        self.key: Hashable = None
        self.lease: Lease | None = None
        self.lane: Lane | None = None
        self.home: Lane | None = None
        self.whose: Session | None = None
        self.refusals = 0
        self.not_before = 0.0
        self.avoided: dict[Lane, Avoided] = _NONE
        self.tries: dict[tuple[Lane, Event], int] | None = None

    def avoids(self, lane: Lane, now: float) -> bool:
        """Whether it goes elsewhere because it failed at `lane`."""
        avoided = self.avoided.get(lane)
        return avoided is not None and avoided.holds(lane.recovery, now)


class Reason(enum.Enum):
    """Why we refuse a request ourselves."""

    DEADLINE = "deadline"  # it has waited as long as its client would
    FULL = "full"  # too many wait
    OUT = "out"  # no account that it may use is in rotation before its deadline
    GONE = "gone"  # the accounts that it may use were removed from the configuration


class Grant(NamedTuple):
    """Send it now, with the account of `lane`."""

    ticket: Ticket
    lane: Lane
    probe: bool = False


class Refuse(NamedTuple):
    """Answer it with our own refusal; it is done.

    Attributes:
        retry_after: seconds, for the header; None to send none.
        retry: whether the client may try again; if not, `x-should-retry: false` is sent.
        until: when the account is back (Reason.OUT), as the clock of `now`; None if that is unknown.
        kept: its place is kept for a while.
    """

    ticket: Ticket
    reason: Reason
    retry_after: float | None = None
    retry: bool = True
    until: float | None = None
    kept: bool = False


class Pass(NamedTuple):
    """What the upstream said of the last attempt goes to the client; the request is done.

    Attributes:
        retry: whether the client should try again; None if we do not know better than the upstream.
    """

    ticket: Ticket
    event: Event
    retry: bool | None = None


Action = Grant | Refuse | Pass


@dataclass(frozen=True, slots=True)
class Refusal:
    """An explicit refusal by an upstream.

    Attributes:
        event: CONCURRENCY, RATE, OVERLOAD or STOP.
        retry_after: seconds, as the upstream stated; None if it did not.
        until: when a used-up window is back, as the clock of `now`; None if that is unknown. Only for STOP.
        reason: for people: a code or a word; no secrets.
    """

    event: Event
    retry_after: float | None = None
    until: float | None = None
    reason: str = ""
