"""Which upstreams may serve a request, in which order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.exchange import Kind
from claude_proxy.routing.routes import Route, Routes, Served, never_asked


def names(routes: Routes, kind: Kind = Kind.MESSAGES, model: str | None = "glm-5.3", *of: str | None) -> list[str]:
    return [candidate.upstream for candidate in routes.candidates(kind, model, *of)]


def served(name: str, realm: str = "zai", priority: int = 0, *models: str) -> Served:
    return Served(name, realm, priority, 1, models or ("*",))


def test_within_one_provider_messages_may_go_to_each_upstream_by_priority() -> None:
    routes = Routes([served("late", priority=2), served("a"), served("b"), served("mid", priority=1)])
    found = routes.candidates(Kind.MESSAGES, "glm-5.3")
    assert [(one.upstream, one.rank) for one in found] == [("a", 0), ("b", 0), ("mid", 1), ("late", 2)]


def test_another_provider_is_not_asked_without_a_route() -> None:
    assert names(Routes([served("a"), served("other", "anthropic"), served("b")])) == ["a", "b"]


def test_the_model_decides_which_provider_it_is() -> None:
    routes = Routes([served("a", "zai", 0, "glm-*"), served("c", "anthropic", 0, "claude-*"), served("d", "anthropic", 1)])
    assert names(routes, Kind.MESSAGES, "glm-5.3") == ["a"]
    assert names(routes, Kind.MESSAGES, "claude-opus-5") == ["c", "d"]


def test_a_route_crosses_providers_in_its_order() -> None:
    routes = Routes([served("a"), served("other", "anthropic"), served("b", priority=9)], [Route(("b", "other", "a"))])
    assert [(one.upstream, one.rank) for one in routes.candidates(Kind.MESSAGES, "x")] == [("b", 0), ("other", 1), ("a", 2)]


def test_a_route_skips_upstreams_that_do_not_serve_the_model() -> None:
    routes = Routes([served("a", "zai", 0, "glm-*"), served("b")], [Route(("a", "b"))])
    assert names(routes, Kind.MESSAGES, "claude-opus-5") == ["b"]


@pytest.mark.parametrize(
    ("route", "asked", "holds"),
    [
        (Route(("b",), models=("claude-*",)), ("claude-opus-5", None, None), True),
        (Route(("b",), models=("claude-*",)), ("glm-5.3", None, None), False),
        (Route(("b",), models=("claude-*",)), (None, None, None), False),
        (Route(("b",), classes=("subagent", "workflow")), ("x", "workflow", None), True),
        (Route(("b",), classes=("subagent",)), ("x", "main", None), False),
        (Route(("b",), classes=("subagent",)), ("x", None, None), False),
        (Route(("b",), agent_types=("Expl*",)), ("x", None, "Explore"), True),
        (Route(("b",), agent_types=("Expl*",)), ("x", None, None), False),
        (Route(("b",), models=("x",), classes=("main",)), ("x", "main", "any"), True),
        (Route(("b",), models=("x",), classes=("main",)), ("y", "main", "any"), False),
    ],
)
def test_a_route_is_for_the_requests_that_meet_all_of_its_conditions(route: Route, asked: Any, holds: bool) -> None:
    routes = Routes([served("a"), served("b", "anthropic")], [route])
    assert names(routes, Kind.MESSAGES, *asked) == (["b"] if holds else ["a"])


def test_the_first_route_that_holds_is_used() -> None:
    routes = Routes([served("a"), served("b")], [Route(("b",), models=("glm-*",)), Route(("a",))])
    assert (names(routes), names(routes, Kind.MESSAGES, "x")) == (["b"], ["a"])


def test_count_tokens_goes_where_the_messages_go() -> None:
    routes = Routes([served("a"), served("b", "anthropic")], [Route(("b", "a"), agent_types=("Explore",))])
    for asked in (("glm-5.3", "main", None), ("glm-5.3", "subagent", "Explore")):
        assert routes.candidates(Kind.COUNT_TOKENS, *asked) == routes.candidates(Kind.MESSAGES, *asked)


@pytest.mark.parametrize("kind", [Kind.BATCHES, Kind.OTHER])
def test_everything_else_goes_to_the_first_of_the_file(kind: Kind) -> None:
    routes = Routes([served("a", priority=5), served("b", priority=0)], [Route(("b",))])
    assert names(routes, kind, None) == ["a"]


def test_a_model_that_nobody_serves_has_no_candidate_and_an_unknown_one_has() -> None:
    routes = Routes([served("a", "zai", 0, "glm-*")])
    assert names(routes, Kind.MESSAGES, "gpt-9") == []
    assert names(routes, Kind.MESSAGES, None) == ["a"]


def test_many_different_requests_do_not_fill_the_memory() -> None:
    routes = Routes([served("a")])
    for number in range(3000):
        assert names(routes, Kind.MESSAGES, f"model-{number}") == ["a"]
    assert len(routes._known) <= 1000


UPSTREAMS = st.lists(
    st.builds(
        Served,
        st.sampled_from("abcde"),
        st.sampled_from(["zai", "anthropic"]),
        st.integers(0, 2),
        st.integers(1, 3),
        st.lists(st.sampled_from(["*", "glm-*", "claude-*", "glm-5"]), min_size=1, max_size=2, unique=True).map(tuple),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda one: one.name,
)
MODELS = ["glm-5", "glm-4", "claude-x", "gpt"]


@given(UPSTREAMS)
def test_what_is_said_never_to_be_asked_is_no_candidate_and_nothing_else(upstreams: list[Served]) -> None:
    routes = Routes(upstreams)
    asked = {name for model in MODELS for name in names(routes, Kind.MESSAGES, model)}
    never = {one.name for one, _ in never_asked(upstreams, ())}
    assert never.isdisjoint(asked)


@given(UPSTREAMS, st.sampled_from(MODELS))
def test_without_a_route_all_candidates_serve_the_model_and_are_of_one_provider(upstreams: list[Served], model: str) -> None:
    by_name = {one.name: one for one in upstreams}
    found = [by_name[name] for name in names(Routes(upstreams), Kind.MESSAGES, model)]
    assert all(one.serves(model) for one in found)
    assert len({one.realm for one in found}) <= 1
    assert [one.priority for one in found] == sorted(one.priority for one in found)
    assert bool(found) == any(one.serves(model) for one in upstreams)


def test_who_takes_the_requests_of_another_is_named() -> None:
    first, second = served("a"), served("b", "anthropic")
    assert list(never_asked([first, second], ())) == [(second, first)]
    assert list(never_asked([first, second], [Route(("a", "b"))])) == []
    assert list(never_asked([served("a", "zai", 0, "glm-*"), second], ())) == []
