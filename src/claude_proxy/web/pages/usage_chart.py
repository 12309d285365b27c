"""The bars of *Usage*: one per hour, day, week or month, stacked by model or by kind of token. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import tzinfo
from typing import Any

from claude_proxy.ledger import periods
from claude_proxy.ledger.periods import Period, Span

MAX_BARS = 200
MODELS = 5  # with a colour of their own; the rest is one series
KINDS = {
    "cache_read": "cache_read_input_tokens",
    "cache_write": "cache_creation_input_tokens",
    "input": "input_tokens",
    "output": "output_tokens",
}
Item = dict[str, Any]


def fitting(period: Period, since: float, until: float, where: tzinfo) -> Period:
    """The period itself, or the next longer one of which a chart has room.

    Raises:
        ValueError: not even months fit.
    """
    first, last = periods.quarter(since), periods.quarter_after(until)
    for one in periods.PERIODS[periods.PERIODS.index(period) :]:
        try:
            if len(periods.spans(one, first, last, where)) <= MAX_BARS:
                return one
        except ValueError:
            continue
    raise ValueError("This is more than the chart has room for: choose a shorter time.")


def chart(measure: str, period: Period, spans: Sequence[Span], groups: Sequence[Item], text: Callable[..., str]) -> Item:
    """What `macros.stacked_bars` shows.

    Args:
        spans: a bar each, also where nothing happened.
        groups: of `Books.usage` with their breakdown by model.
        text: a text in the viewer's language.
    """
    by_key = {group["key"]: group for group in groups}
    found = [by_key.get(span.key) for span in spans]
    if measure == "tokens":
        labels = [text(f"shell.{kind}") for kind in KINDS]
        rows = [[None if group is None else group[key] for key in KINDS.values()] for group in found]
        return {"names": names(period, spans), "labels": labels, "rows": rows, "write": "compact"}
    key, write = ("cost_usd", "usd") if measure == "cost" else ("exchanges", "count")
    models = _models(groups, key)
    rest = any(part[key] and part["model"] not in models for group in groups for part in group["breakdown"])
    labels = [model or text("shell.unknown") for model in models] + ([text("usage.others")] if rest else [])
    rows = [_of_models(group, key, models, rest=rest) for group in found]
    return {"names": names(period, spans), "labels": labels, "rows": rows, "write": write}


def _models(groups: Sequence[Item], key: str) -> list[str | None]:
    """The models with most of it, the most first."""
    sums: Counter[str | None] = Counter()
    for group in groups:
        for part in group["breakdown"]:
            sums[part["model"]] += part[key] or 0
    most = [model for model, amount in sums.most_common() if amount]
    return most if len(most) <= MODELS + 1 else most[:MODELS]


def _of_models(group: Item | None, key: str, models: Sequence[str | None], *, rest: bool) -> list[float | None]:
    """A bar: what has no price stays unknown."""
    parts = {} if group is None else {part["model"]: part[key] for part in group["breakdown"]}
    others = [value for model, value in parts.items() if model not in models and value is not None]
    return [parts.get(model) for model in models] + ([sum(others) if others else None] if rest else [])


def names(period: Period, spans: Sequence[Span]) -> list[str]:
    """Short names of the bars: "14:00", "11-29", "2026-11"; an hour's has its day where there are several."""
    if period == "hour":
        several = len({span.key[:10] for span in spans}) > 1
        return [span.key[5:16].replace("T", " ") if several else span.key[11:16] for span in spans]
    return [span.key if period == "month" else span.key[5:10] for span in spans]
