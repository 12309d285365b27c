"""Checks that need all tables of a file: names, and patterns that can never match.

A rule that silently never applies looks like one that works, so it is an error here, with a sentence for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from claude_proxy.patterns import covers, overlap

if TYPE_CHECKING:
    from claude_proxy.settings.tables import RouteTable, UpstreamTable


def problems(upstreams: Sequence[UpstreamTable], routes: Sequence[RouteTable]) -> Iterator[str]:
    """Yield one sentence per problem."""
    yield from _repeated([upstream.name for upstream in upstreams], "[[upstream]]")
    for upstream in upstreams:
        yield from _repeated([account.name for account in upstream.account], f'[[upstream.account]] of "{upstream.name}"')
        yield from _map_problems(upstream)
    yield from _without_account(upstreams)
    for number, route in enumerate(routes, 1):
        yield from _route_problems(number, route, upstreams)
        yield from _hidden_route(number, route, routes)


def _repeated(names: Sequence[str], where: str) -> Iterator[str]:
    for name in dict.fromkeys(names):
        if (count := names.count(name)) > 1:
            yield f'{where}: {"two" if count == 2 else count} are named "{name}"; names must be unique.'


def _without_account(upstreams: Sequence[UpstreamTable]) -> Iterator[str]:
    """A client's own key may go to one upstream only, so keys of clients and several upstreams exclude each other."""
    if len(upstreams) < 2:
        return
    for upstream in upstreams:
        if not upstream.account:
            yield (
                f'[[upstream]] "{upstream.name}": there is no [[upstream.account]]. With several upstreams each needs one, since '
                "a client's own key must not be sent to more than one of them."
            )


def _map_problems(upstream: UpstreamTable) -> Iterator[str]:
    where = f'[[upstream]] "{upstream.name}": map'
    patterns = [pattern for pattern, _ in upstream.map]
    for at, pattern in enumerate(patterns):
        wider = next((earlier for earlier in patterns[:at] if covers(earlier, pattern)), None)
        if wider is not None:
            yield f'{where}: "{pattern}" is never used, since "{wider}" above it matches the same names. Put the narrower first.'
        elif not _meet((pattern,), upstream.models):
            yield f'{where}: "{pattern}" matches nothing, since models has no such name: {_listed(upstream.models)}.'


def _route_problems(number: int, route: RouteTable, upstreams: Sequence[UpstreamTable]) -> Iterator[str]:
    where = f"[[route]] {number}"
    for name in dict.fromkeys(route.upstreams):
        if route.upstreams.count(name) > 1:
            yield f'{where}: upstreams names "{name}" twice.'
        upstream = next((one for one in upstreams if one.name == name), None)
        if upstream is None:
            yield f"{where}: upstreams names {name!r}, but no [[upstream]] has that name."
        elif route.match.model and not _meet(route.match.model, upstream.models):
            yield (
                f'{where}: upstreams names "{name}", which serves no model that the route is for: its models are '
                f"{_listed(upstream.models)}."
            )
    served = [pattern for one in upstreams if one.name in route.upstreams for pattern in one.models]
    for pattern in route.match.model:
        if served and not _meet((pattern,), served):
            yield f'{where}: model "{pattern}" matches nothing that its upstreams serve: {_listed(served)}.'


def _hidden_route(number: int, route: RouteTable, routes: Sequence[RouteTable]) -> Iterator[str]:
    for earlier, other in enumerate(routes[: number - 1], 1):
        if (
            _all_covered(route.match.model, other.match.model)
            and _all_covered(route.match.agent_type, other.match.agent_type)
            and _all_covered(route.match.request_class, other.match.request_class)
        ):
            yield f"[[route]] {number} is never used, since [[route]] {earlier} above it matches the same requests first."
            return


def _all_covered(patterns: Sequence[str], by: Sequence[str]) -> bool:
    """Whether `by` matches whatever `patterns` match; without any, both match everything."""
    if not by:
        return True
    return bool(patterns) and all(any(covers(wide, pattern) for wide in by) for pattern in patterns)


def _meet(patterns: Sequence[str], others: Sequence[str]) -> bool:
    return any(overlap(one, other) for one in patterns for other in others)


def _listed(patterns: Sequence[str]) -> str:
    return ", ".join(f'"{pattern}"' for pattern in dict.fromkeys(patterns))
