"""The listener that records exchanges in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog

from claude_proxy.exchange import Exchange, Listener
from claude_proxy.ledger.loop_log import LoopLog
from claude_proxy.ledger.options import Entry, NotReadable, Say, Store
from claude_proxy.ledger.record import UNKNOWN, Charge, Record, record
from claude_proxy.ledger.writer import State, Writer

CLOSE_TIMEOUT = 1.5  # seconds to write what waits at a stop

log = structlog.get_logger("ledger")


class Ledger(Listener):
    """Records every exchange. On the path it makes a record and appends it; a thread does the rest.

    Args:
        opener: called once, in the thread, with the log to use; returns what opens the store. It loads the database's modules.
        price: what a record cost.
        on_loss: called on the event loop when rows begin to be lost, with their number so far.
        on_batch: called with each batch once, in the thread (metrics).
    """

    def __init__(
        self,
        opener: Callable[[Say], Callable[[], Store]],
        *,
        price: Callable[[Record], Charge] = lambda _: UNKNOWN,
        on_loss: Callable[[int], None] | None = None,
        on_batch: Callable[[Sequence[Entry]], None] | None = None,
    ) -> None:
        self._opener = opener
        self._open: Callable[[], Store] | None = None
        self._on_loss = on_loss
        self._say = LoopLog(log)
        self.writer = Writer(self._open_store, say=self._say, price=price, on_loss=self._lost, on_batch=on_batch)

    async def start(self) -> None:
        """Start the thread. Exchanges that ended before are written now."""
        self._say.bind()
        self.writer.start()

    async def aclose(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Write what waits, for at most `timeout` seconds."""
        if not await self.writer.stop(timeout):
            log.error("the ledger did not stop in time", waiting=self.writer.waiting, reason=self.writer.reason)

    @property
    def in_memory(self) -> Callable[[], Any] | None:
        """How readers in this process reach a ledger that is kept in memory; None for one that is in a file or a server."""
        return getattr(self._open, "reading", None)

    @property
    def opening(self) -> bool:
        """Whether the database is not open yet: so it is for some tenths of a second after the start."""
        return self.writer.state is State.STARTING

    @property
    def shut(self) -> NotReadable | None:
        """Why the ledger cannot be read in this process; None if it can."""
        state = self.writer.state
        if state is State.OFF:
            return NotReadable(f"The ledger is off: {self.writer.reason}")
        if self.opening:
            return NotReadable("The ledger is not open yet. Try again in a second.", retry_after=1)
        return None

    def on_exchange_end(self, exchange: Exchange) -> None:
        if self.writer.accepting:
            self.writer.put(record(exchange))

    def _open_store(self) -> Store:
        if self._open is None:
            self._open = self._opener(self._say)
        return self._open()

    def _lost(self, lost: int) -> None:
        if self._on_loss is not None:
            self._say.call(partial(self._on_loss, lost))
