"""Whether refusals mean that slots are given back late, or that the limit was lowered. Pure.

One refusal shortly after the end of a stream does not tell. While requests are short, a stream has always just ended, so late
slots would explain every refusal, and a lower limit would never be learned. But if slots are only late, as many requests as the
limit says run at once again before long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_proxy.routing.limit import Lease

MOST = 8  # refusals in a row: slots that are 2 s late explain 5, because the pauses between them grow from 0.1 to 1 s
UNLIKELY = 0.5  # seconds above twice the learned delay; a slot that is later than that is unlikely, so its refusal counts twice


class Case:
    """A refusal that is not judged yet: what else was running when the refused request was sent.

    Attributes:
        due: when it is judged.
        before: the requests that were sent before it and had not ended.
        ended: how many streams had ended so shortly before that their slots may have been late.
        age: seconds since the end of the one whose slot must have been late, if that is the reason.
        delay: what had been learned of such delays.
    """

    __slots__ = ("age", "before", "delay", "due", "ended")

    def __init__(self, due: float, before: list[Lease], ended: int, age: float, delay: float) -> None:
        self.due = due
        self.before = before
        self.ended = ended
        self.age = age
        self.delay = delay


class Doubt:
    """The refusals in a row that late slots would explain, since as many requests as the limit says have last run at once.

    Attributes:
        count: how many they are; those that late slots explain badly count twice.
        running: the most requests that have run at once since half of them had come. What ran before may have begun when the
            limit was higher.
        delay: what had been learned of late slots before the first of them, in seconds.
    """

    __slots__ = ("count", "delay", "running")

    def __init__(self) -> None:
        self.count = 0
        self.running = 0
        self.delay = 0.0

    def add(self, case: Case, running: int) -> bool:
        """One more, while `running` others ran. Returns whether there are too many, so that the limit must be lower."""
        if not self.count:
            self.delay = case.delay
        self.count += 2 if case.age > 2 * self.delay + UNLIKELY else 1
        self._ran(running)
        return self.count >= MOST

    def proven(self, running: int, limit: int) -> None:
        """So many were accepted at once."""
        self._ran(running)
        if running >= limit:
            self.dispel()

    def dispel(self) -> None:
        """The limit holds, or has been lowered."""
        self.count = self.running = 0

    def _ran(self, running: int) -> None:
        if self.count >= MOST // 2:
            self.running = max(self.running, running)
