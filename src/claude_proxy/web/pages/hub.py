"""Keeps open pages of *Now* up to date: looks twice a second while somebody watches, and renders once for all in a language.

The path is not involved: the hub asks all workers what runs. A tick holds only what
changed; a reader that just came, or was too slow, gets everything.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import structlog

from claude_proxy import memory
from claude_proxy.observe.live import Full, Live
from claude_proxy.web.pages import wire
from claude_proxy.web.pages.board import Board, Delta
from claude_proxy.web.pages.now_context import hour_charts, hour_tables, rows_context
from claude_proxy.web.pages.rendering import render
from claude_proxy.web.pages.rows import Rows

if TYPE_CHECKING:
    from claude_proxy.web.negotiation import Language
    from claude_proxy.web.pages.pulse import Pulse

TICK = 0.5  # seconds
SLOWEST = 2.0  # seconds
SHARE = 0.003  # of a core, for all open pages together: while many rows change, looks are rarer
BEAT = 10.0  # seconds after which a silent stream gets a sign of life
QUEUE = 8  # ticks that may wait for one reader
MAX_READERS = 50
log = structlog.get_logger("page")


class Chunk(NamedTuple):
    """A part of the event stream, as it is and compressed."""

    raw: bytes
    packed: bytes


class Reader:
    """One open page: `next` in a loop, until it gives None.

    Attributes:
        fresh: whether it needs everything, not only what changed.
    """

    def __init__(self, language: Language) -> None:
        self.language: Language = language
        self.fresh = True
        self._waiting: deque[Chunk] = deque()
        self._wake = asyncio.Event()
        self._ended = False

    def put(self, chunk: Chunk) -> None:
        """Take a part; where too many wait, they are dropped, and everything comes next."""
        if self._ended:
            return
        if len(self._waiting) >= QUEUE:
            self._waiting.clear()
            self.fresh = True
            return
        self._waiting.append(chunk)
        self._wake.set()

    def end(self) -> None:
        """No more comes."""
        self._ended = True
        self._wake.set()

    def cut(self) -> None:
        """The reader may no longer read: what waits is dropped too."""
        self._waiting.clear()
        self.end()

    async def next(self) -> Chunk | None:
        """The next part, or None at the end."""
        while not self._waiting and not self._ended:
            self._wake.clear()
            await self._wake.wait()
        return self._waiting.popleft() if self._waiting else None


def pause(tick: float, spent: float) -> float:
    """Seconds until the next look, after one that took `spent` seconds of CPU."""
    return max(tick, min(SLOWEST, spent / SHARE))


class Hub:
    """The readers, and what keeps them up to date.

    Args:
        live: knows when this process stops.
        pulse: what the books say.
        news: what all workers tell.
        tick: seconds between two looks.
    """

    def __init__(
        self, live: Live, pulse: Pulse, news: Callable[[], Awaitable[list[dict[str, Any]]]], *, tick: float = TICK
    ) -> None:
        self._live = live
        self._spent = 0.0  # CPU seconds of the last look
        self._pulse = pulse
        self._news = news
        self._tick = tick
        self._readers: set[Reader] = set()
        self._board = Board()
        self._rows: dict[Language, Rows] = {}
        self._beaten = float("-inf")
        self._task: asyncio.Task[None] | None = None

    @property
    def readers(self) -> int:
        """How many pages are open."""
        return len(self._readers)

    def join(self, language: Language) -> Reader:
        """A new reader; let it `leave`.

        Raises:
            Full: there are too many.
        """
        if len(self._readers) >= MAX_READERS:
            raise Full
        reader = Reader(language)
        self._readers.add(reader)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="page")
        return reader

    def leave(self, reader: Reader) -> None:
        """The page was closed."""
        self._readers.discard(reader)

    async def _run(self) -> None:
        try:
            while self._readers:
                self._spent = 0.0
                try:
                    await self._look()
                except Exception as error:  # the next look is due in half a second
                    log.error("page_tick_failed", exc_info=error)
                if not await self._live.rest(pause(self._tick, self._spent)):
                    break
        finally:
            self._stop()

    def _stop(self) -> None:
        for reader in self._readers:
            reader.end()
        self._readers.clear()
        self._board = Board()
        self._rows = {}
        self._task = None
        memory.trim_later(asyncio.get_running_loop())

    async def _look(self) -> None:
        said = await self._pulse.read()
        began = time.thread_time()
        delta = self._board.update(await self._news(), said)  # nothing else is counted, unless other workers have to answer
        self._spent += time.thread_time() - began
        readers = list(self._readers)
        now = time.monotonic()
        beat = now - self._beaten >= BEAT
        wanted = {(reader.language, reader.fresh) for reader in readers if reader.fresh or delta or beat}
        if not wanted:
            return
        self._beaten = now
        chunks = await asyncio.to_thread(self._render, wanted, delta)
        for reader in readers:
            chunk = chunks.get((reader.language, reader.fresh))
            if chunk is not None:
                reader.fresh = False
                reader.put(chunk)

    def _render(self, wanted: set[tuple[Language, bool]], delta: Delta) -> dict[tuple[Language, bool], Chunk]:
        began = time.thread_time()
        chunks = {(language, fresh): self._chunk(language, delta, fresh=fresh) for language, fresh in wanted}
        self._spent += time.thread_time() - began
        return chunks

    def _chunk(self, language: Language, delta: Delta, *, fresh: bool) -> Chunk:
        board = self._board
        parts = []
        if fresh or any((delta.running, delta.gone, delta.finished, delta.dropped, delta.tiles)):
            context = rows_context(board, delta, fresh=fresh)
            context["rows"] = self._drawn(language, context["running"])
            parts.append(wire.message(render(language, "now_tick.html", context)))
        if fresh or delta.hour:
            parts.extend(self._hour(language))
        count = {"now": int(time.time() * 1000), "exchanges": board.total + len(board.finished)}
        parts.append(wire.message(_json(count), event="beat"))
        raw = b"".join(parts)
        return Chunk(raw, wire.packed(raw))

    def _drawn(self, language: Language, items: list[dict[str, Any]]) -> str:
        rows = self._rows.get(language)
        if rows is None:
            rows = self._rows[language] = Rows(language)
        rows.forget(self._board.running)
        return rows.draw(items)

    def _hour(self, language: Language) -> list[bytes]:
        hour = self._board.figures.hour
        if hour is None:
            return []
        parts = [wire.message(_json(hour_charts(language, hour)), event="charts")]
        parts.append(wire.message(render(language, "now_tables.html", hour_tables(hour))))
        return parts


def _json(data: Mapping[str, Any]) -> str:
    return msgspec.json.encode(data).decode()
