"""The canonical log line: one per exchange, everything that matters about it, no secrets, no bodies."""

from __future__ import annotations

from typing import Any

from claude_proxy import logs
from claude_proxy.exchange import Exchange, Listener, Outcome

_QUIET = frozenset((Outcome.COMPLETED, Outcome.CANCELLED))


class ExchangeLog(Listener):
    """Writes the line when an exchange ends: info, or warning when somebody has to act."""

    def on_exchange_end(self, exchange: Exchange) -> None:
        quiet = exchange.failure is None and exchange.outcome in _QUIET
        logs.line("info" if quiet else "warning", "exchange", fields(exchange))


def fields(exchange: Exchange) -> dict[str, Any]:
    """The line's fields; what is unknown is left out. Times in milliseconds."""
    line: dict[str, Any] = {
        "id": exchange.id,
        "method": exchange.method,
        "path": exchange.path,
        "status": exchange.status,
        "outcome": exchange.outcome,
        "ms": round(exchange.duration * 1000),
        "bytes_in": exchange.bytes_in,
        "bytes_out": exchange.bytes_out,
        "client": exchange.client,
        "upstream": exchange.upstream,
    }
    for name in ("model", "session", "agent", "request_class", "stop_reason", "upstream_request_id"):
        value = getattr(exchange, name)
        if value is not None:
            line[name] = value
    if exchange.first_byte is not None:
        line["first_byte_ms"] = round(exchange.first_byte * 1000)
    if exchange.stream:
        line["silence_ms"] = round(exchange.longest_silence * 1000)
    if exchange.pings:
        line["pings"] = exchange.pings
    if len(exchange.attempts) > 1:
        line["attempts"] = len(exchange.attempts)
    _add_usage(line, exchange)
    _add_failure(line, exchange)
    return line


def _add_usage(line: dict[str, Any], exchange: Exchange) -> None:
    usage = exchange.usage
    if usage is None:
        return
    for name in ("input", "output", "cache_read", "cache_write"):
        value = getattr(usage, name)
        if value is not None:
            line[f"tokens_{name}"] = value


def _add_failure(line: dict[str, Any], exchange: Exchange) -> None:
    failure = exchange.failure
    if failure is None:
        return
    line["side"] = failure.side
    line["error"] = failure.kind
    if failure.provider_code is not None:
        line["provider_code"] = failure.provider_code
    line["reason"] = failure.message
