"""When Claude Code tries again, and how: measured with 2.1.332 (docs/facts.md, "Retries"). Pure: chance is passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

Role = Literal["main", "subagent", "classifier", "title"]
How = Literal["answered", "error", "error-event", "unfinished", "cut", "silent", "refused"]

TRIES = 11
CLASSIFIER_TRIES = 10  # five with its own model, five with the main agent's; then the tool call is denied
SILENT_CLASSIFIER_TRIES = 2
OVERLOADED_TRIES = 3  # of models whose names say Opus, Fable or Mythos; also streams that begin with an overloaded_error
GIVE_UP_AFTER = 61  # seconds: a longer retry-after is not waited for
LAST_BACKOFF = 32.0
HEAD_DEADLINE = 360.0  # seconds of silence before the head of an answer
IDLE_DEADLINE = 300.0  # seconds of silence inside one
API_TIMEOUT = 600  # what X-Stainless-Timeout states
CLASSIFIER_TIMEOUT = 60
_STRICT = ("opus", "fable", "mythos")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client saw of one attempt.

    Attributes:
        status: of the answer; 0 without one.
        kind: Anthropic's error type.
        message: the error's own words.
        retry_after: seconds; None if the answer names none.
        should_retry: the header `x-should-retry`.
        ours: the answer is the proxy's own (`x-claude-proxy-error`).
    """

    how: How
    status: int = 0
    kind: str = ""
    message: str = ""
    retry_after: float | None = None
    should_retry: bool | None = None
    ours: bool = False


class Next(NamedTuple):
    """Another attempt: after so many seconds, streamed or not."""

    wait: float
    stream: bool


def next_try(seen: Seen, tried: int, role: Role, model: str, *, stream: bool, uniform: Callable[[], float]) -> Next | None:
    """Return what follows an attempt; None to give up, or if nothing has to follow.

    Args:
        tried: attempts made so far, this one included.
        stream: whether this one was streamed.
        uniform: a number from 1 to 1.25, by which each pause is stretched.
    """
    if seen.how == "answered" or tried >= _limit(seen, role, model):
        return None
    if seen.how == "error" and not _is_retried(seen):
        return None
    pause = min(LAST_BACKOFF, 0.5 * 2 ** (tried - 1)) * uniform()
    if seen.how == "error":
        return Next(max((seen.retry_after or 0.0) * uniform(), pause), stream)
    if seen.how == "unfinished":
        return Next(0.0, stream=False)
    if seen.how == "error-event":
        return Next(pause, stream and seen.kind == "overloaded_error" and tried < OVERLOADED_TRIES)
    if seen.how == "silent" and seen.status:  # inside an answer: streamed once more, then not
        return Next(pause, stream and tried < 2)
    return Next(pause, stream)


def _limit(seen: Seen, role: Role, model: str) -> int:
    overloaded = seen.status == 529 or seen.kind == "overloaded_error"
    if role == "classifier":
        return SILENT_CLASSIFIER_TRIES if seen.how == "silent" else CLASSIFIER_TRIES
    if overloaded and role == "title":
        return 1
    if overloaded and seen.how == "error" and any(word in model for word in _STRICT):
        return OVERLOADED_TRIES
    return TRIES


def _is_retried(seen: Seen) -> bool:
    if seen.should_retry is False or (seen.retry_after or 0.0) >= GIVE_UP_AFTER:
        return False
    return seen.status in (401, 408, 409, 429) or seen.status >= 500
