"""The geometry of waterfalls and ladders, and the tree of agents. Pure."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.ledger.answers import rfc3339
from claude_proxy.web.pages.agents import DEEPEST, tree
from claude_proxy.web.pages.ladder import ladder
from claude_proxy.web.pages.timeline import LONG, PAUSE, WIDTH, Segment, bar, began, ended, phases, stretches

START = 1_790_000_000_000
Item = dict[str, Any]


def item(at: int = 0, duration: int = 1000, **values: Any) -> Item:
    """An exchange that begins `at` milliseconds after the start, as far as a timeline looks at it."""
    fields = {"queue_ms": 0, "first_byte_ms": None, "failed": False, "status": 200, "cache": None, "attempts": []}
    return fields | {"started_at": rfc3339(START + at), "duration_ms": duration} | values


ITEMS = st.lists(
    st.builds(
        item,
        at=st.integers(0, 4 * LONG),
        duration=st.integers(0, LONG),
        queue_ms=st.one_of(st.none(), st.integers(0, LONG)),
        first_byte_ms=st.one_of(st.none(), st.integers(0, LONG)),
        failed=st.booleans(),
        status=st.sampled_from([0, 200, 429, 529]),
    ),
    max_size=30,
)


def inside(segments: list[Segment]) -> bool:
    return all(one.x >= 0 and one.x + one.width <= WIDTH + 0.02 and one.width >= 0 for one in segments)


@given(ITEMS)
def test_each_exchange_is_drawn_once_within_its_stretch_and_in_order(items: list[Item]) -> None:
    found = stretches(items)
    drawn = [bar.item for stretch in reversed(found) for bar in stretch.bars]
    assert drawn == sorted(items, key=began)
    for stretch in found:
        assert all(inside(bar.segments) for bar in stretch.bars)
        assert stretch.ms == max(ended(bar.item) for bar in stretch.bars) - began(stretch.bars[0].item)
    pauses = [stretch.pause for stretch in found]
    assert all(pause is not None and pause >= 0 for pause in pauses[:-1])
    assert pauses[-1:] in ([], [None])


@given(ITEMS)
def test_the_phases_of_an_exchange_follow_one_another(items: list[Item]) -> None:
    for one in items:
        at = 0
        for _, start, end in phases(one):
            assert start >= at
            assert end >= start
            at = end
        assert at <= one["duration_ms"]


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ({"first_byte_ms": 400}, ["wait", "stream"]),
        ({"first_byte_ms": 400, "queue_ms": 100}, ["queue", "wait", "stream"]),
        ({"first_byte_ms": 1000}, ["wait", "stream"]),
        ({"failed": True, "status": 502}, ["failed"]),
        ({"failed": True, "status": 429, "first_byte_ms": 400}, ["failed"]),
        ({"failed": True, "first_byte_ms": 400}, ["wait", "stream", "failed"]),
        ({"failed": True, "queue_ms": 1000, "status": 503}, ["queue", "failed"]),
        ({"first_byte_ms": 9000}, ["wait", "stream"]),
    ],
)
def test_a_bar_shows_where_the_time_went(values: Item, kinds: list[str]) -> None:
    found = bar(item(**values), START, 1000)
    assert [one.kind for one in found.segments] == kinds
    assert inside(found.segments)


def test_a_pause_ends_a_stretch_and_is_told() -> None:
    first, near, far = item(0, 1000), item(PAUSE, 1000), item(PAUSE + 1000 + PAUSE, 1000)
    found = stretches([far, near, first])
    assert [len(one.bars) for one in found] == [1, 2]
    assert [one.pause for one in found] == [PAUSE, None]
    assert found[1].began == first["started_at"]


def test_a_long_stretch_ends_at_the_next_quiet_moment() -> None:
    busy = [item(at, 10_000) for at in range(0, LONG + 20_000, 9_000)]
    quiet = item(ended(busy[-1]) - START + 2_000, 1000)
    assert [len(one.bars) for one in stretches([*busy, quiet])] == [1, len(busy)]


def test_what_runs_at_once_overlaps_on_one_scale() -> None:
    (stretch,) = stretches([item(500, 500, first_byte_ms=250), item(0, 1000, first_byte_ms=100)])
    first, second = stretch.bars
    assert [(one.x, one.width) for one in first.segments] == [(0, 100), (100, 900)]
    assert [(one.x, one.width) for one in second.segments] == [(500, 250), (750, 250)]


@pytest.mark.parametrize(("cache", "broke"), [(None, False), ({"lost_tokens": 0}, False), ({"lost_tokens": 5}, True)])
def test_a_cache_break_is_marked(cache: Item | None, broke: bool) -> None:
    assert bar(item(cache=cache), START, 1000).broke is broke


def attempt(number: int, sent: int, head: int | None, *, failed: bool = False) -> Item:
    failure = {"side": None, "kind": "overloaded_error", "message": None, "provider_code": "1305"} if failed else None
    return {"number": number, "upstream": f"up{number}", "sent_ms": sent, "head_ms": head, "failure": failure}


def test_attempts_stand_below_one_another_on_one_scale() -> None:
    tries = [attempt(1, 0, 100, failed=True), attempt(2, 300, None, failed=True), attempt(3, 600, 700)]
    found = ladder(item(attempts=tries), lambda failed: f"{failed['upstream']}: {failed['provider_code']}")
    assert [rung.meaning for rung in found] == ["up1: 1305", "up2: 1305", ""]
    assert [[(one.kind, one.x, one.width) for one in rung.segments] for rung in found] == [
        [("failed", 0, 100)], [("failed", 300, 300)], [("wait", 600, 100), ("stream", 700, 300)],
    ]  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 5000), st.one_of(st.none(), st.integers(0, 9000)), st.booleans()), max_size=6))
def test_a_ladder_stays_in_its_place(tries: list[tuple[int, int | None, bool]]) -> None:
    attempts = [attempt(number, sent, head, failed=failed) for number, (sent, head, failed) in enumerate(tries)]
    found = ladder(item(duration=3000, attempts=attempts), lambda _: "")
    assert len(found) == len(attempts)
    assert all(inside(rung.segments) for rung in found)


NAMES = st.sampled_from("abcdef")


@given(st.sets(NAMES), st.dictionaries(NAMES, st.one_of(st.none(), NAMES)), st.booleans())
def test_a_tree_holds_each_agent_once_whoever_called_whom(
    names: set[str], parents: dict[str, str | None], with_main: bool
) -> None:
    agents = [{"agent": name} for name in ([None] if with_main else []) + sorted(names)]
    found = tree(agents, parents)
    assert sorted(str(one["agent"]) for one in found) == sorted(str(one["agent"]) for one in agents)
    assert all(1 <= one["depth"] <= DEEPEST for one in found if one["agent"])


def test_agents_stand_below_the_one_that_called_them() -> None:
    agents = [{"agent": name} for name in ("c", "b", None, "a", "d")]
    found = tree(agents, {"a": None, "b": "a", "c": "b", "d": "nobody who is here"})
    assert [(one["agent"], one["depth"]) for one in found] == [(None, 0), ("a", 1), ("b", 2), ("c", 3), ("d", 1)]


def test_agents_that_called_one_another_are_all_shown() -> None:
    circles = {"a": "b", "b": "a", "c": "d", "d": "c", "e": "e"}
    found = tree([{"agent": name} for name in (None, *"abcde")], circles)
    assert [(one["agent"], one["depth"]) for one in found] == [(None, 0), ("a", 1), ("b", 2), ("c", 1), ("d", 2), ("e", 1)]
