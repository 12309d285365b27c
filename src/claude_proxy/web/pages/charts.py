"""The geometry of charts: stacked bars as SVG rectangles, and the JSON that `chart.js` gives to uPlot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

WIDTH, HEIGHT = 1000.0, 100.0  # of the SVG's viewBox, which is stretched to its place
GAP = 0.22  # of a bar's slot


class Bar(NamedTuple):
    """One part of a stacked bar, in units of the viewBox.

    Attributes:
        series: index of the series, which chooses its colour.
        slot: index of the bar.
        value: what it stands for.
    """

    series: int
    slot: int
    value: float
    x: float
    y: float
    width: float
    height: float


class Stacked(NamedTuple):
    """Stacked bars; `top` is the value at the upper edge."""

    bars: list[Bar]
    top: float


def stacked(rows: Sequence[Sequence[float | None]]) -> Stacked:
    """Place bars.

    Args:
        rows: one bar each, with a value per series, from the bottom up; None counts as nothing.
    """
    top = ceiling(max((sum(value or 0 for value in row) for row in rows), default=0))
    slot = WIDTH / max(1, len(rows))
    width = max(1.0, slot * (1 - GAP))
    bars = []
    for number, row in enumerate(rows):
        below = 0.0
        for series, value in enumerate(row):
            if not value:
                continue
            height = value / top * HEIGHT
            x, y = number * slot + (slot - width) / 2, HEIGHT - below - height
            bars.append(Bar(series, number, value, round(x, 2), round(y, 2), round(width, 2), round(height, 2)))
            below += height
    return Stacked(bars, top)


def ceiling(value: float) -> float:
    """The next round number (1, 2 or 5 times a power of ten) that is not below `value`; 1 for nothing."""
    if value <= 0:
        return 1.0
    step = 10.0 ** (len(str(int(value))) - 1) if value >= 1 else 10.0 ** -len(f"{1 / value:.0f}")
    while True:
        for factor in (1, 2, 5):
            if step * factor >= value:
                return step * factor
        step *= 10


def lines(times: Sequence[float], series: Mapping[str, Sequence[float | None]], *, unit: str = "count") -> str:
    """The data of a line chart for `chart.js`.

    Args:
        times: Unix seconds, rising.
        series: values by label; None leaves a gap.
        unit: "count", "ms", "tokens" or "usd": how the browser writes the numbers.

    Raises:
        ValueError: a series has another length than `times`.
    """
    if any(len(values) != len(times) for values in series.values()):
        raise ValueError("Each series needs a value, or None, for each time.")
    data: dict[str, Any] = {"unit": unit, "labels": list(series), "data": [list(times), *map(list, series.values())]}
    return msgspec.json.encode(data).decode()


def table(times: Sequence[float], series: Mapping[str, Sequence[float | None]]) -> list[list[Any]]:
    """The same numbers as rows of a table, the newest first: an RFC 3339 time, then a value per series."""
    return [
        [datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"), *values]
        for at, *values in reversed(list(zip(times, *series.values(), strict=True)))
    ]
