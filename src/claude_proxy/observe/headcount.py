"""How many workers this server has, as they come and go: each may use its part of what an account allows.

Servers do not tell their workers how many they are (`gunicorn -w`, `uvicorn --workers`, `fastapi run --workers`, hypercorn,
granian), so they count each other: a worker that starts says so to the others, and each looks now and then who has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from claude_proxy.exchange import Listener
from claude_proxy.observe.siblings import Siblings

LOOK = 5.0  # seconds between two counts
SETTLED = 30.0  # seconds of fewer workers until that counts: a worker that ends is usually replaced
_TOPIC = "started"
log = structlog.get_logger("workers")


class Headcount(Listener):
    """Counts the workers.

    Args:
        siblings: the other workers.
        changed: called in the event loop with the number of workers, whenever it has changed.
        advice: a sentence about so many workers for the log, or None; called once, in one of them.
        known: how many there are as far as the settings say, until they have been counted.

    Attributes:
        count: the number in force.
    """

    def __init__(
        self,
        siblings: Siblings,
        changed: Callable[[int], None],
        advice: Callable[[int], str | None] = lambda _: None,
        *,
        known: int = 1,
        look: float = LOOK,
        settled: float = SETTLED,
    ) -> None:
        self.count = known
        self._siblings = siblings
        self._changed = changed
        self._advice = advice
        self._look = look
        self._settled = settled
        self._fewer_since: float | None = None
        self._task: asyncio.Task[None] | None = None
        siblings.on_question(_TOPIC, self._hear)

    async def start(self) -> None:
        """Count, and tell the others that there is one more; the siblings must have been started."""
        log.debug("headcount", workers=self.count)
        self._recount()
        self._task = asyncio.create_task(self._keep_counting(), name="headcount")

    async def aclose(self) -> None:
        """Stop counting."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def _hear(self, _: Any) -> None:
        self._recount()

    async def _keep_counting(self) -> None:
        await self._siblings.ask(_TOPIC)
        await asyncio.sleep(self._look)
        if self._siblings.is_first() and (sentence := self._advice(self.count)) is not None:
            log.warning("workers", workers=self.count, note=sentence)
        while True:
            self._recount()
            await asyncio.sleep(self._look)

    def _recount(self) -> None:
        """More count at once, because each of them begins to send; fewer only after a while."""
        size, now = self._siblings.size(), asyncio.get_running_loop().time()
        if size is None or size == self.count:
            self._fewer_since = None
            return
        if size < self.count:
            self._fewer_since = now if self._fewer_since is None else self._fewer_since
            if now < self._fewer_since + self._settled:
                return
        self._fewer_since = None
        self.count = size
        log.debug("headcount", workers=size)
        self._changed(size)
