"""The faults, and the plan of an answer: which bytes, pauses and cuts, in which order. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec

from .answer import Answer, Framed
from .scenario import Ending, Fault, Scenario, Until, Where

MALFORMED_FRAME = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"del'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0}}\n\n'
)
"""A frame cut inside its JSON with the next one appended, as seen from GLM (docs/facts.md, "Providers")."""


def status(code: int) -> Fault:
    """Answer with this status and Anthropic's envelope for it."""
    return Fault("status", where="head", n=code)


def refuse() -> Fault:
    """Reset the connection as soon as a request begins. For a port that refuses connections see ``Simulator.refuse``."""
    return Fault("refuse", where="request", how="rst")


def cut(where: Where = "head", n: int = 0, how: Ending = "fin") -> Fault:
    """Close the connection.

    ``request``: after ``n`` bytes of the request body; ``head``: before the status line; ``events``: after ``n``
    events (0: after the head); ``mid-event``: in the middle of the event after ``n``. An answer that is not
    streamed counts as one event; an ``n`` beyond the end means the middle of the last event.
    """
    return Fault("cut", where=where, n=n, how=how)


def stall(where: Where = "events", n: int = 0, until: Until = "left") -> Fault:
    """Fall silent at the same places as ``cut`` until the client disconnects; with ``release``, until ``sim.release``.

    At ``request`` it stops reading.
    """
    return Fault("stall", where=where, n=n, until=until)


def early(n: int = 0, then: Literal["drain", "close", "rst"] = "drain") -> Fault:
    """Answer after ``n`` bytes of the request body; then read the rest (``drain``), close or reset."""
    return Fault("early", where="request", n=n, then=then)


def stop_reading(n: int = 0) -> Fault:
    """Stop reading after ``n`` bytes of the request body until ``sim.release``; then read on and answer.

    While it does not read, it does not notice a disconnect either.
    """
    return Fault("stall", where="request", n=n, until="release")


def error_event(n: int = 0, envelope: bool = True, error_type: str = "overloaded_error", message: str = "Overloaded") -> Fault:
    """Send an ``error`` event after ``n`` events and end; without ``envelope`` its data is the bare error.

    Like ``bad_frame`` and ``no_stop`` it does not change an answer that is not streamed.
    """
    return Fault("error-event", n=n, envelope=envelope, error_type=error_type, message=message)


def bad_frame(n: int = 1) -> Fault:
    """Send a broken SSE frame in place of event ``n`` (counted from 0), then go on."""
    return Fault("bad-frame", n=n)


def bad_chunk(n: int = 1) -> Fault:
    """Send a chunk whose size is not a number after ``n`` events, and close."""
    return Fault("bad-chunk", n=n)


def no_stop() -> Fault:
    """Omit the last event (``message_stop``) and end the response cleanly."""
    return Fault("no-stop")


def close_after(how: Ending = "fin") -> Fault:
    """Answer normally, then close without having sent ``Connection: close``."""
    return Fault("close-after", how=how)


def close_on_next(how: Ending = "fin") -> Fault:
    """Answer normally, then close when the next request arrives on the connection, without answering it."""
    return Fault("close-on-next", how=how)


@dataclass(frozen=True, slots=True)
class Send:
    """Write these bytes; with ``bytewise`` one write per byte, and ``pause`` seconds after each."""

    data: bytes
    bytewise: bool = False
    pause: float = 0.0
    part: int | None = None
    """The index of the answer's part that is complete with it."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Silence:
    """Send nothing until the client disconnects or the simulator is released."""

    until: Until


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection here: the answer is not complete."""

    how: Ending


@dataclass(frozen=True, slots=True)
class End:
    """The answer is complete; says what happens to the connection."""

    then: Literal["keep", "close", "rst", "linger", "close-on-next"]
    """``linger``: half-close and read on, so that a client still sending sees the answer, not a reset."""
    how: Ending = "fin"


Step = Send | Pause | Silence | Cut | End


def plan(framed: Framed, scenario: Scenario) -> Iterator[Step]:
    """Yield the steps of an answer, in order; the last is a ``Cut`` or an ``End``."""
    fault = scenario.fault
    if scenario.delay:
        yield Pause(scenario.delay)
    if scenario.wire is not None:
        yield Send(scenario.wire, scenario.writes == "byte")
        yield from _finish(Framed(b"", (), False, False), scenario)
        return
    if framed.interim:
        yield Send(framed.interim)
    if fault is not None and fault.where == "head":
        if fault.kind == "cut":
            yield Cut(fault.how)
            return
        if fault.kind == "stall":
            yield Silence(fault.until)
    yield _send_head(framed, scenario)
    if fault is not None and fault.kind in ("cut", "stall", "bad-chunk") and fault.where in ("events", "mid-event"):
        yield from _interrupted(framed, scenario, fault)
    else:
        yield from _parts(framed, scenario, 0, len(framed.parts))
    if fault is None or fault.kind not in ("cut", "bad-chunk"):
        yield from _finish(framed, scenario)


def _send_head(framed: Framed, scenario: Scenario) -> Send:
    slow = scenario.slow_head
    return Send(framed.head, slow is not None or scenario.writes == "byte", slow or 0.0)


def _parts(framed: Framed, scenario: Scenario, start: int, stop: int) -> Iterator[Step]:
    bytewise = scenario.drip is not None or scenario.writes == "byte"
    for index in range(start, stop):
        if index and scenario.pace:
            yield Pause(scenario.pace)
        yield Send(framed.framed(index), bytewise, scenario.drip or 0.0, index)


def _interrupted(framed: Framed, scenario: Scenario, fault: Fault) -> Iterator[Step]:
    count = len(framed.parts)
    middle = fault.where == "mid-event" or fault.n >= count
    at = min(fault.n, max(count - 1, 0))
    yield from _parts(framed, scenario, 0, at)
    begun, rest = framed.halves(at) if middle and count else (b"", b"")
    if begun:
        yield Send(begun)
    if fault.kind == "bad-chunk":
        yield Send(b"ZZ\r\nthis chunk has no size\r\n")
        yield Cut(fault.how)
    elif fault.kind == "cut":
        yield Cut(fault.how)
    else:
        yield Silence(fault.until)
        if rest:
            yield Send(rest, part=at)
        yield from _parts(framed, scenario, at + bool(rest), count)


def _finish(framed: Framed, scenario: Scenario) -> Iterator[Step]:
    if framed.tail:
        yield Send(framed.tail, scenario.writes == "byte")
    fault = scenario.fault
    if fault is not None and fault.kind == "close-after":
        yield End("rst" if fault.how == "rst" else "close")
    elif fault is not None and fault.kind == "close-on-next":
        yield End("close-on-next", fault.how)
    elif fault is not None and fault.kind == "early" and fault.then != "drain":
        yield End("rst" if fault.then == "rst" else "linger")
    elif scenario.then == "stall":
        yield Silence("release")
        yield End("close")
    elif scenario.then == "rst":
        yield End("rst")
    else:
        yield End("close" if framed.close or scenario.then == "close" else "keep")


def altered(answer: Answer, fault: Fault) -> Answer:
    """Apply the fault to the answer's events; an answer without events is returned unchanged."""
    if not answer.stream:
        return answer
    if fault.kind == "no-stop":
        return answer.with_parts(answer.parts[:-1])
    if fault.kind == "error-event":
        return answer.with_parts((*answer.parts[: fault.n], _error_frame(fault)))
    if fault.kind == "bad-frame":
        at = min(fault.n, len(answer.parts) - 1)
        return answer.with_parts((*answer.parts[:at], MALFORMED_FRAME, *answer.parts[at + 1 :]))
    return answer


def _error_frame(fault: Fault) -> bytes:
    inner = {"type": fault.error_type, "message": fault.message}
    data = {"type": "error", "error": inner} if fault.envelope else inner
    return b"event: error\ndata: %b\n\n" % msgspec.json.encode(data)
