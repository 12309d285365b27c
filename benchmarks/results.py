"""The samples of a run and the arithmetic on them."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.contenders import BARE, OURS


@dataclass
class Results:
    """Every sample: metric -> server -> one value per repeat, in the order taken."""

    command: str
    date: str
    machine: str
    idle_share: float
    versions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, server: str, samples: Mapping[str, float]) -> None:
        """Keep one repeat's samples of `server`."""
        for metric, value in samples.items():
            self.samples.setdefault(metric, {}).setdefault(server, []).append(value)

    def median(self, metric: str, server: str) -> float | None:
        """The median, None where nothing was measured."""
        values = self.samples.get(metric, {}).get(server)
        return statistics.median(values) if values else None

    def ratio(self, metric: str, to: str = BARE) -> float | None:
        """Ours against `to`: the median of the ratios within each repeat, which see the same noise."""
        row = self.samples.get(metric, {})
        pairs = [(ours, theirs) for ours, theirs in zip(row.get(OURS, ()), row.get(to, ()), strict=False) if theirs > 0]
        return statistics.median(ours / theirs for ours, theirs in pairs) if pairs else None
