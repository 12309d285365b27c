"""What is read of sessions: search, who called whom, what broke the cache, and the neighbours of an exchange."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from claude_proxy import ids
from claude_proxy.exchange import CacheVerdict
from claude_proxy.ledger import sessions
from claude_proxy.ledger.queries import Books
from claude_proxy.ledger.record import Charge
from tests.ledger.books import NOW, WALL, entry, write_all
from tests.ledger.places import Place


@pytest.fixture
def books(place: Place) -> Books:
    place.store().close(0)
    return Books(place.engine(reading=True), timeout=20, wall=lambda: WALL)


def fill(place: Place, *entries: Any) -> list[str]:
    """Write entries; their ids."""
    store = place.store()
    write_all(store, list(entries))
    store.close(0)
    return [ids.encode(one.record.id) for one in entries]


def of_project(project: str, session: str, at: int = NOW) -> Any:
    one = entry(at, session=session)
    one.record = msgspec.structs.replace(one.record, project=project)
    return one


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("out-42", ["checkout-42"]), ("CHECKOUT", ["checkout-42", "session-a"]), ("session", ["session-b", "session-a"]),
        ("%", []), ("_", ["under_score"]), ("nobody", []), ("\\", []), ("docs", ["session-b"]),
    ],
)  # fmt: skip
def test_a_session_is_found_by_a_part_of_its_or_its_projects_name(
    place: Place, books: Books, search: str, found: list[str]
) -> None:
    fill(
        place,
        of_project("checkout", "session-a"),
        of_project("Docs", "session-b", NOW + 1000),
        entry(NOW + 2000, session="checkout-42", model="session-model"),
        entry(NOW - 1000, session="under_score"),
    )
    assert [one["session"] for one in books.sessions(search=search)["items"]] == found


def test_a_search_has_pages_as_the_list_has(place: Place, books: Books) -> None:
    fill(place, *(of_project("checkout", f"session-{at}", NOW + at * 1000) for at in range(5)), entry(NOW, session="other"))
    seen: list[str] = []
    before = None
    while True:
        page = books.sessions(2, before, search="check")
        seen += [one["session"] for one in page["items"]]
        before = page["next"]
        if before is None:
            break
    assert seen == [f"session-{at}" for at in reversed(range(5))]


def test_exchanges_of_one_agent_or_of_none(place: Place, books: Books) -> None:
    main, one, two = fill(place, entry(NOW), entry(NOW + 1, agent="a"), entry(NOW + 2, agent="b"))

    def seen(agent: str | None) -> list[str]:
        return [item["id"] for item in books.exchanges(session="session-1", agent=agent)["items"]]

    assert (seen(None), seen(""), seen("a"), seen("b"), seen("c")) == ([two, one, main], [main], [one], [two], [])


def test_a_story_says_who_called_whom_and_how_many_turns_ended(place: Place, books: Books) -> None:
    fill(
        place,
        entry(NOW, stop_reason="tool_use"),
        entry(NOW + 1, agent="a"),
        entry(NOW + 2, agent="b", parent_agent="a", stop_reason="end_turn"),
        entry(NOW + 3, stop_reason="end_turn"),
        entry(NOW + 4, stop_reason="end_turn", request_class="auxiliary"),
        entry(NOW + 5, session="other", agent="c", stop_reason="end_turn"),
    )
    found = books.story("session-1")
    assert found.parents == {"a": None, "b": "a"}
    assert (found.turns, found.whole) == (1, True)
    assert books.story("nobody") == ({}, [], 0, True, sessions.LOOKED_AT)


def test_a_story_adds_up_what_broke_the_cache(place: Place, books: Books) -> None:
    def lost(at: int, tokens: int, nano: int | None, kind: Any = "changed", area: Any = "tools", **values: Any) -> Any:
        return entry(at, cache=CacheVerdict(kind, area, 3, None, tokens), charge=Charge(10**9, None, "p", nano), **values)

    fill(
        place,
        entry(NOW, cache=CacheVerdict("grew")),
        lost(NOW + 1, 1000, 2_000_000),
        lost(NOW + 2, 500, 1_000_000, agent="a"),
        lost(NOW + 3, 9000, None, "expired", None),
        lost(NOW + 4, 700, 9_000_000, "provider", None),
        lost(NOW + 5, 700, 9_000_000, session="other"),
    )
    found = [
        (one["verdict"], one["area"], one["count"], one["lost_tokens"], one["lost_usd"])
        for one in books.story("session-1").breaks
    ]
    assert found == [
        ("provider", None, 1, 700, 0.009),
        ("changed", "tools", 2, 1500, 0.003),
        ("expired", None, 1, 9000, None),
    ]


def test_a_story_is_told_from_the_latest_exchanges(place: Place, books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "LOOKED_AT", 2)
    fill(place, entry(NOW, agent="old"), entry(NOW + 1, agent="a"), entry(NOW + 2, agent="b"))
    found = books.story("session-1")
    assert (set(found.parents), found.whole) == ({"a", "b"}, False)


def test_neighbours_are_those_of_the_session(place: Place, books: Books) -> None:
    first, _, second, third, alone = fill(
        place,
        entry(NOW),
        entry(NOW + 1, session="other"),
        entry(NOW + 2, agent="a"),
        entry(NOW + 3),
        entry(NOW + 4, session=None),
    )
    assert books.neighbours(first) == {"previous": None, "next": second}
    assert books.neighbours(second) == {"previous": first, "next": third}
    assert books.neighbours(third) == {"previous": second, "next": None}
    assert books.neighbours(alone) == {"previous": None, "next": None}
    assert books.neighbours(ids.encode(ids.first_of(NOW + 99))) == {"previous": None, "next": None}
