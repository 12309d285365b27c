"""Exchanges and sums as CSV (RFC 4180) for spreadsheets. Texts that a spreadsheet would evaluate as a formula are escaped."""

from __future__ import annotations

import csv as _csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from claude_proxy.cleaning import clean

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # OWASP, "CSV Injection"
_SUMS = (
    *("exchanges", "failed", "cancelled", "input_tokens", "output_tokens", "cache_read_input_tokens"),
    *("cache_creation_input_tokens", "cost_usd", "unpriced_exchanges", "credits"),
)
_EXCHANGE = (
    *("id", "started_at", "session", "agent", "parent_agent", "class", "client", "upstream", "account"),
    *(
        "model",
        "model_sent",
        "model_served",
        "kind",
        "stream",
        "status",
        "outcome",
        "failed",
        "stop_reason",
        "upstream_request_id",
        "cost_usd",
        "price",
        "credits",
    ),
    *("queue_ms", "first_byte_ms", "duration_ms", "silence_ms", "bytes_in", "bytes_out"),
)
_USAGE = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "web_searches")
_FAILURE = ("side", "kind", "provider_code", "message")


def cell(value: Any) -> Any:
    """A value as a cell: empty for None, and never a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    text = clean(value, 1000) or ""
    return f"'{text}" if text.startswith(_FORMULA) or value.startswith(_FORMULA) else text


def exchanges(items: Iterable[Mapping[str, Any]]) -> bytes:
    """A line for each exchange, in the order of `EXCHANGE_HEAD`."""
    return _lines(
        (
            *(item[key] for key in _EXCHANGE),
            *(item["usage"][key] for key in _USAGE),
            *((item["failure"] or {}).get(key) for key in _FAILURE),
        )
        for item in items
    )


def usage(report: Mapping[str, Any], *, breakdown: bool = False) -> bytes:
    """A line for each group of `Books.usage`, none for the totals: a spreadsheet can add them up.

    Args:
        breakdown: a line for each model of a group instead; the report has to have them.
    """
    by = report["by"]
    heads = ("key", "upstream", "account") if by == "window" else ("key",)
    columns = (*heads, *(("model",) if breakdown else ()), *_SUMS)
    found = ((group | part for part in group["breakdown"]) if breakdown else (group,) for group in report["groups"])
    lines = ([line[name] for name in columns] for lines in found for line in lines)
    return _lines([(by, *columns[1:]), *lines])


def _lines(rows: Iterable[Sequence[Any]]) -> bytes:
    file = io.StringIO(newline="")
    _csv.writer(file).writerows([cell(value) for value in row] for row in rows)
    return file.getvalue().encode()


EXCHANGE_HEAD = _lines([(*_EXCHANGE, *_USAGE, *(f"failure_{key}" for key in _FAILURE))])
