"""What a scraper reads, by prometheus-client's own parsers."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from claude_proxy.observe import catalogue as c
from claude_proxy.observe.exposition import render
from claude_proxy.observe.tally import Snapshot, Tally, observe
from tests.observe.finished import samples

NASTY = 'a"b\\c\nd\u2028 \u00e9 {}'


def everything() -> Snapshot:
    """One series of every metric, with a label that needs escaping."""
    tally = Tally()
    gauges = []
    for metric in c.METRICS:
        labels = [NASTY] * len(metric.labels)
        if metric.type is c.Type.GAUGE:
            gauges.append(((metric.name, *labels), 1.5))
        elif metric.type is c.Type.COUNTER:
            tally.cell(metric, *labels)[0] += 3 * metric.divisor
        else:
            for value in (0.0, 0.3, 1e6):
                observe(metric, tally.cell(metric, *labels), [value])
    return Snapshot(tally.copy(), gauges)


@pytest.mark.parametrize("openmetrics", [False, True])
def test_both_formats_say_every_metric_with_its_labels(openmetrics: bool) -> None:
    found = samples(render(everything(), openmetrics=openmetrics), openmetrics=openmetrics)
    for metric in c.METRICS:
        labels = frozenset((name, NASTY) for name in metric.labels)
        if metric.type is c.Type.HISTOGRAM:
            assert found[metric.name + "_count", labels] == 3
            assert found[metric.name + "_sum", labels] == 1e6 + 0.3
            assert found[metric.name + "_bucket", labels | {("le", "+Inf")}] == 3
        else:
            assert found[metric.name, labels] == (3 if metric.type is c.Type.COUNTER else 1.5)


def test_buckets_are_cumulative_and_in_order() -> None:
    body = render(everything()).decode()
    for metric in c.METRICS:
        if metric.type is c.Type.HISTOGRAM:
            (family,) = (f for f in text_string_to_metric_families(body) if f.name == metric.name)
            counts = [(sample.labels["le"], sample.value) for sample in family.samples if sample.name.endswith("_bucket")]
            assert [float(bound) for bound, _ in counts] == [*metric.buckets, float("inf")]
            assert [count for _, count in counts] == sorted(count for _, count in counts)


def test_no_bounds_out_of_order() -> None:
    assert all(list(metric.buckets) == sorted(set(metric.buckets)) for metric in c.METRICS)


def test_costs_are_dollars() -> None:
    tally = Tally()
    tally.cell(c.COST, "default", "m")[0] += 1_234_567_891
    body = render(Snapshot(tally.copy(), []))
    assert samples(body)["claude_proxy_cost_usd_total", frozenset({("upstream", "default"), ("model", "m")})] == 1.234567891


def test_gzip_is_the_same_text() -> None:
    assert gzip.decompress(render(everything(), gzipped=True)) == render(everything())


def test_the_help_is_one_line_without_a_full_stop() -> None:
    for metric in c.METRICS:
        assert re.fullmatch(r"[^\n]+[^\n.]", metric.help), metric.name
        assert (metric.type is c.Type.COUNTER) == metric.name.endswith("_total"), metric.name


def test_nobody_pays_for_prometheus_client_before_the_first_scrape() -> None:
    program = (
        "import sys; from claude_proxy.app import create_app; from claude_proxy.settings import Settings; create_app(Settings());"
        "print(sorted(name for name in sys.modules if name.startswith('prometheus')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"DATA_DIR": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "[]\n"
