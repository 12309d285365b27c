"""How urgent a request is: the class in which it queues, from its headers and, without hints, from the shape of its body. Pure.

Claude Code states the purpose of each request if CLAUDE_CODE_GATEWAY_HINT_HEADERS=1 is set (`claude-proxy env` sets it):
`x-claude-code-request-class` and `x-claude-1p-request-class`. The values, and what each call looks like without them, were
measured with Claude Code 2.1.332 (docs/facts.md, "Claude Code").
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Protocol

HEAD_DEADLINE = 360.0  # seconds after which Claude Code resets a request that has had no response head
PATIENCE = 0.8  # of the client's deadline: a call that is billed has to have time to answer
CLASSIFIER_TIMEOUT = 60.0  # seconds; what Claude Code's check of a tool call states

REQUEST_CLASS = b"x-claude-code-request-class"
FIRST_PARTY_CLASS = b"x-claude-1p-request-class"
_TIMEOUT = b"x-stainless-timeout"
_APP, _AGENT, _SESSION = b"x-app", b"x-claude-code-agent-id", b"x-claude-code-session-id"
READ = (REQUEST_CLASS, FIRST_PARTY_CLASS, _TIMEOUT, _APP, _AGENT, _SESSION)  # the fields that this module reads


class Urgency(enum.IntEnum):
    """The classes of the queue; a lower number is served first."""

    BLOCKING = 0  # a short call that the main agent waits for: tool check, web fetch or search, prompt hook, compaction
    MAIN = 1
    SUBAGENT = 2
    WORKFLOW = 3
    BACKGROUND = 4  # nobody waits for it: titles, summaries, suggestions, background sessions


BLOCKING, MAIN, SUBAGENT, WORKFLOW, BACKGROUND = Urgency  # see `exchange.py`


class Shape(Protocol):
    """What the body of a request shows (see `protocol/shape.py`)."""

    @property
    def stream(self) -> bool: ...

    @property
    def tools(self) -> int: ...

    @property
    def schema(self) -> bool: ...

    @property
    def subagent(self) -> bool: ...


_BY_CLASS = {
    b"main": MAIN,
    b"subagent": SUBAGENT,
    b"workflow": WORKFLOW,
    b"compaction": BLOCKING,
    b"side_reply": MAIN,
}


def classify(fields: Mapping[bytes, bytes], shape: Callable[[], Shape | None]) -> Urgency:
    """The class of a Messages request.

    Args:
        fields: its headers, names in lower case.
        shape: reads the body; called only if the headers leave the class open. None if the body could not be read.
    """
    if fields.get(_APP) == b"cli-bg":
        return BACKGROUND
    hint = fields.get(REQUEST_CLASS)
    if hint is not None and (hinted := _by_hints(hint, fields.get(FIRST_PARTY_CLASS))) is not None:
        return hinted
    if _AGENT in fields:
        return SUBAGENT
    if _SESSION not in fields:
        return MAIN  # another client: somebody probably waits
    seen = shape()
    return MAIN if seen is None else _by_shape(seen, stated_timeout(fields))


def _by_hints(hint: bytes, first_party: bytes | None) -> Urgency | None:
    if hint == b"auxiliary":
        return BLOCKING if first_party == b"main" else BACKGROUND
    if hint == b"main" and first_party == b"background-task":
        return BACKGROUND
    return _BY_CLASS.get(hint)


def _by_shape(shape: Shape, timeout: float | None) -> Urgency:
    """The class of a Claude Code request that carries no hints."""
    if shape.subagent:
        return SUBAGENT
    if shape.schema and not shape.tools:
        return BACKGROUND  # a title or a suggestion: its answer has a JSON schema
    if not shape.stream and timeout is not None and timeout <= CLASSIFIER_TIMEOUT:
        return BLOCKING  # the check of a tool call
    return MAIN if shape.tools > 1 else BLOCKING  # web fetch, prompt hook: none; web search: one


def stated_timeout(fields: Mapping[bytes, bytes]) -> float | None:
    """`X-Stainless-Timeout` in seconds: how long an Anthropic SDK waits; None if it is missing or no positive number."""
    return _seconds(fields.get(_TIMEOUT))


def _seconds(stated: bytes | None) -> float | None:
    try:
        seconds = float(stated or b"")
    except ValueError:
        return None
    return seconds if 0 < seconds < 1e6 else None


def patience(fields: Mapping[bytes, bytes], bound: float | None = None) -> float:
    """How long a request may wait for its turn, in seconds from its arrival.

    Args:
        bound: what QUEUE_WAIT sets; None leaves it to the client's deadline, min(`X-Stainless-Timeout`, 360 s).
    """
    return _patience(fields.get(_TIMEOUT)) if bound is None else bound


@lru_cache(256)  # each client states one or two
def _patience(stated: bytes | None) -> float:
    return PATIENCE * min(_seconds(stated) or HEAD_DEADLINE, HEAD_DEADLINE)
