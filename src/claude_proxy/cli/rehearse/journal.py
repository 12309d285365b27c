"""What happened in a rehearsal: calls with their attempts, what the upstreams answered, and the lines of the timeline."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from claude_proxy.cleaning import visible
from claude_proxy.cli.rehearse.clock import MINUTE, Clock
from claude_proxy.cli.rehearse.patience import Role, Seen
from claude_proxy.cli.rehearse.stand_in import Push
from claude_proxy.protocol.judge import code_of, text_of
from claude_proxy.protocol.usage import ErrorBody
from claude_proxy.simulator import Recorded

ID = "x-rehearsal-id"  # names an attempt of a client; the proxy passes unknown headers on, so the upstream sees it too
Kind = Literal["script", "saw", "hidden", "push", "note"]
End = Literal["answered", "gave up", "denied", "over"]
NOTABLE_WAIT = 5.0  # seconds of the script; a shorter wait is not told in the timeline
WORDS = 100


class Line(NamedTuple):
    """One line of the timeline; lines with the same `like` are told once for each step of the script."""

    minute: float
    kind: Kind
    text: str
    like: str


@dataclass(slots=True)
class Upstream:
    """One request as an upstream saw it.

    Attributes:
        name: of the upstream.
        minute: of the script, at which it came.
    """

    name: str
    minute: float
    status: int | None = None
    outcome: str | None = None

    @property
    def refused(self) -> bool:
        """Whether it was answered with an error."""
        return self.status is not None and self.status >= 400


@dataclass(slots=True)
class Attempt:
    """One attempt of a client."""

    id: str
    minute: float
    seen: Seen | None = None
    ended: float = 0.0


@dataclass(slots=True)
class Call:
    """What a client wanted once, with all its attempts."""

    who: str
    role: Role
    attempts: list[Attempt] = field(default_factory=list)
    end: End | None = None


class Journal:
    """Collects what clients, upstreams and ntfy report.

    Args:
        show: is called with each new line of the timeline.
    """

    def __init__(self, clock: Clock, show: Callable[[Line], None]) -> None:
        self.calls: list[Call] = []
        self.lines: list[Line] = []
        self.sent: dict[str, list[Upstream]] = {}
        self.unknown = 0
        self._clock = clock
        self._show = show
        self._told: Counter[str] = Counter()

    def say(self, kind: Kind, text: str, like: str = "") -> None:
        """Add a line, unless one like it was told since the last step of the script."""
        line = Line(self._clock.minute, kind, visible(text), like)
        self.lines.append(line)
        if kind == "script":
            self.repeats()
        if like:
            self._told[f"{kind}: {like}"] += 1
        if not like or self._told[f"{kind}: {like}"] == 1:
            self._show(line)

    def repeats(self) -> None:
        """Say how often the lines were repeated that were told once."""
        more = {like: count - 1 for like, count in self._told.items() if count > 1}
        self._told.clear()
        for like, count in more.items():
            self._show(Line(self._clock.minute, "note", f"{count} more: {like.partition(': ')[2]}", ""))

    def upstream_ended(self, name: str, recorded: Recorded) -> None:
        """An upstream is done with a request."""
        attempt = recorded.header(ID)
        if attempt is None:
            self.unknown += 1  # such as a question for the quota
            return
        sent = Upstream(name, self._clock.at(recorded.received_at), recorded.status, recorded.outcome)
        self.sent.setdefault(attempt, []).append(sent)

    def saw(self, call: Call, attempt: Attempt, then: str) -> None:
        """A client saw the end of an attempt.

        Args:
            then: what it does next, in words; empty after a good answer.
        """
        assert attempt.seen is not None
        hidden = self.hidden(attempt)
        waited = self.waited(attempt)
        if hidden or waited >= NOTABLE_WAIT:
            what = [f"{hidden} refusal{'s' * (hidden != 1)} of the upstream"] if hidden else []
            what += [f"{waited:.0f} s of waiting"] if waited >= 1 else []
            answered = "answered" if attempt.seen.how == "answered" else "the client saw only the last"
            kind = "refusals" if hidden else "a wait"
            self.say("hidden", f"{call.who}: {' and '.join(what)}; {answered}", f"{call.role}: {kind} hidden")
        if attempt.seen.how != "answered":
            seen = worded(attempt.seen)
            last = f"; {then}" if call.end is not None else ""
            self.say("saw", f"{call.who} saw {seen}; {then}", f"{call.role} saw {seen}{last}")

    def pushed(self, push: Push) -> None:
        """A notice reached ntfy."""
        first = push.message.strip().splitlines()[:1]
        how = ", replacing the one before" if push.replaces else ""
        self.say("push", f"[priority {push.priority}{how}] {push.title}: {''.join(first)}")

    def hidden(self, attempt: Attempt) -> int:
        """How many refusals of upstreams a client did not see in this attempt."""
        refused = sum(one.refused for one in self.sent.get(attempt.id, []))
        seen = attempt.seen
        passed_on = seen is not None and seen.how == "error" and not seen.ours and refused > 0
        return refused - passed_on

    def waited(self, attempt: Attempt) -> float:
        """Seconds of the script from an attempt's start until the upstream that answered it got it, or until our own refusal."""
        sent = self.sent.get(attempt.id)
        if sent:
            return max(0.0, (sent[-1].minute - attempt.minute) * MINUTE)
        ours = attempt.seen is not None and attempt.seen.ours
        return (attempt.ended - attempt.minute) * MINUTE if ours else 0.0


def worded(seen: Seen) -> str:
    """What a client saw, in a few words."""
    error = ErrorBody(seen.kind, seen.message)
    code, said = code_of(error), textwrap.shorten(text_of(error), WORDS, placeholder=" …")
    words = f"{seen.kind}{f' ({code})' if code else ''}{f': {said}' if said else ''}"
    return {
        "error": f"{seen.status} {words}{' (by the proxy)' * seen.ours}",
        "error-event": f"an error in the stream, {words}",
        "unfinished": "an answer that ended early",
        "cut": "an answer that broke off",
        "silent": "an answer that fell silent" if seen.status else "no answer in time",
        "refused": "its connection closed without an answer",
        "answered": "a good answer",
    }[seen.how]
