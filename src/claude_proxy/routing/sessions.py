"""The sessions that share the accounts, and the accounts themselves, by name. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from random import Random

from claude_proxy.routing.lane import Lane, MakeLimit
from claude_proxy.routing.ticket import Session, Ticket

IDLE = 300.0  # seconds after which a session may be forgotten
SWEEP = 30.0  # seconds between two looks for such sessions
MOST_SESSIONS = 1000  # above it, idle ones are forgotten

Learned = dict[str, float | int | None]


class Sessions:
    """What is known about sessions, by `Ticket.session`."""

    __slots__ = ("_by_name", "_swept_at")

    def __init__(self) -> None:
        self._by_name: dict[Hashable, Session] = {}
        self._swept_at = 0.0

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, name: Hashable) -> Session | None:
        """The session of that name, if it is known."""
        return self._by_name.get(name)

    def join(self, ticket: Ticket, now: float) -> Session:
        """The session of a request that has come."""
        session = self._by_name.get(ticket.session)
        if session is None:
            if len(self._by_name) >= MOST_SESSIONS and now >= self._swept_at + SWEEP:
                self._sweep(now)
            session = self._by_name[ticket.session] = Session()
        ticket.whose = session
        if not session.waiting and not session.running:
            session.lift(ticket.candidates.lanes)
        return session

    def _sweep(self, now: float) -> None:
        self._swept_at = now
        for name, one in list(self._by_name.items()):
            if not (one.waiting or one.running) and one.used_at + IDLE < now:
                del self._by_name[name]


class Lanes:
    """The accounts by name, and what was learned about accounts that are not there yet."""

    __slots__ = ("_learned", "_make_limit", "_rng", "by_name")

    def __init__(self, rng: Random, make_limit: MakeLimit) -> None:
        self.by_name: dict[str, Lane] = {}
        self._learned: dict[str, Learned] = {}
        self._rng = rng
        self._make_limit = make_limit

    def get(self, name: str, start: int | None, ceiling: int | None, weight: float) -> Lane:
        """The account `name`: a new one, or the one that there is, with its settings changed."""
        lane = self.by_name.get(name)
        if lane is not None:
            lane.weight, lane.draining = max(weight, 1e-6), False
            lane.limit.bound(ceiling)
            return lane
        lane = Lane(name, self._rng, start=start, ceiling=ceiling, weight=weight, make_limit=self._make_limit)
        lane.limit.load(self._learned.pop(name, {}))
        self.by_name[name] = lane
        return lane

    def forget(self, lane: Lane) -> bool:
        """Forget an account unless it is in use."""
        if lane.waiting or lane.in_flight:
            return False
        if self.by_name.get(lane.name) is lane:
            del self.by_name[lane.name]
        return True

    def dump(self) -> dict[str, Learned]:
        """What was learned, by name."""
        return self._learned | {name: lane.limit.dump() for name, lane in self.by_name.items()}

    def load(self, learned: Mapping[str, Mapping[str, float | int | None]]) -> None:
        """Continue with what `dump` returned."""
        self._learned = {name: dict(values) for name, values in learned.items()}
        for name in self.by_name.keys() & self._learned.keys():
            self.by_name[name].limit.load(self._learned.pop(name))
