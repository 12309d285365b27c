"""The leader's side of sharing: it adds up what the other workers report, and knows the gauges of those that are connected."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from claude_proxy.observe.reports import Report, Taken, read, write
from claude_proxy.observe.tally import Key, Snapshot, Tally, merge_gauges

MAX_REMEMBERED = 256  # workers whose last report's number is remembered
_LAST_WORDS = 1.0  # seconds that connections get to end
_decoder = msgspec.msgpack.Decoder(Report)
Gauges = list[tuple[Key, float]]


class Leading:
    """Takes reports on a Unix socket.

    Args:
        tally: this worker's sums, to which those of the others are added.
        refresh: brings `tally` up to date and returns this worker's gauges.
    """

    def __init__(self, tally: Tally, refresh: Callable[[], Gauges]) -> None:
        self._tally = tally
        self._refresh = refresh
        self._last: dict[str, int] = {}
        self._gauges: dict[str, Gauges] = {}
        self._links: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None

    @property
    def running(self) -> bool:
        """Whether reports are taken."""
        return self._server is not None

    async def start(self, path: Path) -> None:
        """Listen.

        Raises:
            OSError: that is not possible at `path`.
        """
        self._server = await asyncio.start_unix_server(self._serve, path)

    async def aclose(self) -> None:
        """Drop the connections: the other workers elect a new leader then."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for writer in self._links.values():
            writer.close()
        tasks = [task for task in self._links if task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST_WORDS)

    def everything(self) -> Snapshot:
        """All sums, and all gauges merged."""
        own = self._refresh()
        return Snapshot(self._tally.copy(), merge_gauges((own, *self._gauges.values())))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._links[task] = writer
        worker = None
        try:
            while True:
                report = await read(reader, _decoder)
                worker = report.worker
                self._take(report)
                write(writer, Taken(self.everything() if report.asks else None))
                await writer.drain()
        except (OSError, EOFError, ValueError):
            return  # it has gone, or sent a broken message
        finally:
            if worker is not None:
                self._gauges.pop(worker, None)
            del self._links[task]
            with contextlib.suppress(OSError):
                writer.close()

    def _take(self, report: Report) -> None:
        """Add a report, unless it repeats the last one."""
        if report.news.gauges:  # a repeated report has none
            self._gauges[report.worker] = report.news.gauges
        if report.number <= self._last.get(report.worker, 0):
            return
        if len(self._last) >= MAX_REMEMBERED and report.worker not in self._last:
            del self._last[next(iter(self._last))]
        self._last[report.worker] = report.number
        self._tally.add(report.news.sums)
