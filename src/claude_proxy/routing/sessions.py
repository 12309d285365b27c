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
        ticket.whose, ticket.since = session, now
        if not session.waiting and not session.running:
            session.lift(ticket.candidates.lanes)
        return session

    def _sweep(self, now: float) -> None:
        self._swept_at = now
        for name, one in list(self._by_name.items()):
            if not (one.waiting or one.running) and one.used_at + IDLE < now:
                del self._by_name[name]


def part(whole: int | None, parts: int) -> int | None:
    """One of so many equal parts of a limit, at least 1; None of none."""
    return None if whole is None else max(1, whole // parts)


class Lanes:
    """The accounts by name, and what was learned about accounts that are not there yet.

    Attributes:
        parts: how many processes share each account; the limits here are this one's part.
    """

    __slots__ = ("_learned", "_make_limit", "_rng", "by_name", "parts")

    def __init__(self, rng: Random, make_limit: MakeLimit) -> None:
        self.by_name: dict[str, Lane] = {}
        self.parts = 1
        self._learned: dict[str, Learned] = {}
        self._rng = rng
        self._make_limit = make_limit

    def get(self, name: str, start: int | None, ceiling: int | None, weight: float) -> Lane:
        """The account `name`: a new one, or the one that there is, with its settings changed."""
        bound = part(ceiling, self.parts)
        lane = self.by_name.get(name)
        if lane is not None:
            lane.weight, lane.draining = max(weight, 1e-6), False
            lane.limit.bound(bound)
            lane.closed = False
        else:
            first = part(start, self.parts)
            lane = Lane(name, self._rng, start=first, ceiling=bound, weight=weight, make_limit=self._make_limit)
            self._teach(lane, self._learned.pop(name, {}))
            self.by_name[name] = lane
        lane.whole = (start, ceiling)
        return lane

    def divide(self, parts: int) -> None:
        """So many processes share the accounts from now on."""
        before, self.parts = self.parts, parts
        for lane in self.by_name.values():
            start, ceiling = lane.whole
            lane.limit.divide(part(start, parts), part(ceiling, parts), before, parts)

    def forget(self, lane: Lane) -> bool:
        """Forget an account unless it is in use."""
        if lane.waiting or lane.in_flight:
            return False
        if self.by_name.get(lane.name) is lane:
            del self.by_name[lane.name]
        return True

    def dump(self) -> dict[str, Learned]:
        """What was learned, by name: the limits of the whole accounts."""
        return self._learned | {name: self._told(lane) for name, lane in self.by_name.items()}

    def load(self, learned: Mapping[str, Mapping[str, float | int | None]]) -> None:
        """Continue with what `dump` returned."""
        self._learned = {name: dict(values) for name, values in learned.items()}
        for name in self.by_name.keys() & self._learned.keys():
            self._teach(self.by_name[name], self._learned.pop(name))

    def _teach(self, lane: Lane, learned: Learned) -> None:
        limit = learned.get("limit")
        if isinstance(limit, int) and limit >= 1:  # the rest is checked in `Limit.load`
            learned = learned | {"limit": limit if limit is True else part(limit, self.parts)}
        lane.limit.load(learned)

    def _told(self, lane: Lane) -> Learned:
        told, (start, ceiling) = lane.limit.dump(), lane.whole
        limit = told.get("limit")
        if limit is not None and self.parts > 1:
            whole = int(limit) * self.parts if lane.limit.learned or start is None else start
            told["limit"] = whole if ceiling is None else min(whole, ceiling)
        return told
