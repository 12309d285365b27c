"""The canonical log line: one per exchange, with everything that matters about it, without secrets or bodies."""

from __future__ import annotations

from typing import Any

from claude_proxy import logs
from claude_proxy.exchange import Exchange, Failure, Listener, Outcome, Usage

_QUIET = frozenset((Outcome.COMPLETED, Outcome.CANCELLED))
_AS_IT_SHOULD_BE = frozenset(("first", "grew"))


class ExchangeLog(Listener):
    """Writes the line when an exchange ends: at level info, or warning if a person has to act."""

    def on_exchange_end(self, exchange: Exchange) -> None:
        quiet = exchange.failure is None and exchange.outcome in _QUIET
        logs.line("info" if quiet else "warning", "exchange", fields(exchange))


def fields(exchange: Exchange) -> dict[str, Any]:
    """Return the line's fields, leaving out unknown ones. Times are in milliseconds."""
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
    _add_names(line, exchange)
    if exchange.first_byte is not None:
        line["first_byte_ms"] = round(exchange.first_byte * 1000)
    if exchange.stream:
        line["silence_ms"] = round(exchange.longest_silence * 1000)
    if exchange.pings:
        line["pings"] = exchange.pings
    if len(exchange.attempts) > 1:
        line["attempts"] = len(exchange.attempts)
    if exchange.usage is not None:
        _add_usage(line, exchange.usage)
    if exchange.cache is not None and exchange.cache.kind not in _AS_IT_SHOULD_BE:
        line["cache"] = str(exchange.cache)
    if exchange.failure is not None:
        _add_failure(line, exchange.failure)
    return line


def _add_names(line: dict[str, Any], exchange: Exchange) -> None:
    """Add the names one by one, because a loop over them costs four times as much, in each exchange."""
    if exchange.account is not None:
        line["account"] = exchange.account
    if exchange.model is not None:
        line["model"] = exchange.model
    if exchange.model_sent is not None:
        line["model_sent"] = exchange.model_sent
    if exchange.session is not None:
        line["session"] = exchange.session
    if exchange.agent is not None:
        line["agent"] = exchange.agent
    if exchange.request_class is not None:
        line["request_class"] = exchange.request_class
    if exchange.stop_reason is not None:
        line["stop_reason"] = exchange.stop_reason
    if exchange.upstream_request_id is not None:
        line["upstream_request_id"] = exchange.upstream_request_id


def _add_usage(line: dict[str, Any], usage: Usage) -> None:
    if usage.input is not None:
        line["tokens_input"] = usage.input
    if usage.output is not None:
        line["tokens_output"] = usage.output
    if usage.cache_read is not None:
        line["tokens_cache_read"] = usage.cache_read
    if usage.cache_write is not None:
        line["tokens_cache_write"] = usage.cache_write


def _add_failure(line: dict[str, Any], failure: Failure) -> None:
    line["side"] = failure.side
    line["error"] = failure.kind
    if failure.provider_code is not None:
        line["provider_code"] = failure.provider_code
    line["reason"] = failure.message
