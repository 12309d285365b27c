"""Exchanges as the proxy hands them to listeners, for tests."""

from __future__ import annotations

import itertools
from typing import Any

from claude_proxy.exchange import Exchange, Failure, Outcome, Side
from claude_proxy.settings import Settings

WALL = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC
_numbers = itertools.count(1)


def settings(**values: Any) -> Settings:
    return Settings(**{"ntfy_topic": "topic-1", **values})


def exchange(at: float, *, took: float = 1.0, **values: Any) -> Exchange:
    """One that ended at `at` (loop seconds) after `took`."""
    fields: dict[str, Any] = {
        "id": f"req_{next(_numbers)}",
        "method": "POST",
        "path": "/v1/messages",
        "client": "127.0.0.1",
        "started": at - took,
        "started_at": WALL + at - took,
        "ended": at,
        "upstream": "default",
        "model": "glm-5.3",
        "outcome": Outcome.COMPLETED,
        "status": 200,
    }
    return Exchange(**(fields | values))


def failed(
    at: float, code: str | None = "1302", kind: str = "rate_limit_error", *, side: Side = "upstream", **values: Any
) -> Exchange:
    """One that the upstream refused, by default for its concurrency limit."""
    message = values.pop("message", "Too many concurrent requests")
    provider = "zai" if code is not None else None
    return exchange(at, **({"status": 429, "failure": Failure(side, kind, message, code, provider)} | values))


def answered(at: float, **values: Any) -> Exchange:
    """One that went well."""
    return exchange(at, **values)
