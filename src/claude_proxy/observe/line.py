"""The canonical log line: one per exchange, with everything that matters about it, without secrets or bodies."""

from __future__ import annotations

from claude_proxy import logs
from claude_proxy.exchange import CANCELLED, COMPLETED, Exchange, Listener, Outcome, Usage

_NO_USAGE = Usage()
_QUIET = frozenset((COMPLETED, CANCELLED))
_AS_IT_SHOULD_BE = frozenset(("first", "grew"))


class ExchangeLog(Listener):
    """Writes the line when an exchange ends: at level info, or warning if a person has to act."""

    def on_exchange_end(self, exchange: Exchange) -> None:
        quiet = exchange.failure is None and exchange.outcome in _QUIET
        logs.line("info" if quiet else "warning", "exchange", line(exchange))


class Line(logs.Line, omit_defaults=True):
    """The line of one exchange. Times are in milliseconds; what is not known is left out."""

    id: str
    method: str
    path: str
    status: int
    outcome: Outcome | None
    ms: int
    bytes_in: int
    bytes_out: int
    client: str
    upstream: str
    account: str | None = None
    model: str | None = None
    model_sent: str | None = None
    session: str | None = None
    agent: str | None = None
    request_class: str | None = None
    stop_reason: str | None = None
    upstream_request_id: str | None = None
    first_byte_ms: int | None = None
    silence_ms: int | None = None
    pings: int = 0
    attempts: int | None = None
    tokens_input: int | None = None
    tokens_output: int | None = None
    tokens_cache_read: int | None = None
    tokens_cache_write: int | None = None
    cache: str | None = None
    side: str | None = None
    error: str | None = None
    provider_code: str | None = None
    reason: str | None = None


def line(exchange: Exchange) -> Line:
    """The line of a finished exchange."""
    usage, first_byte, attempts = exchange.usage or _NO_USAGE, exchange.first_byte, len(exchange.attempts)
    made = Line(  # by position: names would cost a microsecond more per exchange
        exchange.id,
        exchange.method,
        exchange.path,
        exchange.status,
        exchange.outcome,
        round(((exchange.ended or exchange.started) - exchange.started) * 1000),
        exchange.bytes_in,
        exchange.bytes_out,
        exchange.client,
        exchange.upstream,
        exchange.account,
        exchange.model,
        exchange.model_sent,
        exchange.session,
        exchange.agent,
        exchange.request_class,
        exchange.stop_reason,
        exchange.upstream_request_id,
        None if first_byte is None else round(first_byte * 1000),
        round(exchange.longest_silence * 1000) if exchange.stream else None,
        exchange.pings,
        attempts if attempts > 1 else None,
        usage.input,
        usage.output,
        usage.cache_read,
        usage.cache_write,
    )
    if exchange.cache is not None and exchange.cache.kind not in _AS_IT_SHOULD_BE:
        made.cache = str(exchange.cache)
    failure = exchange.failure
    if failure is not None:
        made.side, made.error, made.provider_code, made.reason = (
            failure.side,
            failure.kind,
            failure.provider_code,
            failure.message,
        )
    return made
