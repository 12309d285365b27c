"""An incident: what fails of one upstream in one way, from the first failure until it works again."""

from __future__ import annotations

import enum
import hashlib

import msgspec

from claude_proxy.notify.events import Report
from claude_proxy.notify.fault import Fault
from claude_proxy.protocol.providers import Text

HOLD = 30.0  # seconds that a failure which clients retry is held: most heal by themselves
ENOUGH = 3  # failures of them that are worth a notice
GOOD = 2  # good answers in a row that end it
QUIET = 120.0  # seconds without a failure that end it too
STOP_QUIET = 86_400.0  # the same where silence proves nothing: clients do not try a used-up plan
UPDATES = (600.0, 1800.0, 3600.0)  # ages at which the message is brought up to date; then every hour
MAX_MODELS = 16
MAX_WORDS = 8
MAX_PUSHED = 20


class Stage(enum.StrEnum):
    """How far it has come."""

    HELD = "held"  # not worth a notice yet
    OPEN = "open"
    CLOSED = "closed"


class End(enum.StrEnum):
    """Why an incident ended."""

    WORKS = "works"  # good answers
    QUIET = "quiet"  # no failures any more, and no proof either
    RESET = "reset"  # the provider's own time has come
    OVER = "over"  # a condition that does not hold any more


class Incident(msgspec.Struct):
    """Times are seconds of the rules' clock.

    Attributes:
        last: the latest failure of the most frequent kind.
        opened: when the first failure came.
        failed_at: when the last one came.
        update_at: when the message is due to be brought up to date.
        lasting: a condition: it ends when its cause says so, not by answers or silence.
        unstable_until: it comes and goes too often to be told each time: until then it is one incident.
        total: failures; `counts` has them by kind.
        good: good answers since the last failure.
        told: whether a notice about it was asked for; `delivered` is set once one has reached ntfy.
        inhibited: a greater incident, or the quota's own notice, stands for it.
        models: the models that failed and have not answered since.
    """

    id: int
    key: str
    sequence: str
    last: Fault
    opened: float
    failed_at: float
    update_at: float = 0.0
    stage: Stage = Stage.HELD
    lasting: bool = False
    unstable_until: float = 0.0
    closed_at: float | None = None
    total: int = 0
    counts: dict[str, int] = {}
    names: dict[str, Text] = {}
    good: int = 0
    updates: int = 0
    told: bool = False
    delivered: bool = False
    inhibited: bool = False
    models: set[str] = set()
    pushed: list[tuple[float, str]] = []

    def count(self, fault: Fault, now: float) -> None:
        """Count a failure."""
        self.failed_at, self.good = now, 0
        self.total += 1
        word = fault.word if fault.word in self.counts or len(self.counts) < MAX_WORDS else "other"
        self.counts[word] = self.counts.get(word, 0) + 1
        self.names.setdefault(word, fault.about.name if word == fault.word else Text("other", "기타"))
        if self.counts[word] >= max(self.counts.values()):
            self.last = fault
        if len(self.models) < MAX_MODELS:
            self.models.add(fault.model)

    def ripe(self, now: float) -> bool:
        """Whether a held incident is worth a notice by now."""
        if self.last.about.final or self.lasting:
            return True
        return now >= self.opened + HOLD and self.total >= ENOUGH

    def answered(self, model: str, began: float) -> bool:
        """Count a good answer; whether it ends the incident. It counts only if its request came after the last failure."""
        if self.lasting or began < self.failed_at:
            return False
        self.models.discard(model)
        self.good += 1
        return self.good >= GOOD and (self.last.about.scope == "upstream" or not self.models)

    @property
    def quiet_at(self) -> float:
        """When silence alone ends it; infinite for a condition."""
        about = self.last.about
        if self.lasting:
            return float("inf")
        return self.failed_at + (STOP_QUIET if about.final else QUIET)

    def schedule(self, now: float) -> None:
        """Set the time of the next update."""
        ages = UPDATES[self.updates :] or (UPDATES[-1] * (self.updates - len(UPDATES) + 2),)
        self.updates += 1
        self.update_at = max(self.opened + ages[0], now + 1.0)

    def note_push(self, now: float, title: str) -> None:
        """Remember what was pushed about it."""
        if len(self.pushed) < MAX_PUSHED:
            self.pushed.append((now, title))

    def report(self) -> Report:
        """The incident as the books and the API know it."""
        fault = self.last
        return Report(
            id=self.id,
            upstream=fault.upstream,
            code=fault.word,
            meaning=fault.about.name.en,
            message=fault.message,
            fix=fault.about.do.en,
            opened=self.opened,
            seen=self.failed_at,
            closed=self.closed_at,
            failures=self.total,
            told=self.told,
            pushed=tuple(self.pushed),
        )


def sequence_of(key: str, number: int) -> str:
    """The ntfy sequence id of an incident's messages."""
    return "cp-" + hashlib.blake2s(f"{key}\n{number}".encode("utf-8", "replace"), digest_size=8).hexdigest()
