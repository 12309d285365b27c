"""Sums as the text that Prometheus reads, by prometheus-client.

The library is imported by the first call: a proxy that nobody scrapes does without it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from claude_proxy.observe.catalogue import METRICS, Metric, Type
from claude_proxy.observe.tally import Cell, Key, Snapshot

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def render(snapshot: Snapshot, *, openmetrics: bool = False, gzipped: bool = False) -> bytes:
    """The body of an answer. It takes milliseconds: call it in a thread."""
    from prometheus_client import exposition
    from prometheus_client.openmetrics import exposition as openmetrics_exposition

    generate: Any = openmetrics_exposition.generate_latest if openmetrics else exposition.generate_latest
    body: bytes = generate(_Families(snapshot))
    if not gzipped:
        return body
    packer = zlib.compressobj(5, wbits=31)  # 31: with gzip's header
    return packer.compress(body) + packer.flush()


class _Families:
    """A snapshot as prometheus-client collects it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Any]:
        """The metric families, in the catalogue's order."""
        found: dict[str, list[tuple[Key, Cell]]] = {}
        for key, cell in self._snapshot.sums:
            found.setdefault(key[0], []).append((key[1:], cell))
        for key, value in self._snapshot.gauges:
            found.setdefault(key[0], []).append((key[1:], [value]))
        for metric in METRICS:
            if metric.name in found:
                yield family(metric, sorted(found[metric.name]))


def family(metric: Metric, series: list[tuple[Key, Cell]]) -> Any:
    """One metric with its series as prometheus-client's family."""
    from prometheus_client import core

    if metric.type is Type.HISTOGRAM:
        histogram = core.HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, (*counts, total) in series:
            bounds = [*(core_number(bound) for bound in metric.buckets), "+Inf"]
            histogram.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
        return histogram
    kind = core.CounterMetricFamily if metric.type is Type.COUNTER else core.GaugeMetricFamily
    plain = kind(metric.name, metric.help, labels=metric.labels)
    for labels, (value,) in series:
        plain.add_metric(labels, value if metric.divisor == 1 else value / metric.divisor)
    return plain


def core_number(bound: float) -> str:
    """A bucket's bound as the exposition format writes it: 0.5, 1.0, 120.0."""
    return str(float(bound))
