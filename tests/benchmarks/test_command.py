"""The two commands as a user types them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.contenders import ROOT


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_has_examples() -> None:
    shown = run("benchmarks", "--help")
    assert shown.returncode == 0
    assert "python -m benchmarks --profile json" in shown.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--rows", "json,speed"], "there are json, big, sse, paced"),
        (["--with", "apache"], "there are nginx, caddy, haproxy"),
        (["--profile", "memory"], "there are json, big, sse, paced"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(words: list[str], sentence: str) -> None:
    refused = run("benchmarks", *words)
    assert refused.returncode == 2
    assert sentence in " ".join(refused.stderr.replace("│", " ").split())


@pytest.mark.system
def test_a_quick_run_measures_nginx_the_yardstick_and_ours(tmp_path: Path) -> None:
    done = run("benchmarks", "--quick", "--json", str(tmp_path / "samples"), "--output", str(tmp_path / "page"))
    assert done.returncode == 0, done.stderr
    samples = json.loads((tmp_path / "samples").read_text())["samples"]
    for metric in ("json", "big", "sse", "paced", "latency-2k-p50", "idle-rss", "stream", "start"):
        assert samples[metric]["nginx"]
        assert samples[metric]["bare"]
        assert samples[metric]["claude-proxy"]
    assert "CPU per 2 KB JSON exchange" in (tmp_path / "page").read_text()


@pytest.mark.system
def test_a_short_soak_leaves_nothing_behind(tmp_path: Path) -> None:
    done = run("benchmarks.soak", "--exchanges", "1000", "--storm", "50", "--json", str(tmp_path / "report"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "report").read_text())["faults"] == []


def test_the_measurement_of_the_queue_has_help() -> None:
    shown = run("benchmarks.turns", "--help")
    assert shown.returncode == 0
    assert "--moving" in shown.stdout
