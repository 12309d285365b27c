"""What other rooms count, pulled when metrics are read. The wiring gives callables, so that no room imports another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from claude_proxy.exchange import Exchange
from claude_proxy.routing.snapshot import UpstreamView


class QuotaWindow(NamedTuple):
    """One window of a plan, by the provider's own count.

    Attributes:
        name: such as "5h" or "week".
        used: share, 0 to 1 and more; None if the provider does not say.
        reset: seconds until it restarts; None if the provider does not say.
        upstream, account: whose plan it is.
    """

    name: str
    used: float | None
    reset: float | None
    upstream: str = ""
    account: str = ""


def _zero() -> int:
    return 0


def _perhaps(_: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Sources:
    """Called from the event loop, so none may wait. One that raises is left out of the response and counted.

    Attributes:
        upstreams: the names of those that are configured.
        queued: what the queue knows of upstreams, by name.
        in_flight: exchanges that are running.
        listener_errors: contained exceptions so far.
        log_lines_lost: so far.
        ledger_lost: rows so far.
        ledger_queue: rows that wait to be written.
        notices: how many so far, by what became of them (`sent`, `lost`).
        quota: the plans' windows; none where they are not known.
        has_prices: whether an exchange with this upstream can have a price or credits at all.
        price: nano-dollars of a finished exchange, None if it has no price. Without a price list, no cost is shown.
        credits: micro-credits of a finished exchange, None where it went to no plan.
    """

    upstreams: Callable[[], Iterable[str]] = tuple
    queued: Callable[[], Mapping[str, UpstreamView]] = dict
    in_flight: Callable[[], int] = _zero
    listener_errors: Callable[[], int] = _zero
    log_lines_lost: Callable[[], int] = _zero
    ledger_lost: Callable[[], int] = _zero
    ledger_queue: Callable[[], int] = _zero
    notices: Callable[[], Mapping[str, int]] = dict
    quota: Callable[[], Iterable[QuotaWindow]] = tuple
    has_prices: Callable[[str], bool] = _perhaps
    price: Callable[[Exchange], int | None] | None = None
    credits: Callable[[Exchange], int | None] | None = None
