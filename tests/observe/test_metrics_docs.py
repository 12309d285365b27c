"""docs/metrics.md and the code name the same metrics, labels, outcomes and alerts."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from claude_proxy.exchange import Kind, Outcome
from claude_proxy.observe.catalogue import METRICS
from claude_proxy.observe.labels import MAX_MODELS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")


def rows(columns: int) -> list[list[str]]:
    """The rows of all tables of so many columns, without heads."""
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")]
    return [row for row in found if len(row) == columns]


def test_each_metric_has_its_row_with_type_and_labels_in_order() -> None:
    documented = [(name.strip("`"), kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels, _ in rows(4)]
    assert documented == [(metric.name, metric.type.value, list(metric.labels)) for metric in METRICS]


def test_units_are_named() -> None:
    for (_, _, _, meaning), metric in zip(rows(4), METRICS, strict=True):
        if metric.unit in ("seconds", "US dollars", "bytes"):
            assert re.search(metric.unit, meaning, re.IGNORECASE) or "Unix time" in meaning, metric.name


def test_each_outcome_and_kind_is_explained() -> None:
    explained = [name.strip("`") for name, _ in rows(2) if not name.startswith("`Claude")]
    assert explained == [outcome.value for outcome in Outcome]
    (others,) = (meaning for name, _, _, meaning in rows(4) if "other_exchanges" in name)
    assert all(f"`{kind}`" in others for kind in Kind if kind is not Kind.MESSAGES)


def test_each_alert_is_explained() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    assert [name.strip("`") for name, _ in rows(2) if name.startswith("`Claude")] == [rule["alert"] for rule in rules]


def test_the_bound_is_the_one_in_force() -> None:
    assert f"at most {MAX_MODELS};" in PAGE
