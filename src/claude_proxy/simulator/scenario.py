"""What the simulator answers: a frozen value with the content, how it is sent, and the fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Kind = Literal["auto", "text", "tool", "tools", "thinking", "count_tokens", "models", "error", "raw"]
FaultKind = Literal[
    "status",
    "refuse",
    "cut",
    "stall",
    "early",
    "error-event",
    "bad-frame",
    "bad-chunk",
    "no-stop",
    "close-after",
    "close-on-next",
]
Where = Literal["request", "head", "events", "mid-event"]
Until = Literal["left", "release"]
Ending = Literal["fin", "rst"]
After = Literal["keep", "close", "rst", "stall"]
Writes = Literal["whole", "event", "byte"]
Framing = Literal["auto", "length", "chunked", "close"]
Encoding = Literal["gzip", "deflate", "br", "zstd"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, or the sum of several. Names as on the wire (Messages API)."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0
    """The part of ``cache_creation_input_tokens`` written for one hour; the rest is for five minutes."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_creation_input_tokens + other.cache_creation_input_tokens,
            self.cache_read_input_tokens + other.cache_read_input_tokens,
            self.ephemeral_1h_input_tokens + other.ephemeral_1h_input_tokens,
        )

    def wire(self) -> dict[str, Any]:
        """Return the ``usage`` object of a message."""
        created, hour = self.cache_creation_input_tokens, self.ephemeral_1h_input_tokens
        return {
            "input_tokens": self.input_tokens,
            "cache_creation_input_tokens": created,
            "cache_read_input_tokens": self.cache_read_input_tokens,
            "cache_creation": {
                "ephemeral_5m_input_tokens": created - hour,
                "ephemeral_1h_input_tokens": hour,
            },
            "output_tokens": self.output_tokens,
            "service_tier": "standard",
        }


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and where. Build it with the functions of ``faults``; each says which fields it uses."""

    kind: FaultKind
    where: Where = "events"
    n: int = 0
    """Events sent before it (``where="events"``), bytes of the request body read before it, or a status."""
    until: Until = "left"
    how: Ending = "fin"
    envelope: bool = True
    message: str = ""
    error_type: str = ""
    then: Literal["drain", "close", "rst"] = "drain"

    @property
    def before_body(self) -> bool:
        """Whether it acts before the request body is complete."""
        return self.where == "request"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A ``tool_use`` block: the tool's name and its input."""

    name: str
    input: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scripted answer. All times are in seconds; the defaults are those of a real API."""

    kind: Kind = "auto"
    text: str | None = None
    """The answer's text; None: a sentence about the request."""
    deltas: int = 8
    """Number of ``content_block_delta`` events that the text is sent in."""
    tools: tuple[ToolCall, ...] = ()
    """Calls of ``tool`` and ``tools``; empty: what the request's tools suggest."""
    thinking: str = "Let me think about this."
    usage: Usage | None = None
    """Tokens to report; None: counted from the request and the text."""
    zero_start: bool = False
    """Report 0/0 in ``message_start`` and the totals in ``message_delta``, as z.ai does (docs/facts.md, "The wire")."""
    stop_reason: str | None = None

    status: int = 200
    error_type: str = ""
    message: str = ""
    error_code: str | None = None
    """``error.code`` in addition to type and message, as z.ai sends it."""
    headers: tuple[tuple[str, str], ...] = ()
    """Sent in addition to the usual ones; one with the name of a usual header replaces it."""
    body: bytes = b""
    repeat: int = 1
    """How often ``body`` is sent (one Content-Length for all): large answers without large memory."""
    content_type: str = "application/json"
    wire: bytes | None = None
    """These bytes are the whole answer, status line included. See ``raw``."""
    then: After = "keep"

    pace: float = 0.0
    """Pause before each event but the first."""
    delay: float = 0.0
    """Pause before the status line."""
    writes: Writes = "whole"
    """How the answer is cut into writes; ``byte`` yields to the loop after each."""
    drip: float | None = None
    """Pause after each byte of the answer's body, each its own write."""
    slow_head: float | None = None
    """Pause after each byte of the answer's head, each its own write."""
    newline: Literal["\n", "\r\n", "\r"] = "\n"
    """Line ends inside the SSE frames."""
    framing: Framing = "auto"
    """``close`` sends neither Content-Length nor chunks and ends with the connection, as HTTP/1.0 does."""
    encoding: Encoding | None = None
    interim: tuple[tuple[int, tuple[tuple[str, str], ...]], ...] = ()
    """1xx answers sent first: (status, headers) each."""
    trailers: tuple[tuple[str, str], ...] = ()
    """Sent after a chunked body (forces ``framing="chunked"``)."""
    fault: Fault | None = None

    def but(self, **changes: Any) -> Scenario:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    @property
    def plain(self) -> bool:
        """Whether the answer is one write, at once."""
        return (
            self.fault is None
            and self.wire is None
            and self.writes == "whole"
            and not self.pace
            and not self.delay
            and self.drip is None
            and self.slow_head is None
            and self.repeat == 1
        )


def raw(data: bytes, then: After = "close") -> Scenario:
    """Answer with exactly these bytes on the wire.

    ``then`` says what follows: ``keep`` the connection, ``close`` it, reset it (``rst``), or ``stall`` until the
    client disconnects or ``release`` is set.
    """
    return Scenario("raw", wire=data, then=then)


def error(status: int, error_type: str = "", message: str = "", **fields: Any) -> Scenario:
    """Answer with an error in Anthropic's envelope; the type follows from the status if it is not given."""
    return Scenario("error", status=status, error_type=error_type, message=message, **fields)
