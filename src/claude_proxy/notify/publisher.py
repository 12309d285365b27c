"""The queue between the rules and ntfy: bounded, in order, off the request path, one notice per sequence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

import msgspec
import structlog

from claude_proxy.notify.answer import Answer, Verdict
from claude_proxy.notify.notice import SILENT, Notice

LIMIT = 100
FIRST_WAIT, LAST_WAIT = 2.0, 300.0  # seconds between attempts, doubled each time
MAX_AGE = 86_400.0  # seconds; older notices are dropped
DAY = 86_400
MAX_NAMES = 500
Send = Callable[[Notice], Awaitable[Answer]]
log = structlog.get_logger("notify")


class Item(msgspec.Struct, eq=False):
    """A notice in the queue, and since when (seconds of the publisher's clock)."""

    notice: Notice
    since: float


class Known(msgspec.Struct):
    """What is known of the other side.

    Attributes:
        replaces: whether messages replace each other on this server; None if not known yet.
        names: by sequence, how often it was renamed so that a message could make a sound again.
    """

    replaces: bool | None = None
    names: dict[str, int] = {}


async def _nothing() -> None:
    return None


class Publisher:
    """Sends notices one at a time, in its own task.

    A notice takes the place of one that waits under the same sequence: after an outage of ntfy, what is true then is sent once.

    On Android a message that replaces one makes no sound (docs/facts.md). So what should make one goes out under a new name of
    its sequence if the phone may show the sequence already, and later messages replace that one.

    Args:
        send: makes one attempt; does not raise.
        limit: the most notices queued; beyond it the oldest is dropped and counted.
        wall: Unix seconds, for the day of the server's quota.
        clock: seconds in which a notice grows old, for one that the machine's clock does not step; by default `wall`.
        first_wait: seconds before the second attempt.
        updates: whether to send what is only worth sending where it replaces the message before it.
        saved: returns when the queue as it is has been written to disk, so that a kill can neither lose nor repeat a notice.
        on_result: told of each attempt: the notice and what came of it.

    Attributes:
        sent: notices that the server accepted.
        lost: notices dropped or refused.
        known: what is known of the server and the phone.
    """

    def __init__(
        self,
        send: Send,
        *,
        limit: int = LIMIT,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] | None = None,
        first_wait: float = FIRST_WAIT,
        updates: bool = True,
        saved: Callable[[], Awaitable[None]] = _nothing,
        on_result: Callable[[Notice, Answer], None] = lambda notice, answer: None,
    ) -> None:
        self.sent = 0
        self.lost = 0
        self.known = Known()
        self._send = send
        self._limit = limit
        self._wall = wall
        self._clock = clock or wall
        self._first_wait = first_wait
        self._updates = updates
        self._saved = saved
        self._on_result = on_result
        self._queue: list[Item] = []
        self._flying: Item | None = None
        self._filled = asyncio.Event()
        self._hurried = asyncio.Event()  # ends a pause between two attempts
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> tuple[Item, ...]:
        """What is not delivered yet, in order."""
        return tuple(self._queue)

    def restore(self, items: Iterable[Item], known: Known | None = None) -> None:
        """Put back what an earlier run did not deliver, and what it knew."""
        self._queue[:0] = items
        self.known = known or self.known
        self._filled.set()

    def put(self, notice: Notice) -> None:
        """Queue a notice, without waiting."""
        if self._closing:
            self.lost += 1
            return
        old = next((item for item in self._queue if item.notice.sequence == notice.sequence and item is not self._flying), None)
        if old is not None:
            old.notice = _merged(old.notice, notice)
            return
        if len(self._queue) >= self._limit:
            self._queue.remove(next((item for item in self._queue if item is not self._flying), self._queue[0]))
            self.lost += 1
        self._queue.append(Item(notice, self._clock()))
        self._filled.set()

    def withdraw(self, sequence: str) -> None:
        """Drop what waits under a sequence; what is being sent at this moment is not stopped."""
        self._queue = [item for item in self._queue if item.notice.sequence != sequence or item is self._flying]

    def hurry(self) -> None:
        """Make the next attempt now: the network is back."""
        self._hurried.set()

    def start(self) -> None:
        """Start sending. Needs a running event loop; a second call does nothing."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="notices")

    async def aclose(self, timeout: float) -> None:
        """Give each queued notice one more attempt, then stop, within `timeout` plus one second; `waiting` has the rest."""
        task, self._task = self._task, None
        self._closing = True
        self._filled.set()
        self._hurried.set()
        if task is not None:
            await asyncio.wait([task], timeout=timeout)
            if not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=1.0)

    async def _run(self) -> None:
        while not self._closing:
            self._filled.clear()
            if self._queue:
                await self._deliver(self._queue[0])
            else:
                await self._filled.wait()
        for item in [*self._queue]:
            await self._attempt_and_settle(item)

    async def _deliver(self, item: Item) -> None:
        """Retry the queue's head until it is sent, refused, too old or withdrawn. It stays queued meanwhile."""
        wait = self._first_wait
        complained = False
        while item in self._queue and not self._closing:
            answer = await self._attempt_and_settle(item)
            if answer is None:
                return
            if not complained:
                log.warning("notice delayed", reason=answer.sentence)
                complained = True
            await self._rest(max(wait, answer.after or 0.0, self._until_midnight(answer)))
            wait = min(wait * 2, LAST_WAIT)

    async def _attempt_and_settle(self, item: Item) -> Answer | None:
        """Make one attempt; None if the notice has left the queue with it."""
        if item.notice.update and not (self._updates and self.known.replaces is not False):
            self._drop(item)  # it would be one more message
            return None
        await self._saved()
        if item not in self._queue:
            return None
        answer = await self._attempt(item)
        if answer.verdict in (Verdict.SENT, Verdict.REFUSED) or self._clock() - item.since > MAX_AGE:
            self._settle(item, answer)
            await self._saved()
            return None
        return answer

    async def _attempt(self, item: Item) -> Answer:
        self._flying, notice = item, item.notice
        name = self._name(notice)
        sent = replace(notice, sequence=f"{notice.sequence}_{name}") if name else notice
        try:
            answer = await self._send(sent)
        except Exception as error:  # a bug of ours that affects one notice must not end the task
            answer = Answer(Verdict.REFUSED, f"The notice could not be sent: {type(error).__name__}.")
        finally:
            self._flying = None
        if answer.replaces is not None:
            self.known.replaces = answer.replaces
        if answer.verdict is Verdict.SENT:
            self._keep_name(notice.sequence, name)
        self._on_result(notice, answer)
        return answer

    def _name(self, notice: Notice) -> int:
        """The number of the name that a notice's sequence has on the phone, or is to get; 0 is the sequence itself."""
        name = self.known.names.get(notice.sequence)
        if name is None:
            return 0
        return name + 1 if notice.priority > SILENT else name

    def _keep_name(self, sequence: str, name: int) -> None:
        names = self.known.names
        names.pop(sequence, None)
        names[sequence] = name
        while len(names) > MAX_NAMES:
            del names[next(iter(names))]

    def _settle(self, item: Item, answer: Answer) -> None:
        self._drop(item)
        if answer.verdict is Verdict.SENT:
            self.sent += 1
            log.info("notice sent", title=item.notice.title)
        else:
            self.lost += 1
            log.warning("notice not sent", title=item.notice.title, reason=answer.sentence)

    def _drop(self, item: Item) -> None:
        self._queue = [other for other in self._queue if other is not item]

    def _until_midnight(self, answer: Answer) -> float:
        return DAY - self._wall() % DAY if answer.verdict is Verdict.QUOTA else 0.0

    async def _rest(self, seconds: float) -> None:
        """Wait; return early when stopping, or when the network is back."""
        self._hurried.clear()
        if self._closing:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._hurried.wait()
        except TimeoutError:
            return


def _merged(old: Notice, new: Notice) -> Notice:
    """What is sent in place of two notices of one sequence: the newer, as loud as an alert that nobody has heard yet."""
    if not new.update:
        return new
    return replace(new, priority=max(old.priority, new.priority), update=old.update)
