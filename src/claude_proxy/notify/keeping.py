"""The file in DATA_DIR that lets notices survive a restart: open incidents, what waits, what was told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from claude_proxy.notify.publisher import Item, Known
from claude_proxy.notify.rules import RulesState

FORMAT = 1
DELAY = 1.0  # seconds within which counts are written; what is to be pushed is written at once
MAX_BYTES = 8 * 1024**2
log = structlog.get_logger("notify")


class Kept(msgspec.Struct):
    """All that is kept."""

    format: int
    rules: RulesState
    queue: list[Item] = []
    known: Known = msgspec.field(default_factory=Known)


class Keeper:
    """Keeps a snapshot in a file. A disk that is full or slow costs the snapshot, and never a request.

    Args:
        path: the file; None keeps nothing.
        snapshot: called on the event loop.
    """

    def __init__(self, path: Path | None, snapshot: Callable[[], Kept]) -> None:
        self._path = path
        self._snapshot = snapshot
        self._timer: asyncio.TimerHandle | None = None
        self._wanted = 0  # changes so far
        self._written = 0  # changes that are in the file
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failing = False

    def load(self) -> Kept | None:
        """Read what an earlier run has kept; None if there is nothing usable."""
        if self._path is None:
            return None
        try:
            if self._path.stat().st_size > MAX_BYTES:
                return None
            kept = msgspec.json.decode(self._path.read_bytes(), type=Kept)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("the notices of before cannot be read; they begin empty", reason=str(error)[:200])
            return None
        return kept if kept.format == FORMAT else None

    def changed(self) -> None:
        """Something counted: write it within a second."""
        self._wanted += 1
        if self._path is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY, self._later)

    def touched(self) -> None:
        """Something changed that the next `save` has to write."""
        self._wanted += 1

    async def save(self) -> None:
        """Return once the present state is in the file, or cannot be."""
        if self._path is None or self._written == self._wanted:
            return
        async with self._turn:
            if self._written == self._wanted:
                return
            upto, data = self._wanted, msgspec.json.encode(self._snapshot())
            try:
                await asyncio.to_thread(write, self._path, data)
            except OSError as error:
                if not self._failing:
                    reason = (error.strerror or str(error)).lower()
                    log.warning("notices cannot be kept on disk: a restart now may lose or repeat some", reason=reason)
                self._failing = True
            else:
                self._failing = False
            self._written = upto  # also after a failure: the next change tries again

    async def aclose(self) -> None:
        """Write the last state."""
        if self._timer is not None:
            self._timer.cancel()
        self._wanted += 1
        await self.save()

    def _later(self) -> None:
        self._timer = None
        task = asyncio.get_running_loop().create_task(self.save(), name="notices-keep")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def write(path: Path, data: bytes) -> None:
    """Replace a file by another content, whole or not at all, readable by this user only.

    Raises:
        OSError: that is not possible; the old content is still there.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
