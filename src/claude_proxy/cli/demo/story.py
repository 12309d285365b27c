"""The demo's script: a few conversations, each showing one thing the proxy does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from claude_proxy.simulator import Recorded, Scenario, Usage, error

SESSION = "x-claude-code-session-id"  # Claude Code's session header (docs/facts.md, "Claude Code")
PACE = 0.12  # seconds between events


@dataclass(slots=True)
class Talk:
    """One conversation and its progress.

    Attributes:
        leave_after: number of events after which the client disconnects; None if it stays to the end.
        text: what has been streamed so far.
        state: its progress in a few words.
        lines: the proxy's log lines about it.
        calls: how many requests the client has sent.
        left_at: loop time when the client disconnected.
    """

    name: str
    model: str
    prompt: str
    scenarios: tuple[Scenario, ...]
    leave_after: int | None = None
    text: str = ""
    state: str = "waiting"
    lines: list[Mapping[str, Any]] = field(default_factory=list)
    calls: int = 0
    left_at: float | None = None


def answer(text: str, *, zero_start: bool = False, read: int = 0) -> Scenario:
    """Return a scenario that streams `text`, a few words at a time."""
    usage = Usage(input_tokens=412, output_tokens=len(text) // 4, cache_read_input_tokens=read)
    return Scenario("text", text=text, deltas=max(len(text) // 9, 1), pace=PACE, zero_start=zero_start, usage=usage)


def talks() -> list[Talk]:
    """Return the conversations, in display order."""
    return [
        Talk(
            "stream",
            "claude-opus-5-5",
            "What does the proxy change?",
            (
                answer(
                    "Nothing you would notice. Requests and answers pass byte for byte, each event as soon as it "
                    "arrives. In long silences it sends pings, so that nobody gives up.",
                    read=48_210,
                ),
            ),
        ),
        Talk(
            "z.ai",
            "glm-5.3",
            "And with Z.ai behind it?",
            (
                answer(
                    "The same. Its usage comes at the end of the stream instead of the start; the count in the "
                    "proxy's log is right all the same.",
                    zero_start=True,
                ),
            ),
        ),
        Talk(
            "overload",
            "glm-5.3-flash",
            "What if the provider is overloaded?",
            (
                error(529, "overloaded_error", "[1305][The service may be temporarily overloaded][demo]"),
                answer("The first try was a 529. The proxy asked again, so all that you saw was a wait."),
            ),
        ),
        Talk(
            "cancel",
            "claude-sonnet-5-5",
            "Count to a thousand.",
            (answer(" ".join(str(n) for n in range(1, 200))),),
            leave_after=32,
        ),
    ]


def script(cast: list[Talk]) -> Callable[[Recorded], Scenario | None]:
    """Return what chooses the simulator's answers: the next scenario of the conversation of the request's session."""
    by_name = {talk.name: talk for talk in cast}
    seen: dict[str, int] = {}

    def choose(request: Recorded) -> Scenario | None:
        session = next((value.decode() for name, value in request.headers if name.lower() == SESSION.encode()), "")
        talk = by_name.get(session)
        if talk is None:
            return None
        turn = seen[session] = seen.get(session, 0) + 1
        return talk.scenarios[min(turn, len(talk.scenarios)) - 1]

    return choose
