"""The sums of several workers: each reports to a leader once a second, and each can answer with the leader's sums.

The leader is elected by a file lock. When it dies another worker takes its place, and the sums begin at zero: Prometheus
handles counters that restart at zero, but would take partial sums for new events.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from claude_proxy.errors import Unavailable
from claude_proxy.observe.election import Election, NoElection
from claude_proxy.observe.leading import Gauges, Leading
from claude_proxy.observe.reports import Report, Taken, read, write
from claude_proxy.observe.tally import Cell, Key, Snapshot, Tally

PERIOD = 1.0  # seconds between reports
PATIENCE = 2.0  # seconds that an answer may take
_UNANSWERED = (OSError, EOFError, ValueError)  # TimeoutError is an OSError; a broken message is a ValueError
_decoder = msgspec.msgpack.Decoder(Taken)
log = structlog.get_logger("metrics")


class Sharing:
    """One worker's part, as the leader or as a reporter.

    Args:
        data_dir: where the workers meet.
        group: names the workers that belong together.
        tally: this worker's sums; the leader's become those of all workers.
        refresh: brings `tally` up to date and returns this worker's gauges.
        period: seconds between reports.
        patience: seconds that the leader may take to answer.
    """

    def __init__(
        self,
        data_dir: Path,
        group: str,
        tally: Tally,
        refresh: Callable[[], Gauges],
        *,
        period: float = PERIOD,
        patience: float = PATIENCE,
    ) -> None:
        self._election = Election(data_dir, group)
        self._leading = Leading(tally, refresh)
        self._tally = tally
        self._refresh = refresh
        self._period = period
        self._patience = patience
        self._alone = False
        self._name = os.urandom(6).hex()
        self._number = 0
        self._unsure: list[tuple[Key, Cell]] | None = None  # reported and not confirmed
        self._link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()  # one conversation at a time
        self._task: asyncio.Task[None] | None = None

    @property
    def leads(self) -> bool:
        """Whether this process has the sums to answer with: it is the leader, or cannot reach the others."""
        return self._alone or self._leading.running

    async def start(self) -> None:
        """Elect a leader, and begin to report."""
        async with self._turn:
            await self._elect()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="metrics")

    async def aclose(self) -> None:
        """Report a last time, or give up the leadership."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        if not self.leads:
            with contextlib.suppress(*_UNANSWERED):
                async with asyncio.timeout(self._patience / 4), self._turn:
                    await self._report()
        self._hang_up()
        await self._leading.aclose()
        self._election.resign()

    async def snapshot(self) -> Snapshot:
        """The sums of all workers.

        Raises:
            Unavailable: the leader does not answer, and its place is not free.
        """
        async with self._turn:
            for _ in range(2):  # once more after an election: the leader may have ended just now
                if self.leads:
                    return self._leading.everything()
                with contextlib.suppress(*_UNANSWERED):
                    answer = await self._report(asks=True)
                    if answer.everything is not None:
                        return answer.everything
                await self._elect()
            if self.leads:
                return self._leading.everything()
        raise Unavailable(
            "The worker of this proxy that adds up the metrics does not answer. Ask again in a few seconds: another worker takes "
            "over as soon as that one has ended.",
            code="metrics_leader",
        )

    async def _run(self) -> None:
        while not self.leads:
            await asyncio.sleep(self._period)
            async with self._turn:
                if not self.leads:
                    await self._report_or_elect()

    async def _report_or_elect(self) -> None:
        try:
            await self._report()
        except Exception as error:  # any of them: the next report is due in a second
            if not isinstance(error, _UNANSWERED):
                log.error("metrics_report_failed", exc_info=error)
            await self._elect()

    # -- electing; the caller holds the turn

    async def _elect(self) -> None:
        """Take the leadership if it is free."""
        try:
            if not self._election.stand():
                return
            assert self._election.socket is not None
            await self._leading.start(self._election.socket)
            self._election.announce()
            log.debug("metrics_leader", pid=os.getpid())
        except (NoElection, OSError) as error:
            await self._leading.aclose()
            self._election.resign()
            self._alone = True
            note = f"{error}. Each worker answers /metrics and the API's live for itself; DATA_DIR must be a folder to write to."
            log.warning("metrics_not_shared", note=note)
        self._hang_up()
        unsure, self._unsure = self._unsure, None
        self._tally.add(unsure or ())  # what was not confirmed now counts here

    # -- reporting; the caller holds the turn

    async def _report(self, *, asks: bool = False) -> Taken:
        """Report what came since the last time.

        Raises:
            OSError, EOFError, ValueError: no answer. The report is kept, to be repeated under its own number.
        """
        try:
            async with asyncio.timeout(self._patience):
                if self._unsure is not None:
                    await self._send(Snapshot(self._unsure, []))
                gauges = self._refresh()
                self._unsure = self._tally.drain()
                self._number += 1
                return await self._send(Snapshot(self._unsure, gauges), asks=asks)
        except BaseException:  # also a cancellation: the next bytes on this connection would be the answer to this report
            self._hang_up()
            raise

    async def _send(self, news: Snapshot, *, asks: bool = False) -> Taken:
        if self._link is None:
            path = self._election.leader()
            if path is None:
                raise ConnectionError("there is no leader yet")
            self._link = await asyncio.open_unix_connection(path)
        reader, writer = self._link
        write(writer, Report(self._name, self._number, news, asks))
        await writer.drain()
        taken = await read(reader, _decoder)
        self._unsure = None
        return taken

    def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link[1].close()
