"""The geometry of stacked bars, and the data of line charts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.web.pages import charts

ROWS = st.lists(st.lists(st.one_of(st.none(), st.floats(0, 1e12)), min_size=1, max_size=5), max_size=40)


@given(ROWS)
def test_bars_stay_in_their_place_and_stand_on_one_another(rows: list[list[float | None]]) -> None:
    found = charts.stacked(rows)
    for bar in found.bars:
        assert bar.x >= 0
        assert bar.x + bar.width <= charts.WIDTH + 1
        assert bar.y >= -0.01
        assert bar.y + bar.height <= charts.HEIGHT + 0.02
    for number, row in enumerate(rows):
        stacked = sum(bar.height for bar in found.bars if bar.slot == number)
        assert stacked == pytest.approx(sum(value or 0 for value in row) / found.top * charts.HEIGHT, abs=0.03)


@pytest.mark.parametrize(
    ("value", "top"),
    [(0, 1), (1, 1), (1.01, 2), (3, 5), (9.99, 10), (11, 20), (100, 100), (4321, 5000), (0.03, 0.05), (0.2, 0.2)],
)
def test_the_upper_edge_is_the_next_round_number(value: float, top: float) -> None:
    assert charts.ceiling(value) == pytest.approx(top)


def test_no_bars_and_nothing_in_them() -> None:
    assert charts.stacked([]) == ([], 1.0)
    assert charts.stacked([[None, 0]]).bars == []


def test_lines_and_their_table() -> None:
    series = {"requests": [1, 2], "errors": [None, 1]}
    assert json.loads(charts.lines([60, 120], series)) == {
        "unit": "count", "labels": ["requests", "errors"], "data": [[60, 120], [1, 2], [None, 1]],
    }  # fmt: skip
    assert charts.table([60, 120], series) == [["1970-01-01T00:02:00Z", 2, 1], ["1970-01-01T00:01:00Z", 1, None]]


def test_a_series_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="for each time"):
        charts.lines([1, 2], {"a": [1]})
