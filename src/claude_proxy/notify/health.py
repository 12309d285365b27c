"""Looks once a minute after what no exchange shows: rows that the books lose, and the space in DATA_DIR."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from claude_proxy.notify.events import Condition, Event
from claude_proxy.notify.fault import condition

PERIOD = 60.0  # seconds
CALM = 600.0  # seconds without a lost row after which losing is over
LOW_BYTES = 512 * 1024**2  # less is nearly full, unless the disk itself is small
LOW_SHARE = 0.05
BACK = 1.5  # times that much is enough again
Space = Callable[[], tuple[int, int]]


class Health:
    """Tells the rules when something begins or ends. The first look tells both, for what an earlier run may have left open.

    Args:
        submit: takes the events.
        ledger_lost: rows that the ledger has lost so far.
        space: bytes in all and free, called in a thread; raises OSError if that cannot be told.
        period: seconds between two looks.
    """

    def __init__(
        self, submit: Callable[[Event], None], *, ledger_lost: Callable[[], int], space: Space, period: float = PERIOD
    ) -> None:
        self._submit = submit
        self._ledger_lost = ledger_lost
        self._space = space
        self._period = period
        self._told: dict[str, bool] = {}
        self._lost = 0
        self._lost_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look. Needs a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="notices-health")

    async def aclose(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(self._period)

    async def look(self) -> None:
        """Look once."""
        self._ledger(asyncio.get_running_loop().time())
        try:
            total, free = await asyncio.to_thread(self._space)
        except OSError:
            return
        enough = min(LOW_BYTES, LOW_SHARE * total) * (BACK if self._told.get("disk_low") else 1.0)
        self._tell("disk_low", free < enough, f"{free // 1024**2} of {total // 1024**2} MiB are free in DATA_DIR.")

    def _ledger(self, now: float) -> None:
        lost = self._ledger_lost()
        if lost > self._lost:
            self._lost, self._lost_at = lost, now
        self._tell("ledger_losing", now - self._lost_at < CALM, f"{lost} exchanges are lost so far.")

    def _tell(self, word: str, on: bool, message: str) -> None:
        if self._told.get(word) != on:
            self._told[word] = on
            self._submit(Condition(condition(word, message if on else ""), on))


def space_of(folder: Path) -> tuple[int, int]:
    """Bytes in all and free of the file system of a folder, or of the nearest one above it that exists.

    Raises:
        OSError: that cannot be told.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    return usage.total, usage.free
