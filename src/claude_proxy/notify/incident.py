"""An incident: one error class of one upstream, from its first failure until it is over and quiet."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from claude_proxy.exchange import Exchange, Failure
from claude_proxy.notify.advice import Advice, advise, reset
from claude_proxy.notify.notice import plain
from claude_proxy.protocol.providers import GENERIC, Provider

GAPS = (600.0, 1800.0, 3600.0)  # seconds between messages of one incident; the last one repeats
MAX_MODELS = 16


@dataclass(frozen=True, slots=True)
class Fault:
    """One failure, reduced to what a message may tell.

    Attributes:
        upstream: its name.
        word: the error class: the provider's code, else the kind.
        message: the failure's sentence, one line.
        model: the model asked for, "" if none.
        status: HTTP status, 0 if none.
        wall: Unix time in seconds.
        id: makes the incident's sequence its own.
        about: what it means and what to do.
        reset: a sentence on when a quota is back, if the failure says so.
        quoted: the message is in the upstream's words.
        ours: this proxy failed, not the upstream.
    """

    upstream: str
    word: str
    message: str
    model: str
    status: int
    wall: float
    id: str
    about: Advice
    reset: str = ""
    quoted: bool = False
    ours: bool = False

    @classmethod
    def of(cls, exchange: Exchange, failure: Failure, provider: Provider = GENERIC) -> Fault:
        """What failed in `exchange`; `provider` is its upstream's."""
        quoted = failure.provider_code is not None or failure.kind.endswith("_error")  # our own kinds never end so
        return cls(
            upstream=exchange.upstream,
            word=plain(failure.provider_code or failure.kind, 40) or "internal",
            message=plain(failure.message, 300),
            model=plain(exchange.model),
            status=exchange.status,
            wall=exchange.started_at + exchange.duration,
            id=exchange.id,
            about=advise(failure, provider),
            reset=reset(failure, provider).en,
            quoted=quoted,
            ours=failure.side == "proxy" and not quoted and not failure.kind.startswith("http_"),
        )


@dataclass(slots=True)
class Incident:
    """Times are event-loop seconds.

    Attributes:
        last: the latest failure.
        opened: when the failing began.
        failed_at: when it last failed.
        said: when the last message about failing went out.
        due: before this no further message about failing goes out.
        step: index into GAPS of the gap that `due` closes; -1 before the first message.
        total: failures since `opened`.
        fresh: failures that no message has told yet.
        failing: no recovery has been seen since the last failure.
        told: the user believes that it is failing, so a recovery is news.
        models: that failed and have not answered since.
    """

    last: Fault
    sequence: str
    opened: float
    failed_at: float
    said: float
    due: float
    step: int = -1
    total: int = 0
    fresh: int = 0
    failing: bool = True
    told: bool = False
    models: set[str] = field(default_factory=set)

    @classmethod
    def open(cls, fault: Fault, now: float) -> Incident:
        """A new one; its first message is due at once."""
        name = f"{fault.upstream}\n{fault.word}\n{fault.id}"
        sequence = "cp-" + hashlib.blake2s(name.encode("utf-8", "replace"), digest_size=8).hexdigest()
        return cls(fault, sequence, opened=now, failed_at=now, said=now, due=now)

    def count(self, fault: Fault, now: float) -> None:
        """It failed (again)."""
        if not self.failing and not self.fresh:
            self.opened, self.total = now, 0
        self.last, self.failed_at, self.failing = fault, now, True
        self.total += 1
        self.fresh += 1
        if len(self.models) < MAX_MODELS:
            self.models.add(fault.model)

    def tell(self, now: float) -> None:
        """A message about the failing goes out: the next one waits for the gap, and each gap is longer."""
        self.step = min(self.step + 1, len(GAPS) - 1)
        self.said, self.due = now, now + GAPS[self.step]
        self.fresh, self.told = 0, self.failing

    def close(self) -> None:
        """It works again. Kept until `due`, so that one which comes and goes does not push each time."""
        self.failing = self.told = False
        self.models.clear()

    def over(self, now: float) -> bool:
        """Whether it can be forgotten."""
        return not self.failing and not self.fresh and now >= self.due
