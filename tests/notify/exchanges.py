"""Exchanges as the proxy hands them to listeners, and faults as the rules get them, for tests."""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path
from typing import Any

from claude_proxy.errors import Side
from claude_proxy.exchange import Exchange, Failure, Outcome
from claude_proxy.notify.advice import advise
from claude_proxy.notify.fault import Fault
from claude_proxy.protocol.providers import by_name
from claude_proxy.settings import Settings

WALL = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC
_numbers = itertools.count(1)


def settings(**values: Any) -> Settings:
    """Settings with a topic, and a DATA_DIR that no other test uses."""
    folder = Path(os.environ["XDG_DATA_HOME"])
    folder.mkdir(parents=True, exist_ok=True)
    return Settings(**{"ntfy_topic": "topic-1", "data_dir": Path(tempfile.mkdtemp(dir=folder)), **values})


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


def used_up(at: float, **values: Any) -> Exchange:
    """One that the upstream refused because the plan's window is used up: there is no use in trying again."""
    return failed(at, "1308", message="Usage limit reached. Your limit will reset at 2026-09-22 01:00:00", **values)


def answered(at: float, **values: Any) -> Exchange:
    """One that went well."""
    return exchange(at, **values)


def fault(code: str | None = "1305", kind: str = "overloaded_error", *, upstream: str = "default", **values: Any) -> Fault:
    """A failure of z.ai as the rules get it."""
    zai = by_name("zai")
    failure = Failure("upstream", kind, "words", code, "zai" if code is not None else None)
    fields = {"label": "z.ai", "message": "words", "about": advise(failure, zai), "model": "glm-5.3", "status": 529}
    return Fault(upstream, word=code or kind, **(fields | values))
