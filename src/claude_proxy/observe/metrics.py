"""The listener behind `/metrics`. The path only appends to a list, which is added up in batches off the path."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable
from pathlib import Path

import structlog

from claude_proxy import __version__
from claude_proxy.exchange import Exchange, Listener
from claude_proxy.observe import catalogue as c
from claude_proxy.observe import process, workers
from claude_proxy.observe.catalogue import Metric
from claude_proxy.observe.counting import Counting
from claude_proxy.observe.exposition import render
from claude_proxy.observe.sharing import Sharing
from claude_proxy.observe.sources import Sources
from claude_proxy.observe.tally import Key, Snapshot, Tally
from claude_proxy.routing.snapshot import UP

BATCH = 200  # exchanges that are added up at once: about half a millisecond of the event loop
PERIOD = 1.0  # seconds after which fewer are
EJECTED = "ejected"
log = structlog.get_logger("metrics")


class Metrics(Listener):
    """Counts exchanges, and adds what `sources` count.

    Args:
        sources: what other rooms know.
        data_dir: where the workers of a server find one another; None keeps each to itself.
        group: names the workers that answer together, None for a process that works alone; called at the start.
    """

    def __init__(
        self,
        sources: Sources | None = None,
        *,
        data_dir: Path | None = None,
        group: Callable[[], str | None] = workers.group,
    ) -> None:
        self._sources = sources or Sources()
        self._tally = Tally()
        self._counting = Counting(self._tally, self._sources)
        self._pending: list[Exchange] = []
        self._timer: asyncio.TimerHandle | None = None
        self._ejected: set[str] = set()
        self._pulled: dict[Key, float] = {}
        self._own_errors = 0
        self._data_dir = data_dir
        self._group = group
        self._sharing: Sharing | None = None

    # -- what the path calls

    def on_exchange_end(self, exchange: Exchange) -> None:
        pending = self._pending
        pending.append(exchange)
        if len(pending) == 1:
            self._timer = asyncio.get_running_loop().call_later(PERIOD, self._add_up)
        elif len(pending) >= BATCH:
            self._add_up()

    def on_upstream_state(self, upstream: str, state: str) -> None:
        if state == EJECTED:
            self._ejected.add(upstream)
        else:
            self._ejected.discard(upstream)

    # -- beside the path

    @property
    def leads(self) -> bool:
        """Whether this worker is the one that acts for all of them."""
        return self._sharing is None or self._sharing.leads

    async def start(self) -> None:
        """Find the other workers, if there can be any."""
        group = self._group()
        if group is not None and self._data_dir is not None:
            self._sharing = Sharing(self._data_dir, group, self._tally, self._refresh)
            await self._sharing.start()

    async def aclose(self) -> None:
        """Hand what has not been reported to the other workers."""
        self._add_up()
        if self._sharing is not None:
            await self._sharing.aclose()

    async def text(self, *, openmetrics: bool = False, gzipped: bool = False) -> bytes:
        """The body of a `/metrics` response: the numbers of all workers of this server.

        Raises:
            Unavailable: the worker that keeps the sums does not answer, and no other has taken its place yet.
        """
        if self._sharing is not None:
            snapshot = await self._sharing.snapshot()
        else:
            gauges = self._refresh()
            snapshot = Snapshot(self._tally.copy(), gauges)
        return await asyncio.to_thread(render, snapshot, openmetrics=openmetrics, gzipped=gzipped)

    def _add_up(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pending, self._pending = self._pending, []
        for error in self._counting.add(pending):
            self._failed("exchange", error)

    def _refresh(self) -> list[tuple[Key, float]]:
        """Add up what waits and what the sources count; returns the gauges of this process."""
        self._add_up()
        sources = self._sources
        self._pull(c.LISTENER_ERRORS, lambda: sources.listener_errors() + self._own_errors)
        self._pull(c.LOG_LINES_LOST, sources.log_lines_lost)
        self._pull(c.LEDGER_LOST, sources.ledger_lost)
        self._pull(c.CPU, process.cpu_seconds)
        self._contain("notices", self._pull_notices)
        gauges = process.gauges()
        gauges.append(((c.WORKERS.name,), 1))
        gauges.append(((c.BUILD.name, __version__, platform.python_version()), 1))
        self._contain("in_flight", lambda: gauges.append(((c.IN_FLIGHT.name,), sources.in_flight())))
        self._contain("ledger_queue", lambda: gauges.append(((c.LEDGER_QUEUE.name,), sources.ledger_queue())))
        self._contain("upstreams", lambda: gauges.extend(self._upstreams()))
        self._contain("queued", lambda: gauges.extend(self._queued()))
        self._contain("quota", lambda: gauges.extend(self._quota()))
        return gauges

    def _pull(self, metric: Metric, count: Callable[[], float], *labels: str) -> None:
        """Add the growth of a source's count, which never shrinks."""

        def add() -> None:
            cell = self._tally.cell(metric, *labels)
            key, now = (metric.name, *labels), count()
            cell[0] += max(now - self._pulled.get(key, 0), 0)
            self._pulled[key] = now

        self._contain(metric.name, add)

    def _pull_notices(self) -> None:
        for result, count in self._sources.notices().items():
            self._pull(c.NOTICES, lambda count=count: count, result)  # type: ignore[misc]

    def _upstreams(self) -> list[tuple[Key, float]]:
        names = dict.fromkeys((*self._sources.upstreams(), *sorted(self._ejected)))
        down = self._ejected | {name for name, one in self._sources.queued().items() if one.state != UP}
        return [((c.UPSTREAM_UP.name, name), 0 if name in down else 1) for name in names]

    def _queued(self) -> list[tuple[Key, float]]:
        found: list[tuple[Key, float]] = []
        for name, one in self._sources.queued().items():
            found.append(((c.QUEUE_WAITING.name, name), one.waiting))
            found.append(((c.QUEUE_SENT.name, name), sum(lane.in_flight for lane in one.lanes)))
            if one.limit is not None:
                found.append(((c.QUEUE_LIMIT.name, name), one.limit))
        return found

    def _quota(self) -> list[tuple[Key, float]]:
        found: list[tuple[Key, float]] = []
        for window in self._sources.quota():
            labels = window.upstream, window.account, window.name
            if window.used is not None:
                found.append(((c.QUOTA_USED.name, *labels), window.used))
            if window.reset is not None:
                found.append(((c.QUOTA_RESET.name, *labels), max(window.reset, 0.0)))
        return found

    def _contain(self, what: str, read: Callable[[], object]) -> None:
        """Read a source; one that fails costs only its own numbers."""
        try:
            read()
        except Exception as error:
            self._failed(what, error)

    def _failed(self, what: str, error: Exception) -> None:
        self._own_errors += 1
        if self._own_errors == 1:  # the next ones are in claude_proxy_listener_errors_total
            log.error("metrics failed", of=what, exc_info=error)
