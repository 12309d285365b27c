"""The page's benchmark: its arithmetic, and a short run."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import page
from benchmarks.contenders import ROOT


def report() -> page.Report:
    return page.Report("a machine", (0.5, 0.4, 0.3))


def shown(found: page.Report) -> str:
    console = Console(file=io.StringIO(), width=140)
    page.show(found, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 3), (0.95, 5), (1.0, 5)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert page.percentile([5, 1, 4, 2, 3], share) == value


def test_what_readers_cost_is_the_median_of_the_ratios_within_each_repeat() -> None:
    found = report()
    assert found.readers_cost is None
    found.paced = {"without": [10, 20, 40], "with": [11, 20, 50]}
    assert found.readers_cost == pytest.approx(0.1)
    assert "20.0 us per event, with 5 readers 20.0 us (+10%, budget +10%)" in shown(found)


def test_where_there_is_no_chromium_the_columns_say_so() -> None:
    found = report()
    found.views = {"Now": {"p50": 1.0, "p95": 2.0, "cpu": 1.0, "gzip": 5000}}
    found.tabs = {200: {"server alone": 0.01, "server with a reader": 0.02}}
    assert shown(found).count("no Chromium") == 4
    found.views["Now"] |= {"paint": 90.0, "visit": 59_000}
    found.tabs[200] |= {"tab": 0.1, "chromium": 0.2}
    assert "no Chromium" not in shown(found)


def test_the_load_of_the_machine_stands_beside_the_figures() -> None:
    assert "load average before the run: 0.5, 0.4, 0.3" in shown(report())


@pytest.mark.system
def test_a_short_run_measures_every_view_tabs_memory_and_readers(tmp_path: Path) -> None:
    words = ["--turns", "2", "--seconds", "0.5", "--running", "0,20", "--repeats", "1", "--json", str(tmp_path / "figures")]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.page", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures").read_text())
    assert len(figures["views"]) == 8
    assert all(one["p95"] >= one["p50"] > 0 and one["gzip"] < one["html"] for one in figures["views"].values())
    assert set(figures["tabs"]) == {"0", "20"}
    assert all(size > 1e6 for size in figures["memory"].values())
    assert figures["readers_cost"] is not None
