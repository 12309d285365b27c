"""An incident: one error class of one upstream, from the first failure until it has recovered and stayed quiet."""

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
    """One failure, reduced to what a message may contain.

    Attributes:
        upstream: the upstream's name.
        word: the error class: the provider's code, else the kind.
        message: the failure's message, one line.
        model: the requested model, "" if none.
        status: HTTP status, 0 if none.
        wall: Unix time in seconds.
        id: makes the incident's ntfy sequence unique.
        about: what it means and what to do.
        reset: a sentence saying when a quota resets, if the failure says so.
        quoted: whether the message is the upstream's.
        ours: whether this proxy failed, not the upstream.
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
        """Describe the failure of `exchange`; `provider` is that of its upstream."""
        quoted = failure.provider_code is not None or failure.kind.endswith("_error")  # our own kinds never end with `_error`
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
        opened: when it began.
        failed_at: when it last failed.
        said: when the last message about the failures was sent.
        due: when the next message about the failures may be sent.
        step: index into GAPS of the current gap, which ends at `due`; -1 before the first message.
        total: failures since `opened`.
        fresh: failures not reported yet.
        failing: whether no recovery was seen since the last failure.
        told: whether the user was told that it fails, so that a recovery is news.
        models: the models that failed and have not answered since.
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
        """Open an incident; its first message is due at once."""
        name = f"{fault.upstream}\n{fault.word}\n{fault.id}"
        sequence = "cp-" + hashlib.blake2s(name.encode("utf-8", "replace"), digest_size=8).hexdigest()
        return cls(fault, sequence, opened=now, failed_at=now, said=now, due=now)

    def count(self, fault: Fault, now: float) -> None:
        """Count a failure."""
        if not self.failing and not self.fresh:
            self.opened, self.total = now, 0
        self.last, self.failed_at, self.failing = fault, now, True
        self.total += 1
        self.fresh += 1
        if len(self.models) < MAX_MODELS:
            self.models.add(fault.model)

    def tell(self, now: float) -> None:
        """Note that a message about the failures is sent; the next one waits for the next, longer gap."""
        self.step = min(self.step + 1, len(GAPS) - 1)
        self.said, self.due = now, now + GAPS[self.step]
        self.fresh, self.told = 0, self.failing

    def close(self) -> None:
        """It works again. The incident is kept until `due`, so that a flapping upstream does not push each time."""
        self.failing = self.told = False
        self.models.clear()

    def over(self, now: float) -> bool:
        """Whether the incident can be dropped."""
        return not self.failing and not self.fresh and now >= self.due
