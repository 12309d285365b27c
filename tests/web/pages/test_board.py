"""What changed between two looks, and what is put together from several workers. Pure."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from claude_proxy import ids
from claude_proxy.exchange import Failure, Outcome, State, Usage
from claude_proxy.observe import seen
from claude_proxy.observe.seen import SHOWN
from claude_proxy.web.pages.board import Board, tiles
from claude_proxy.web.pages.now_context import page_context
from claude_proxy.web.pages.pulse import FINISHED, Figures
from claude_proxy.web.pages.rendering import render
from claude_proxy.web.pages.rows import Rows
from tests.observe.running import exchange, finished

NOW = 60.0
_numbers = itertools.count(1)


def told(*running: Any, ended: tuple[Any, ...] = (), price: int | None = None, state: str = "up") -> dict[str, Any]:
    """What a worker tells."""
    counts: dict[str, int] = {}
    for one in running:
        counts[one.state.value] = counts.get(one.state.value, 0) + 1
    upstream = {"name": "default", "provider": "Z.AI", "base_url": "https://u.example", "state": state, "running": len(running)}
    return {
        "states": counts,
        "running": [seen.running(one, NOW) for one in running],
        "ended": [seen.ended(one, lambda _: price) for one in ended],
        "upstreams": [upstream | {"connections": 1, "credential": "held"}],
    }


def tick(language: Any, board: Board) -> str:
    """What a page that has just opened gets."""
    rows = Rows(language).draw(board.running.values())
    return render(language, "now_tick.html", page_context(board) | {"fresh": True, "rows": rows})


def test_the_first_look_is_all_news_and_the_second_none() -> None:
    board, one = Board(), exchange(state=State.SENT)
    assert [item["id"] for item in board.update([told(one)], Figures()).running] == [one.id]
    assert not board.update([told(one)], Figures())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("state", State.ANSWERING), ("model", "glm-5.4"), ("project", "checkout"), ("upstream", "other"), ("bytes_out", 5000),
        ("first_byte", 0.5), ("session", "s"), ("agent", "a"),
    ],
)  # fmt: skip
def test_a_row_is_news_when_it_looks_different(name: str, value: Any) -> None:
    board, one = Board(), exchange(state=State.SENT, stream=True)
    board.update([told(one)], Figures())
    setattr(one, name, value)
    delta = board.update([told(one)], Figures())
    assert [item["id"] for item in delta.running] == [one.id]


def test_time_alone_is_no_news_but_silence_is() -> None:
    board, one = Board(), exchange(state=State.ANSWERING, stream=True, heard_at=58.0)
    board.update([told(one)], Figures())
    assert not board.update([told(one) | {"running": [seen.running(one, NOW + 1)]}], Figures())
    silent = board.update([told(one) | {"running": [seen.running(one, NOW + 10)]}], Figures())
    assert [item["look"] for item in silent.running] == ["silent"]
    assert not board.update([told(one) | {"running": [seen.running(one, NOW + 20)]}], Figures()), "its clock is the browser's"


def test_what_ends_moves_to_the_finished_ones_with_its_cost() -> None:
    board, one = Board(), exchange(state=State.ANSWERING)
    board.update([told(one)], Figures())
    one.ended, one.outcome, one.status, one.usage = 62.5, Outcome.COMPLETED, 200, Usage(input=5, output=7)
    delta = board.update([told(ended=(one,), price=250_000_000)], Figures())
    assert delta.gone == [one.id]
    (row,) = delta.finished
    assert (row["id"], row["cost_usd"], row["failed"]) == (one.id, 0.25, False)
    assert row["ended_ms"] == 1_790_000_012_500


def test_the_books_have_the_last_word_on_a_finished_exchange() -> None:
    board, one = Board(), finished()
    board.update([told(ended=(one,))], Figures())
    booked = seen.ended(one, lambda _: 10**9) | {"cost_usd": 1.0}
    delta = board.update([told()], Figures(finished=[booked]))
    assert [row["cost_usd"] for row in delta.finished] == [1.0]


def test_only_the_last_finished_ones_stay() -> None:
    board = Board()
    many = [finished(started_at=1_790_000_000.0 + at) for at in range(FINISHED + 5)]
    delta = board.update([told(ended=tuple(many[:FINISHED]))], Figures())
    assert len(delta.finished) == FINISHED
    delta = board.update([told(ended=tuple(many[FINISHED:]))], Figures())
    assert set(delta.dropped) == {one.id for one in many[:5]}
    assert list(board.finished) == [one.id for one in reversed(many[5:])]


def test_of_many_the_newest_are_shown_and_the_others_counted() -> None:
    board = Board()
    many = [exchange(state=State.SENT) for _ in range(SHOWN + 100)]
    board.update([told(*many[: SHOWN // 2 + 50]), told(*many[SHOWN // 2 + 50 :])], Figures())
    assert len(board.running) == SHOWN
    assert board.total == SHOWN + 100
    assert list(board.running) == [one.id for one in sorted(many, key=lambda one: ids.decode(one.id), reverse=True)[:SHOWN]]


def test_workers_are_added_up_and_the_trouble_of_one_is_shown() -> None:
    found = tiles([told(exchange()), told(exchange(), exchange(), state="ejected")], Figures())
    assert found["running"] == 3
    assert found["states"] == {"reading": 3}
    (upstream,) = found["upstreams"]
    assert (upstream["running"], upstream["connections"], upstream["state"]) == (3, 2, "ejected")


@pytest.mark.parametrize(
    ("state", "english", "korean"),
    [("ejected", "ejected", "제외됨"), ("failing", "failing", "장애 중"), ("out", "out of use", "사용 불가")],
)
def test_the_state_of_an_upstream_is_said_in_the_viewers_language(state: str, english: str, korean: str) -> None:
    board = Board()
    board.update([told(state=state)], Figures())
    for language, shown in (("en", english), ("ko", korean)):
        assert f"· {shown}<" in tick(language, board)


@pytest.mark.parametrize(
    ("values", "failed"),
    [
        ({}, False),
        ({"status": 429}, True),
        ({"outcome": Outcome.CUT}, True),
        ({"outcome": Outcome.CANCELLED, "status": 499}, False),
        ({"failure": Failure("upstream", "overloaded_error", "Overloaded", "1305")}, True),
    ],
)
def test_failed_means_what_the_books_mean_by_it(values: dict[str, Any], failed: bool) -> None:
    one = finished(**values)
    assert seen.ended(one, lambda _: None)["failed"] is failed


def test_the_same_figures_are_no_news() -> None:
    board, hour = Board(), {"minutes": [{"at": "2026-11-29T03:00:00Z"}], "exchanges": 1, "failed": 0}
    assert board.update([told()], Figures(hour=hour)).hour
    again = board.update([told()], Figures(hour=dict(hour)))
    assert not again


@pytest.mark.parametrize("accounts", [["work"], ["work", "home"]])
def test_of_several_plans_each_names_its_account(accounts: list[str]) -> None:
    window = {"window": "5h", "used_ratio": 0.5, "resets_at": None}
    board = Board()
    board.update([told()], Figures(quota=[{"upstream": "zai", "account": one, "windows": [window]} for one in accounts]))
    page = tick("en", board)
    assert page.count("<progress") == len(accounts)
    assert [f"zai/{one}" in page for one in accounts] == [len(accounts) > 1] * len(accounts)


WINDOWS = {
    "5h": ("Plan, 5 hours", "요금제, 5시간"),
    "week": ("Plan, week", "요금제, 주간"),
    "month": ("Plan, month", "요금제, 월간"),
    "unit 9 x 2": ("Plan, unit 9 x 2 window", "요금제 unit 9 x 2 한도"),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_each_window_of_a_plan_has_a_name_in_both_languages(name: str) -> None:
    board = Board()
    board.update([told()], Figures(quota=[{"windows": [{"window": name, "used_ratio": 0.5, "resets_at": None}]}]))
    for language, shown in zip(("en", "ko"), WINDOWS[name], strict=True):
        assert f"<dt>{shown}</dt>" in tick(language, board)


@pytest.mark.parametrize(("ratio", "kind"), [(0.11, "gauge"), (0.8, "gauge warn"), (0.97, "gauge bad"), (1.2, "gauge bad")])
def test_the_plan_is_a_gauge_that_warns(ratio: float, kind: str) -> None:
    window = {"window": "5h", "used_ratio": ratio, "resets_at": "2026-11-29T05:00:00.000Z"}
    unknown = {"window": "week", "used_ratio": None, "resets_at": None}
    board = Board()
    board.update([told()], Figures(quota=[{"windows": [window, unknown]}]))
    for language in ("en", "ko"):
        page = tick(language, board)
        assert f'<span class="{kind}"><progress max="1" value="{min(ratio, 1)}"' in page
        assert f"{ratio:.0%}" in page
        assert page.count("<progress") == 1
