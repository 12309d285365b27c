"""A drawn row is the template's own, whatever of it was kept from earlier looks."""

from __future__ import annotations

from typing import Any

import pytest

from claude_proxy.exchange import Exchange, State, Usage
from claude_proxy.observe import seen
from claude_proxy.web.pages.board import Board, Item
from claude_proxy.web.pages.pulse import Figures
from claude_proxy.web.pages.rendering import environment
from claude_proxy.web.pages.rows import _HOLE, Rows
from tests.observe.running import exchange

HOSTILE = f"{_HOLE}</td><script>alert(1)</script>&quot;"


def shown(*running: Exchange, now: float = 60.0) -> list[Item]:
    """The rows as a board has them."""
    board = Board()
    told = {"states": {}, "running": [seen.running(one, now) for one in running], "ended": [], "upstreams": []}
    board.update([told], Figures())
    return list(board.running.values())


def templated(language: Any, items: list[Item]) -> str:
    """What the template makes of them."""
    macros: Any = environment(language).get_template("now_rows.html").module
    return "".join(macros.running_row(item, "./") for item in items)


CHANGES: list[dict[str, Any]] = [
    {},
    {"bytes_out": 5_000},
    {"bytes_out": 5_000_000, "usage": Usage(output=70_000)},
    {"bytes_out": 0},
    {"stream": False, "bytes_out": 900},
    {"state": State.WAITING, "place": lambda: 3},
    {"heard_at": 51.0},
    {"model": HOSTILE, "session": HOSTILE, "agent": HOSTILE, "project": HOSTILE, "upstream": HOSTILE},
    {"request_class": "title", "first_byte": 0.4},
]


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_row_that_changed_is_drawn_as_the_template_draws_it(language: Any, change: dict[str, Any]) -> None:
    one = exchange(state=State.ANSWERING, stream=True, bytes_out=100, heard_at=59.5, session="s", model="glm-5.3")
    rows = Rows(language)
    assert rows.draw(shown(one)) == templated(language, shown(one))
    for name, value in change.items():
        setattr(one, name, value)
    assert rows.draw(shown(one)) == templated(language, shown(one))
    assert "<script" not in rows.draw(shown(one))


def test_what_stays_of_a_row_is_drawn_once() -> None:
    one, two = (exchange(state=State.ANSWERING, stream=True, heard_at=59.0) for _ in range(2))
    rows, drawn = Rows("en"), []
    macro = rows._macros.running_row

    class Counting:
        received = rows._macros.received

        @staticmethod
        def running_row(item: Item, *rest: Any) -> Any:
            drawn.append(item["id"])
            return macro(item, *rest)

    rows._macros = Counting
    for size in range(1, 10_000, 1000):
        one.bytes_out = two.bytes_out = size
        rows.draw(shown(one, two))
    assert drawn == [two.id, one.id]


def test_rows_of_ended_exchanges_are_forgotten() -> None:
    one, two = exchange(), exchange()
    rows = Rows("en")
    rows.draw(shown(one, two))
    rows.forget([two.id, "cp_new"])
    assert list(rows._kept) == [two.id]
