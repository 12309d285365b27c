"""Exchanges as listeners meet them."""

from __future__ import annotations

import itertools
from typing import Any

from claude_proxy import ids
from claude_proxy.exchange import Exchange, Kind, Outcome

_numbers = itertools.count(1)


def exchange(**values: Any) -> Exchange:
    """A Messages exchange that has just begun."""
    fields: dict[str, Any] = {
        "id": ids.encode(ids.first_of(1_790_000_000_000) | next(_numbers)),
        "method": "POST",
        "path": "/v1/messages",
        "client": "127.0.0.1",
        "started": 50.0,
        "started_at": 1_790_000_000.0,
        "kind": Kind.MESSAGES,
        "upstream": "default",
        "account": "default",
    }
    return Exchange(**(fields | values))


def finished(**values: Any) -> Exchange:
    """One that went well."""
    return exchange(**({"ended": 52.5, "outcome": Outcome.COMPLETED, "status": 200} | values))
