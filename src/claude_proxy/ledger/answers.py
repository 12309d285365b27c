"""The dictionaries that readers get. Every number means the same on the page, the command line, in the API and in metrics."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from claude_proxy import ids

NANO, MICRO = 10**9, 10**6


def amounts(sums: Mapping[str, int]) -> dict[str, Any]:
    """The sums of a rollup, by the names that readers know.

    `exchanges`, `failed` and `cancelled` count Messages calls. `cost_usd` sums the priced ones at list price; it is None, not 0,
    if there was usage and none of it has a price. `credits` is None if no plan meters the exchanges.
    """
    return {
        "exchanges": sums["exchanges"],
        "failed": sums["failed"],
        "cancelled": sums["cancelled"],
        "input_tokens": sums["input"],
        "output_tokens": sums["output"],
        "cache_read_input_tokens": sums["cache_read"],
        "cache_creation_input_tokens": sums["cache_write_5m"] + sums["cache_write_1h"],
        "cost_usd": None if sums["unpriced"] and not sums["priced"] else sums["cost_nano"] / NANO,
        "unpriced_exchanges": sums["unpriced"],
        "credits": sums["credits_micro"] / MICRO if sums["credited"] else None,
        "web_searches": sums["web_searches"],
        "count_tokens_calls": sums["count_tokens"],
        "other_calls": sums["others"],
    }


def exchange_item(row: Mapping[str, Any], texts: Mapping[int, str]) -> dict[str, Any]:
    """A row of `exchange`, with its texts and in the API's names."""

    def text(column: str) -> str | None:
        return texts.get(row[column])

    number = int(row["id"])
    return {
        "id": ids.encode(number),
        "started_at": rfc3339(ids.milliseconds(number)),
        "session": text("session"),
        "agent": text("agent"),
        "parent_agent": text("parent_agent"),
        "class": text("class"),
        "client": text("client"),
        "user_agent": text("user_agent"),
        "upstream": text("upstream"),
        "account": text("account"),
        "model": text("model"),
        "model_sent": text("model_sent"),
        "model_served": text("model_served"),
        "kind": text("kind"),
        "stream": bool(row["stream"]),
        "status": row["status"],
        "outcome": text("outcome"),
        "failed": bool(row["failed"]),
        "failure": _failure(row, texts),
        "stop_reason": text("stop_reason"),
        "upstream_request_id": row["request_id"],
        "usage": _usage(row, texts),
        "cost_usd": None if row["cost_nano"] is None else row["cost_nano"] / NANO,
        "price": text("price"),
        "credits": None if row["credits_micro"] is None else row["credits_micro"] / MICRO,
        "queue_ms": row["queue_ms"],
        "first_byte_ms": row["first_byte_ms"],
        "duration_ms": row["duration_ms"],
        "silence_ms": row["silence_ms"],
        "bytes_in": row["bytes_in"],
        "bytes_out": row["bytes_out"],
        "cache": _cache(row, texts),
        "transcript": row["transcript"],
    }


def attempt_item(row: Mapping[str, Any], texts: Mapping[int, str]) -> dict[str, Any]:
    """A row of `attempt`."""
    return {
        "number": row["number"],
        "upstream": texts.get(row["upstream"]),
        "account": texts.get(row["account"]),
        "status": row["status"],
        "reused_connection": bool(row["reused"]),
        "sent_ms": row["sent_ms"],
        "head_ms": row["head_ms"],
        "failure": _failure(row, texts),
    }


def rfc3339(ms: int) -> str:
    """Unix milliseconds as RFC 3339 in UTC, to the millisecond."""
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def _failure(row: Mapping[str, Any], texts: Mapping[int, str]) -> dict[str, Any] | None:
    if not row["failure"]:
        return None
    return {
        "side": texts.get(row["side"]) if "side" in row else None,
        "kind": texts.get(row["failure"]),
        "message": texts.get(row["failure_text"]),
        "provider_code": texts.get(row["provider_code"]),
    }


def _usage(row: Mapping[str, Any], texts: Mapping[int, str]) -> dict[str, Any]:
    short, long = row["cache_write_5m"], row["cache_write_1h"]
    return {
        "input_tokens": row["input"],
        "output_tokens": row["output"],
        "cache_read_input_tokens": row["cache_read"],
        "cache_creation_input_tokens": None if short is None and long is None else (short or 0) + (long or 0),
        "cache_creation_5m_input_tokens": short,
        "cache_creation_1h_input_tokens": long,
        "web_searches": row["web_searches"],
        "service_tier": texts.get(row["service_tier"]),
        "speed": texts.get(row["speed"]),
        "inference_geo": texts.get(row["geo"]),
    }


def _cache(row: Mapping[str, Any], texts: Mapping[int, str]) -> dict[str, Any] | None:
    if not row["verdict"]:
        return None
    lost = row["lost_nano"]
    return {
        "verdict": texts.get(row["verdict"]),
        "area": texts.get(row["verdict_area"]),
        "block": row["verdict_block"],
        "message": row["verdict_message"],
        "lost_tokens": row["verdict_lost"],
        "lost_usd": None if lost is None else lost / NANO,
    }
