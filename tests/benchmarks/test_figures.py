"""From samples to the page: medians, ratios, verdicts, rendering."""

import pytest

from benchmarks import report
from benchmarks.results import Results


def measured(**samples: dict[str, list[float]]) -> Results:
    return Results(
        command="python -m benchmarks",
        date="2026-11-22 10:00 UTC",
        machine="a machine",
        idle_share=0.97,
        versions={"nginx": "nginx/1.22", "claude-proxy": "0.1.0"},
        samples={name.replace("_", "-"): row for name, row in samples.items()},
    )


def test_the_ratio_is_the_median_of_the_ratios_within_each_repeat() -> None:
    results = measured(json={"bare": [10, 20, 40], "nginx": [1, 1, 1], "claude-proxy": [20, 60, 80]})
    assert results.ratio("json") == 2
    assert results.median("json", "claude-proxy") == 60


def test_without_the_yardstick_there_is_no_ratio_and_the_verdict_is_unknown() -> None:
    results = measured(json={"nginx": [10], "claude-proxy": [20]}, start={"claude-proxy": [0.5]})
    assert results.ratio("json") is None
    assert report.verdict(results, "json") == "unknown"
    assert report.verdict(results, "start") == "yes, aim too"


@pytest.mark.parametrize(("ours", "verdict"), [(18, "yes, aim too"), (19, "yes"), (21, "yes"), (22, "no")])
def test_a_relative_budget_bounds_the_ratio(ours: float, verdict: str) -> None:
    assert report.verdict(measured(json={"bare": [10], "nginx": [1], "claude-proxy": [ours]}), "json") == verdict


@pytest.mark.parametrize(("caddy", "verdict"), [(25, "yes, aim too"), (18, "no"), (17, "no")])
def test_the_server_to_beat_counts_where_it_was_measured(caddy: float, verdict: str) -> None:
    assert report.verdict(measured(json={"bare": [10], "caddy": [caddy], "claude-proxy": [18]}), "json") == verdict


@pytest.mark.parametrize(("ours", "verdict"), [(0.5, "yes"), (0.51, "no"), (-0.1, "yes")])
def test_an_absolute_budget_bounds_the_figure(ours: float, verdict: str) -> None:
    assert report.verdict(measured(latency_2k_p50={"claude-proxy": [ours]}), "latency-2k-p50") == verdict


def test_repeats_are_added_in_order() -> None:
    results = measured()
    results.add("nginx", {"json": 1.0, "json-others": 0.1})
    results.add("nginx", {"json": 2.0})
    assert results.samples == {"json": {"nginx": [1.0, 2.0]}, "json-others": {"nginx": [0.1]}}


def test_the_page_has_figures_spread_ratio_budget_and_circumstances() -> None:
    shares = {f"json_{name}": {"nginx": [0.5, 0.6, 0.7]} for name in ("proxy-core", "load-core", "others")}
    figures = {"nginx": [10.0, 11.0, 12.0], "bare": [12.5, 12.5, 12.5], "claude-proxy": [20.0, 21.9, 25.0]}
    results = measured(json=figures, **shares)
    results.notes.append("caddy is not installed, so it was not measured.")
    page = report.markdown(results)
    row = next(line for line in page.splitlines() if line.startswith("| CPU per 2 KB JSON"))
    assert row.split(" | ")[1:] == [
        "11.0 (10.0 to 12.0)",
        "12.5",
        "21.9 (20.0 to 25.0)",
        "1.75",
        "<= 2.1x bare, below caddy (aim 1.8)",
        "yes, aim too |",
    ]
    assert "| json | nginx | 60% | 60% | 60% |" in page
    for part in (
        "a machine",
        "97% idle",
        "nginx/1.22",
        "2026-11-22 10:00 UTC",
        "> caddy is not installed",
        "median of 3 repeats",
    ):
        assert part in page
    assert "$" not in page


def test_nginx_is_the_first_column_and_the_yardstick_and_ours_the_last() -> None:
    row = {name: [1.0] for name in ("claude-proxy", "bare", "haproxy", "direct", "caddy", "nginx")}
    assert report.servers(measured(json=row)) == ["nginx", "caddy", "haproxy", "bare", "claude-proxy"]


def test_a_busy_machine_is_named_on_the_page() -> None:
    results = measured(json={"claude-proxy": [1.0]})
    results.idle_share = 0.5
    assert "50% idle before the run (BUSY" in report.markdown(results)
