"""The listener: provides a tap for each Messages call, and passes finished exchanges to the thread."""

from __future__ import annotations

import structlog

from claude_proxy.exchange import Exchange, Listener, Tap
from claude_proxy.ledger.capture.options import MAX_IN_FLIGHT, CaptureOptions, Parcel
from claude_proxy.ledger.capture.preparing import Preparer
from claude_proxy.ledger.capture.store import Opener
from claude_proxy.ledger.capture.tap import CaptureTap
from claude_proxy.ledger.capture.worker import Worker
from claude_proxy.ledger.loop_log import LoopLog

CLOSE_TIMEOUT = 1.0  # seconds to write what waits at a stop

log = structlog.get_logger("capture")


class Capture(Listener):
    """Stores the bodies of Messages calls. On the path it only keeps references; a thread does the rest.

    Args:
        options: what to keep, and where.
        most: bytes in flight.
    """

    def __init__(self, options: CaptureOptions, *, most: int = MAX_IN_FLIGHT) -> None:
        self._mode = options.mode
        self._most = most
        self._taken = 0  # bytes reserved minus those released on the loop; the thread counts what it has released
        self._say = LoopLog(log)
        self.worker = Worker(Opener(options), Preparer(options.secrets), say=self._say)

    @property
    def in_flight(self) -> int:
        """Bytes of exchanges that run or wait to be written."""
        return self._taken - self.worker.given_back

    @property
    def lost(self) -> int:
        """Exchanges that should have been stored and were not."""
        return self.worker.lost

    async def start(self) -> None:
        """Start the thread."""
        self._say.bind()
        self.worker.start()

    async def aclose(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Write what waits, for at most `timeout` seconds."""
        if not await self.worker.stop(timeout):
            log.error("capture did not stop in time", waiting=self.worker.waiting)

    def tap(self, exchange: Exchange) -> Tap | None:
        if self._mode == "off" or exchange.method != "POST" or exchange.path != "/v1/messages":
            return None
        if not self.worker.accepting:
            if self.worker.failing:
                self.lose()
            return None
        return CaptureTap(self)

    def reserve(self, size: int) -> bool:
        """Reserve bytes in flight; returns whether there is room."""
        if self.in_flight + size > self._most:
            return False
        self._taken += size
        return True

    def release(self, size: int) -> None:
        """Release reserved bytes."""
        self._taken -= size

    def wants(self, exchange: Exchange) -> bool:
        """Whether to store a finished exchange."""
        return self._mode == "all" or exchange.failed

    def take(self, parcel: Parcel) -> None:
        """Pass a finished exchange to the thread, unless its queue is full."""
        if not self.worker.put(parcel):
            self._taken -= parcel.held

    def lose(self) -> None:
        """Count an exchange that is not stored."""
        self.worker.lose_one()
