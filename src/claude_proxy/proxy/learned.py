"""What the queue has learned about each account's limit, kept in DATA_DIR so that a restart does not lose it.

A file that is missing, damaged or cannot be written costs a few refusals, nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from pathlib import Path

import msgspec
import structlog

from claude_proxy.exchange import Listener
from claude_proxy.routing.queue import Queue

NAME = "limits.json"
EVERY = 60.0  # seconds between two writes
MOST_BYTES = 1024 * 1024
MOST = 5000  # accounts; clients' own come and go, and the file must stay below MOST_BYTES
log = structlog.get_logger("queue")
Learned = dict[str, dict[str, float | int | None]]
_decode = msgspec.json.Decoder(Learned).decode


class LearnedLimits(Listener):
    """Loads the limits at the start, and saves them each minute and at the end.

    Args:
        queue: the queue whose limits they are.
        folder: DATA_DIR.
    """

    def __init__(self, queue: Queue, folder: Path) -> None:
        self._queue = queue
        self._path = folder / NAME
        self._saved: Learned = {}
        self._task: asyncio.Task[None] | None = None
        self._writing = threading.Lock()  # a cancelled write goes on in its thread

    async def start(self) -> None:
        """Load what an earlier process has learned."""
        self._saved = await asyncio.to_thread(self._read)
        self._queue.load(self._saved)
        self._task = asyncio.get_running_loop().create_task(self._keep_saving())

    async def aclose(self) -> None:
        """Save a last time."""
        if self._task is not None:
            self._task.cancel()
        await self.save()

    async def save(self) -> None:
        """Write the limits, if they have changed."""
        learned = dict(list(self._queue.dump().items())[-MOST:])  # those in use come last
        if learned != self._saved:
            self._saved = learned
            await asyncio.to_thread(self._write, learned)

    async def _keep_saving(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            await self.save()

    def _read(self) -> Learned:
        try:
            with self._path.open("rb") as file:
                return _decode(file.read(MOST_BYTES))
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            log.warning("limits", problem=f"{self._path.name} cannot be read: {error}", note="limits are learned again")
            return {}

    def _write(self, learned: Learned) -> None:
        beside = self._path.with_name(f"{NAME}.{os.getpid()}")
        try:
            with self._writing:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                beside.write_bytes(msgspec.json.encode(learned))
                beside.replace(self._path)
        except OSError as error:
            log.warning("limits", problem=f"{self._path.name} cannot be written: {error.strerror}")
            with contextlib.suppress(OSError):
                beside.unlink()
