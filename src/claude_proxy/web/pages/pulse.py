"""What *Now* takes from the books: the last hour, today, and the plan; read every few seconds at most."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from claude_proxy.errors import NoBooks
from claude_proxy.ledger import periods, when
from claude_proxy.web.api.asking import ask

if TYPE_CHECKING:
    from claude_proxy.ledger.queries import Books
    from claude_proxy.web.api.asking import Sources

log = structlog.get_logger("page")
FRESH = 5.0  # seconds that an answer is reused at least
STALE = 30.0  # and at most
SHARE = 0.001  # of a core, at most, for reading them
FINISHED = 20  # finished exchanges that are shown


@dataclass(frozen=True, slots=True)
class Figures:
    """An answer of the books.

    Attributes:
        hour: as `Books.minutes`; None if they cannot be read.
        today: sums since midnight of the proxy's time zone.
        quota: plans with their windows.
        finished: the last exchanges, the newest first, as `Books.exchanges` has them, with their project.
        problem: why they cannot be read.
    """

    hour: dict[str, Any] | None = None
    today: dict[str, Any] | None = None
    quota: list[dict[str, Any]] = field(default_factory=list)
    finished: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None


class Pulse:
    """Reads the figures, once for all who ask at the same time.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, sources: Sources, clock: Callable[[], float] | None = None) -> None:
        self._sources = sources
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._due = float("-inf")
        self._spent = 0.0  # CPU seconds of the last reading
        self._figures = Figures()
        self._reading: asyncio.Task[Figures] | None = None

    async def read(self) -> Figures:
        """The figures, some seconds old at most (FRESH, STALE). Empty books are read each time: the first exchange is due."""
        if self._figures.finished and self._clock() < self._due:
            return self._figures
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read(), name="pulse")
            self._reading.add_done_callback(self._done)
        return await asyncio.shield(self._reading)

    async def _read(self) -> Figures:
        try:
            figures = await ask(self._sources.reader, self._figures_of)
        except NoBooks as error:
            figures = Figures(problem=str(error))
        except Exception as error:  # what runs is shown whatever the books do
            log.error("page_figures_failed", exc_info=error)
            figures = Figures(problem="The books could not be read; the proxy's log says why.")
        return self._keep(figures)

    def _keep(self, figures: Figures) -> Figures:
        self._figures = figures
        self._due = self._clock() + max(FRESH, min(STALE, self._spent / SHARE))
        return figures

    def _done(self, _: asyncio.Task[Figures]) -> None:
        self._reading = None

    def _figures_of(self, books: Books) -> Figures:
        began = time.thread_time()
        try:
            return self._asked(books)
        finally:
            self._spent = time.thread_time() - began

    def _asked(self, books: Books) -> Figures:
        zone = self._sources.timezone
        midnight = when.moment("today", periods.zone(zone), self._sources.wall())
        finished = books.exchanges(FINISHED)["items"]
        projects = books.projects(item["session"] for item in finished if item["session"])
        return Figures(
            hour=books.minutes(60),
            today=books.usage("day", since=midnight, timezone=zone)["totals"],
            quota=books.quota()["items"],
            finished=[item | {"project": projects.get(item["session"])} for item in finished],
        )
