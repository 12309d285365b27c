"""Finished exchanges as the path hands them to listeners, and metrics as a reader sees them."""

from __future__ import annotations

import itertools
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from claude_proxy.exchange import Attempt, Exchange, Failure, Kind, Outcome, State, Usage
from claude_proxy.observe.metrics import Metrics
from claude_proxy.observe.tally import Key, Tally

_numbers = itertools.count(1)


def finished(*, of: type[Exchange] = Exchange, **values: Any) -> Exchange:
    """A streamed Messages call that went well: its upstream was asked 2 ms after its start, and it took 4 s."""
    fields: dict[str, Any] = {
        "id": f"cp_{next(_numbers)}",
        "method": "POST",
        "path": "/v1/messages",
        "client": "127.0.0.1",
        "started": 100.0,
        "started_at": 1_790_000_000.0,
        "state": State.ENDED,
        "kind": Kind.MESSAGES,
        "upstream": "default",
        "model": "glm-5.3",
        "model_served": "glm-5.3",
        "stream": True,
        "status": 200,
        "attempts": [Attempt("default", 100.002)],
        "usage": Usage(input=10, output=20, cache_read=30, cache_write=40),
        "first_byte": 1.5,
        "longest_silence": 0.7,
        "ended": 104.0,
        "outcome": Outcome.COMPLETED,
    }
    return of(**(fields | values))


def failed(status: int = 429, kind: str = "rate_limit_error", **values: Any) -> Exchange:
    """One that the upstream refused."""
    fields: dict[str, Any] = {
        "status": status,
        "usage": None,
        "model_served": None,
        "stream": False,
        "failure": Failure("upstream", kind, "Too many requests"),
    }
    return finished(**(fields | values))


def values(tally: Tally) -> dict[Key, Any]:
    """Every series that is not zero: its number, or a histogram's count and sum."""
    found = {key: cell[0] if len(cell) == 1 else (sum(cell[:-1]), cell[-1]) for key, cell in tally.copy()}
    return {key: value for key, value in found.items() if value not in (0, (0, 0))}


def samples(body: bytes, *, openmetrics: bool = False) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What a scraper reads: (name, labels) -> value."""
    parse = parse_openmetrics if openmetrics else parse_text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(body.decode())
        for sample in family.samples
    }


async def read(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One value as a scraper reads it, None if it is not there."""
    return samples(await metrics.text()).get((name, frozenset(labels.items())))
