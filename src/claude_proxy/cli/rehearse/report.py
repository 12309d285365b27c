"""The sums at the end of a rehearsal, as text and as JSON."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from claude_proxy.cli.rehearse.adapt import Adapted
from claude_proxy.cli.rehearse.journal import Call, Journal, worded
from claude_proxy.cli.rehearse.patience import Role
from claude_proxy.cli.rehearse.script import Script
from claude_proxy.cli.rehearse.stand_in import Push
from claude_proxy.simulator import Usage

ROLES: tuple[Role, ...] = ("main", "subagent", "classifier", "title")
SPEED_NOTE = (
    "At {speed:g}x the script, its answers, the clients' pauses and the proxy's timeouts shrink; the proxy's own pauses "
    "(after a refusal, before a retry, of an upstream taken out, of notices) do not. --speed 1 plays it as it is."
)


@dataclass(frozen=True, slots=True)
class Result:
    """A rehearsal that is over.

    Attributes:
        reported: the usage that the simulated upstreams reported.
        books: the sums in the proxy's ledger; None if it keeps none.
    """

    script: Script
    speed: float
    adapted: Adapted
    journal: Journal
    pushes: tuple[Push, ...]
    reported: Usage
    books: dict[str, Any] | None

    @property
    def refusals(self) -> int:
        """Errors that the upstreams answered."""
        return sum(one.refused for sent in self.journal.sent.values() for one in sent)

    @property
    def hidden(self) -> int:
        """Those of them that no client saw."""
        return sum(self.journal.hidden(attempt) for call in self.journal.calls for attempt in call.attempts)

    @property
    def seen(self) -> Counter[str]:
        """The errors that clients saw, in words."""
        attempts = [attempt.seen for call in self.journal.calls for attempt in call.attempts if attempt.seen is not None]
        return Counter(worded(seen) for seen in attempts if seen.how != "answered")

    def of(self, role: Role) -> list[Call]:
        """The calls of one kind of clients."""
        return [call for call in self.journal.calls if call.role == role and call.attempts]

    def sums(self, role: Role) -> dict[str, Any]:
        """How the calls of one kind of clients ended, and how long they waited in the proxy, in seconds of the script."""
        calls = self.of(role)
        waits = sorted(self.journal.waited(attempt) for call in calls for attempt in call.attempts)
        ends = Counter(call.end for call in calls)
        smooth = sum(call.end == "answered" and len(call.attempts) == 1 for call in calls)
        return {
            "calls": len(calls),
            "attempts": sum(len(call.attempts) for call in calls),
            "answered_at_once": smooth,
            "answered_after_own_retries": ends["answered"] - smooth,
            "failed": ends["gave up"] + ends["denied"],
            "still_running": ends["over"] + ends[None],
            "wait_p50": round(waits[len(waits) // 2], 1) if waits else 0.0,
            "wait_max": round(waits[-1], 1) if waits else 0.0,
        }

    def as_json(self) -> dict[str, Any]:
        """All of it, for `--json`."""
        return {
            "title": self.script.title,
            "minutes": self.script.length,
            "speed": self.speed,
            "upstreams": [
                {"name": one.name, "provider": one.provider, "accounts": len(one.keys)} for one in self.adapted.upstreams
            ],
            "notices_configured": self.adapted.notices,
            "timeline": [{"minute": round(line.minute, 3), "kind": line.kind, "text": line.text} for line in self.journal.lines],
            "clients": {role: self.sums(role) for role in ROLES if self.of(role)},
            "errors_seen": dict(self.seen.most_common()),
            "upstream": {
                "requests": sum(map(len, self.journal.sent.values())),
                "refusals": self.refusals,
                "refusals_hidden": self.hidden,
                "reported": asdict(self.reported),
            },
            "pushes": [asdict(push) for push in self.pushes],
            "books": self.books,
        }


def text(result: Result) -> Iterator[str]:
    """The sums as lines."""
    yield from itertools.chain(_clients(result), _upstreams(result), _pushes(result), _books(result))
    if result.speed != 1:
        yield ""
        yield SPEED_NOTE.format(speed=result.speed)


def _clients(result: Result) -> Iterator[str]:
    yield f"{'What clients saw':<18}{'calls':>7}{'at once':>9}{'retried':>9}{'failed':>8}{'running':>9}{'wait p50':>10}{'max':>8}"
    for role in ROLES:
        if result.of(role):
            sums = result.sums(role)
            yield (
                f"  {role:<16}{sums['calls']:>7}{sums['answered_at_once']:>9}{sums['answered_after_own_retries']:>9}"
                f"{sums['failed']:>8}{sums['still_running']:>9}{sums['wait_p50']:>8.1f} s{sums['wait_max']:>6.0f} s"
            )
    for words, count in result.seen.most_common(8):
        yield f"  {count:>5} x {words}"


def _upstreams(result: Result) -> Iterator[str]:
    requests = sum(map(len, result.journal.sent.values()))
    seen = result.refusals - result.hidden
    yield ""
    yield (
        f"Upstreams          {requests} requests, {result.refusals} answered with an error: {result.hidden} hidden from the "
        f"clients, {seen} passed on"
    )


def _pushes(result: Result) -> Iterator[str]:
    new = sum(not push.replaces for push in result.pushes)
    words = f"{new} notification{'s' * (new != 1)} on the phone, {len(result.pushes) - new} updates in place"
    unset = "" if result.adapted.notices else " (if NTFY_TOPIC were set; it is not)"
    yield f"Pushes             {words}{unset}"


def _books(result: Result) -> Iterator[str]:
    if result.books is None:
        yield "Books              none are kept (LEDGER is off)"
        return
    told = result.books
    tokens = {name: value for name, value in told.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    yield f"Books              {', '.join(f'{value:,} {name}' for name, value in tokens.items() if value)}"
    reported = result.reported
    yield f"{'':<19}the upstreams reported {reported.input_tokens:,} input and {reported.output_tokens:,} output tokens"
