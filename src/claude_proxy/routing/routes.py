"""Which upstreams may serve a request, in which order. Pure: settings and facts in, names out.

Only `POST /v1/messages` may go to any of several upstreams. Inside one provider it moves freely; to another provider only by a
route, because thinking signatures and model names do not transfer. `count_tokens` is asked where the session's messages go.
Everything else (batches, files, models) belongs to the account that made it, and always goes to the first upstream of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from claude_proxy.exchange import Kind
from claude_proxy.patterns import any_matches, covers, overlap

_REMEMBERED = 1000  # different requests (model, class, agent type) whose order is kept


@dataclass(frozen=True, slots=True)
class Served:
    """What the choice needs to know about an upstream.

    Attributes:
        realm: upstreams of the same realm (provider) understand each other's models and thinking signatures.
        priority: lower ones are asked first.
        weight: share of new sessions among those of the same rank.
        models: patterns of the models it serves, as clients call them.
    """

    name: str
    realm: str = ""
    priority: int = 0
    weight: int = 1
    models: tuple[str, ...] = ("*",)

    def serves(self, model: str | None) -> bool:
        """Whether it serves `model`; a request that names none is for the upstream to judge."""
        return model is None or any_matches(self.models, model)


@dataclass(frozen=True, slots=True)
class Route:
    """The upstreams for one kind of requests, in order. An empty condition holds for every request."""

    upstreams: tuple[str, ...]
    models: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    agent_types: tuple[str, ...] = ()

    def holds(self, model: str | None, request_class: str | None, agent_type: str | None) -> bool:
        """Whether the route is for such a request."""
        return (
            (not self.models or (model is not None and any_matches(self.models, model)))
            and (not self.classes or request_class in self.classes)
            and (not self.agent_types or (agent_type is not None and any_matches(self.agent_types, agent_type)))
        )


class Candidate(NamedTuple):
    """An upstream that may serve a request.

    Attributes:
        rank: those of a lower rank are asked first; among equals, sessions are spread by weight.
    """

    upstream: str
    rank: int
    weight: int


class Routes:
    """The rules of one configuration.

    Args:
        upstreams: in the file's order; at least one.
        routes: in the file's order; the first that holds is used.
    """

    def __init__(self, upstreams: Sequence[Served], routes: Sequence[Route] = ()) -> None:
        self._by_name = {upstream.name: upstream for upstream in upstreams}
        self._ordered = sorted(upstreams, key=lambda one: one.priority)  # stable: the file's order among equals
        self._routes = tuple(routes)
        self._first = (Candidate(upstreams[0].name, 0, upstreams[0].weight),)
        self._known: dict[tuple[str | None, str | None, str | None], tuple[Candidate, ...]] = {}

    def candidates(
        self, kind: Kind, model: str | None = None, request_class: str | None = None, agent_type: str | None = None
    ) -> tuple[Candidate, ...]:
        """Return the upstreams that may serve a request, in the order of their ranks; none if no upstream has the model.

        Args:
            model: as the client asked for it.
            request_class: x-claude-code-request-class, if the client sent it.
            agent_type: x-claude-code-agent-type.
        """
        if kind is not Kind.MESSAGES and kind is not Kind.COUNT_TOKENS:
            return self._first
        asked = (model, request_class, agent_type)
        found = self._known.get(asked)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = self._known[asked] = tuple(self._choose(*asked))
        return found

    def _choose(self, model: str | None, request_class: str | None, agent_type: str | None) -> Iterator[Candidate]:
        route = next((one for one in self._routes if one.holds(model, request_class, agent_type)), None)
        if route is not None:
            named = [self._by_name[name] for name in route.upstreams]
            serving = [one for one in named if one.serves(model)]
            yield from (Candidate(one.name, rank, one.weight) for rank, one in enumerate(serving))
            return
        serving = [one for one in self._ordered if one.serves(model)]
        priorities = sorted({one.priority for one in serving})
        for one in serving:
            if one.realm == serving[0].realm:
                yield Candidate(one.name, priorities.index(one.priority), one.weight)


def never_asked(upstreams: Sequence[Served], routes: Sequence[Route]) -> Iterator[tuple[Served, Served]]:
    """Find upstreams that no request for messages can reach, each with the one that is asked in its place.

    An upstream of another provider that comes first and serves the same models takes all of them, unless a route says otherwise.
    """
    by_route = {name for route in routes for name in route.upstreams}
    ordered = sorted(upstreams, key=lambda one: one.priority)
    for one in ordered:
        if one.name not in by_route:
            taken = [_taken_by(pattern, one.realm, ordered) for pattern in one.models]
            if (other := taken[0]) is not None and None not in taken:
                yield one, other


def _taken_by(pattern: str, realm: str, ordered: Sequence[Served]) -> Served | None:
    """Return the upstream of another realm that gets every request for `pattern`."""
    for other in ordered:
        if other.realm == realm and any(overlap(own, pattern) for own in other.models):
            return None
        if other.realm != realm and any(covers(own, pattern) for own in other.models):
            return other
    return None
