"""Sums by series: a metric's name and label values -> numbers that can be added, sent and added again."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

import msgspec

from claude_proxy.observe.catalogue import BY_NAME, Merge, Metric

Key = tuple[str, ...]  # the metric's name, then its label values in the catalogue's order
_INT64 = 2**63
Cell = list[int | float]  # one number; of a histogram one count per bucket, the infinite one included, and the sum of values


class Snapshot(msgspec.Struct, array_like=True):
    """The contents of a `/metrics` response, or of a worker's report.

    Attributes:
        sums: counters and histograms; in a report, only what came since the last one.
        gauges: values of now.
    """

    sums: list[tuple[Key, Cell]]
    gauges: list[tuple[Key, float]]


class Tally:
    """Counters and histograms. A caller may keep a cell and add to it directly."""

    def __init__(self) -> None:
        self._cells: dict[Key, Cell] = {}

    def cell(self, metric: Metric, *labels: str) -> Cell:
        """The numbers of one series, all zero at first."""
        key = (metric.name, *labels)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = [0] * metric.size
        return cell

    def add(self, sums: Iterable[tuple[Key, Cell]]) -> None:
        """Add what another tally drained. What is not in the catalogue, or of another size, is left out."""
        for key, numbers in sums:
            metric = BY_NAME.get(key[0])
            if metric is None or len(key) != len(metric.labels) + 1 or len(numbers) != metric.size:
                continue
            cell = self.cell(metric, *key[1:])
            for at, number in enumerate(numbers):
                cell[at] += number

    def drain(self) -> list[tuple[Key, Cell]]:
        """Take out what has been added, and begin at zero. Cells that callers keep stay theirs."""
        drained = []
        for key, cell in self._cells.items():
            if any(cell):
                drained.append((key, _copy(cell)))
                cell[:] = [0] * len(cell)
        return drained

    def copy(self) -> list[tuple[Key, Cell]]:
        """A copy of all series."""
        return [(key, _copy(cell)) for key, cell in self._cells.items()]


def _copy(cell: Cell) -> Cell:
    """The numbers as they are sent: MessagePack's integers have 64 bits, ours are unbounded."""
    return cell.copy() if max(cell) < _INT64 else [number if number < _INT64 else float(number) for number in cell]


def observe(metric: Metric, cell: Cell, values: Sequence[float]) -> None:
    """Add `values` to a histogram's cell. Bounds are inclusive, as `le` says."""
    if values:
        for at, count in Counter(map(partial(bisect_left, metric.buckets), values)).items():
            cell[at] += count
        cell[-1] += sum(values)


def merge_gauges(of_workers: Iterable[Iterable[tuple[Key, float]]]) -> list[tuple[Key, float]]:
    """Merge the gauges of several workers."""
    found: dict[Key, list[float]] = {}
    for gauges in of_workers:
        for key, value in gauges:
            found.setdefault(key, []).append(value)
    return [(key, _merged(BY_NAME[key[0]].merge, values)) for key, values in found.items() if key[0] in BY_NAME]


def _merged(how: Merge, values: list[float]) -> float:
    if how is Merge.SUM:
        return sum(values)
    return min(values) if how is Merge.MIN else max(values)
