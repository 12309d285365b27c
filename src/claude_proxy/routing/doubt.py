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
    """The refusals that late slots would explain, by how many others ran, until more than these are accepted at once.

    Attributes:
        counts: how many refusals there are beside so many others; those that late slots explain badly count twice.
        delay: what had been learned of late slots before the first of them, in seconds.
    """

    __slots__ = ("counts", "delay")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.delay = 0.0

    def add(self, case: Case, running: int) -> int | None:
        """One more, beside `running` others. Returns beside how many there are too many, so that this is the limit; else None."""
        if not self.counts:
            self.delay = case.delay
        self.counts[running] = self.counts.get(running, 0) + (2 if case.age > 2 * self.delay + UNLIKELY else 1)
        total = 0
        for beside, count in sorted(self.counts.items()):
            total += count
            if total >= MOST:
                return beside
        return None

    def proven(self, running: int) -> None:
        """So many have been accepted at once: those that were refused beside fewer had another reason than the limit."""
        self.counts = {beside: count for beside, count in self.counts.items() if beside >= running}
