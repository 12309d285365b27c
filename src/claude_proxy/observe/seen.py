"""An exchange as a page shows it, running or over: plain values that travel between the workers of a machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from claude_proxy.exchange import Exchange, Failure, Outcome
from claude_proxy.observe.live import Live, Watcher, item

NANO = 10**9
BYTES_PER_TOKEN = 40  # of a stream: an event has 125 bytes around its few tokens; an estimate until usage is reported
SHOWN = 200  # running exchanges that are shown; how many more there are is said
Price = Callable[[Exchange], int | None]


def running(exchange: Exchange, now: float) -> dict[str, Any]:
    """A running exchange: what `live.item` says, its project, and since when it is as it is.

    Args:
        now: event-loop seconds.
    """
    shown = item(exchange, now)
    heard = None if exchange.heard_at is None else exchange.heard_at - exchange.started
    return shown | {
        "project": exchange.project,
        "started_ms": int(exchange.started_at * 1000),
        "heard_ms": None if heard is None else int((exchange.started_at + heard) * 1000),
        "tokens": max(shown["usage"]["output_tokens"] or 0, exchange.bytes_out // BYTES_PER_TOKEN),
        "estimate": exchange.stream,
    }


def ended(exchange: Exchange, price: Price) -> dict[str, Any]:
    """A finished exchange, with the names of the books and before they have it.

    Args:
        price: nano-dollars of a finished exchange; None where no price is known.
    """
    shown = item(exchange, 0.0)
    failure = exchange.failure
    nano = price(exchange) if exchange.usage is not None else None
    cancelled = exchange.outcome is Outcome.CANCELLED
    return shown | {
        "project": exchange.project,
        "model_served": exchange.model_served,
        "failed": not cancelled and (failure is not None or exchange.outcome is not Outcome.COMPLETED or exchange.status >= 400),
        "failure": None if failure is None else _failure(failure),
        "cost_usd": None if nano is None else nano / NANO,
        "cache": None if exchange.cache is None else {"verdict": exchange.cache.kind},
    }


def _failure(failure: Failure) -> dict[str, Any]:
    return {
        "side": failure.side,
        "kind": failure.kind,
        "message": failure.message,
        "provider_code": failure.provider_code,
    }


def told(live: Live, watcher: Watcher, price: Price, now: float) -> dict[str, Any]:
    """What this process tells of itself to those who look: the newest running exchanges, how many run, and what ended since.

    Args:
        watcher: the one who looks; remembers what it has been told.
        now: event-loop seconds.
    """
    exchanges = live.exchanges
    states = Counter(exchange.state.value for exchange in exchanges)
    newest = exchanges[-SHOWN:]
    finished = watcher.take_ended()[-SHOWN:]
    return {
        "states": dict(states),
        "running": [running(exchange, now) for exchange in reversed(newest)],
        "ended": [ended(exchange, price) for exchange in finished],
    }
