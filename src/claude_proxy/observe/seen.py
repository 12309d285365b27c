"""An exchange as a page shows it, running or over: plain values that travel between the workers of a machine."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from claude_proxy.exchange import Exchange, Failure
from claude_proxy.observe.live import Live, item
from claude_proxy.observe.siblings import Siblings

NANO = 10**9
BYTES_PER_TOKEN = 40  # of a stream: an event has 125 bytes around its few tokens; an estimate until usage is reported
SHOWN = 200  # running exchanges that are shown; how many more there are is said
OVERLAP = 2.0  # seconds that two looks have in common, so that nothing is lost between the clocks of two workers
Price = Callable[[Exchange], int | None]
Told = dict[str, Any]


def running(exchange: Exchange, now: float) -> dict[str, Any]:
    """A running exchange: what a row shows of it, in the field names of `live.item`, and since when it is in its state.

    Args:
        now: event-loop seconds.
    """
    exchange.refresh()
    heard, begun, usage = exchange.heard_at, exchange.started_at - exchange.started, exchange.usage
    return {
        "id": exchange.id,
        "state": exchange.state.value,
        "session": exchange.session,
        "project": exchange.project,
        "agent": exchange.agent,
        "class": exchange.request_class,
        "upstream": exchange.upstream or None,
        "model": exchange.model,
        "attempts": len(exchange.attempts),
        "bytes_out": exchange.bytes_out,
        "tokens": max((usage and usage.output) or 0, exchange.bytes_out // BYTES_PER_TOKEN),
        "estimate": exchange.stream,
        "started_ms": int(exchange.started_at * 1000),
        "heard_ms": None if heard is None else int((begun + heard) * 1000),
        "first_byte_ms": None if exchange.first_byte is None else round(exchange.first_byte * 1000),
        "silent_ms": None if heard is None else round((now - heard) * 1000),
        "place": None if exchange.place is None else exchange.place(),
    }


def ended(exchange: Exchange, price: Price) -> dict[str, Any]:
    """A finished exchange, in the books' field names, but before they have it.

    Args:
        price: nano-dollars of a finished exchange; None where no price is known.
    """
    shown = item(exchange, 0.0)
    failure = exchange.failure
    nano = price(exchange) if exchange.usage is not None else None
    return shown | {
        "project": exchange.project,
        "model_sent": exchange.model_sent,
        "model_served": exchange.model_served,
        "failed": exchange.failed,
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


class Together:
    """What all workers of this server know for the page; they are asked only while it is open.

    Args:
        live: of this worker.
        siblings: the others.
        price: nano-dollars of a finished exchange; None where no price is known.
        upstreams: this worker's, as the API shows them.
    """

    def __init__(self, live: Live, siblings: Siblings, price: Price, upstreams: Callable[[], list[Told]]) -> None:
        self._live = live
        self._siblings = siblings
        self._price = price
        self._upstreams = upstreams
        self._looked = 0.0
        siblings.on_question("seen", self._here)

    async def look(self, since: float = 0.0) -> list[Told]:
        """What each worker has; one that does not answer in time is missing.

        Args:
            since: event-loop seconds, which are the same in all processes of a machine; what ended before is left out.
        """
        others = await self._siblings.ask("seen", since)
        return [self._here(since), *others.data]

    async def news(self) -> list[Told]:
        """As `look`, with what ended since the last call. What has just ended may come twice."""
        since, self._looked = self._looked, _now() - OVERLAP
        return await self.look(since)

    def _here(self, since: float) -> Told:
        return told(self._live, self._price, _now(), since) | {"upstreams": self._upstreams()}


def _now() -> float:
    return asyncio.get_running_loop().time()


def told(live: Live, price: Price, now: float, since: float) -> Told:
    """This process's part: the newest running exchanges, how many run, and what has ended.

    Args:
        now, since: event-loop seconds.
    """
    exchanges = live.exchanges
    states = Counter(exchange.state.value for exchange in exchanges)
    return {
        "states": dict(states),
        "running": [running(exchange, now) for exchange in reversed(exchanges[-SHOWN:])],
        "ended": [ended(exchange, price) for exchange in live.ended_since(since)],
    }
