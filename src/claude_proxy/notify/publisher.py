"""The queue between the rules and ntfy: bounded, in order, off the request path."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from claude_proxy.notify.answer import Answer, Verdict
from claude_proxy.notify.notice import Notice

LIMIT = 100
FIRST_WAIT, LAST_WAIT = 2.0, 300.0  # seconds between attempts, doubled each time
MAX_AGE = 6 * 3600.0  # seconds; older notices are dropped
DAY = 86_400
Send = Callable[[Notice], Awaitable[Answer]]
log = structlog.get_logger("notify")


class Publisher:
    """Sends notices one at a time, in its own task.

    Args:
        send: makes one attempt; does not raise.
        limit: the most notices queued; beyond it the oldest is dropped and counted.
        wall: Unix seconds.
        first_wait: seconds before the second attempt.

    Attributes:
        sent: notices that the server accepted.
        lost: notices dropped, refused, or still queued at the end.
    """

    def __init__(
        self, send: Send, *, limit: int = LIMIT, wall: Callable[[], float] = time.time, first_wait: float = FIRST_WAIT
    ) -> None:
        self.sent = 0
        self.lost = 0
        self._send = send
        self._limit = limit
        self._wall = wall
        self._first_wait = first_wait
        self._queue: deque[tuple[Notice, float]] = deque()
        self._filled = asyncio.Event()
        self._closing = asyncio.Event()
        self._quiet_until = 0.0
        self._task: asyncio.Task[None] | None = None

    def put(self, notice: Notice) -> None:
        """Queue a notice, without waiting."""
        if self._closing.is_set() or self._wall() < self._quiet_until:
            self.lost += 1
            return
        if len(self._queue) >= self._limit:
            self._queue.popleft()
            self.lost += 1
        self._queue.append((notice, self._wall()))
        self._filled.set()

    def start(self) -> None:
        """Start sending. Needs a running event loop; a second call does nothing."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="notices")

    async def aclose(self, timeout: float) -> None:
        """Give each queued notice one more attempt, then stop. Returns within `timeout` seconds."""
        task, self._task = self._task, None
        self._closing.set()
        self._filled.set()
        if task is not None:
            await asyncio.wait([task], timeout=timeout)
            if not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=1.0)
        self.lost += len(self._queue)
        if self._queue:
            log.warning("notices lost at the stop", count=len(self._queue))
            self._queue.clear()

    async def _run(self) -> None:
        while True:
            while self._queue:
                await self._deliver(*self._queue[0])
            if self._closing.is_set():
                return
            self._filled.clear()
            await self._filled.wait()

    async def _deliver(self, notice: Notice, since: float) -> None:
        """Retry the queue's head until it is sent, refused or too old. It stays queued meanwhile, so that it is still counted."""
        wait = self._first_wait
        complained = False
        while self._queue and self._queue[0][0] is notice:
            answer = await self._try(notice)
            last = self._closing.is_set() or self._wall() - since > MAX_AGE
            if answer.verdict is not Verdict.AGAIN or last:
                self._settle(notice, answer)
                return
            if not complained:
                log.warning("notice delayed", reason=answer.sentence)
                complained = True
            await self._rest(max(wait, answer.after or 0.0))
            wait = min(wait * 2, LAST_WAIT)

    async def _try(self, notice: Notice) -> Answer:
        try:
            return await self._send(notice)
        except Exception as error:  # a bug of ours that affects one notice must not end the task
            return Answer(Verdict.REFUSED, f"The notice could not be sent: {type(error).__name__}.")

    def _settle(self, notice: Notice, answer: Answer) -> None:
        if self._queue and self._queue[0][0] is notice:
            self._queue.popleft()
        if answer.verdict is Verdict.SENT:
            self.sent += 1
            log.info("notice sent", title=notice.title)
            return
        self.lost += 1
        log.warning("notice not sent", title=notice.title, reason=answer.sentence)
        if answer.verdict is Verdict.QUOTA:
            self._quiet_until = (self._wall() // DAY + 1) * DAY
            self.lost += len(self._queue)
            self._queue.clear()

    async def _rest(self, seconds: float) -> None:
        """Wait; return early when stopping."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return
