"""What follows an attempt that did not end with a good answer, as a table. Pure.

`POST /v1/messages` is billed, and the client itself tries up to eleven times. So a request is sent again only if it was
certainly not worked on: nothing had been written, or the upstream refused it explicitly (docs/resilience.md).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

FAKE_AFTER = 3  # refusals of the same kind of prompt in a row: it is the prompt that z.ai's 1305 refuses, not the load

LONG_WAIT = 60.0  # seconds; a `retry-after` above it reaches the client, which then stops instead of waiting


class Event(enum.Enum):
    """How an attempt ended."""

    UNREACHABLE = "unreachable"  # nothing was written: DNS, TCP, TLS handshake, a stale connection
    CERTIFICATE = "certificate"  # nothing was written, and trying again cannot help
    CONCURRENCY = "concurrency"  # refused: too many at once
    RATE = "rate"  # refused: too many in a while
    OVERLOAD = "overload"  # refused: no capacity
    STOP = "stop"  # refused: the account is used up, or its credential is not accepted
    BROKEN = "broken"  # written at least partly: 500, 502, 504, reset, timeout
    STARTED = "started"  # failed after the first byte went to the client


class Step(enum.Enum):
    """What to do next."""

    QUEUE = "queue"  # back to its place; any account
    OTHER = "other"  # at once, but not at this account
    AGAIN = "again"  # after a delay, at this account
    RELAY = "relay"  # what the upstream said goes to the client unchanged; for failures our own words


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        other: another account may be asked.
        queues: the request goes back to its place in the queue.
        delays: how long before the same account is asked again, in seconds; one entry per time.
        counted: a hidden retry draws on the account's bucket.
    """

    other: bool = False
    queues: bool = False
    delays: tuple[float, ...] = ()
    counted: bool = False


TABLE = {
    Event.UNREACHABLE: Row(other=True, delays=(0.2, 0.5, 1.0), counted=True),
    Event.CERTIFICATE: Row(other=True),
    Event.CONCURRENCY: Row(other=True, queues=True),
    Event.RATE: Row(other=True, queues=True),
    Event.OVERLOAD: Row(other=True, delays=(2.0, 5.0), counted=True),
    Event.STOP: Row(other=True),
    Event.BROKEN: Row(),
    Event.STARTED: Row(),
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides besides the event.

    Attributes:
        tries: how often this request ended with an event of this row at this account, the present one included.
        can_resend: whether all of the body read so far is still there.
        other: whether an account that it may use, and has not failed at, is in rotation.
        later: whether it may go back to an account that it failed at, after a while.
        bucket_open: whether the account may be asked again out of turn.
        same_prompt: overload refusals in a row of prompts like this one.
        retry_after: what the upstream asked for, in seconds; None if it did not.
        time_left: until the deadline of all attempts, in seconds.
    """

    tries: int = 1
    can_resend: bool = True
    other: bool = False
    later: bool = False
    bucket_open: bool = True
    same_prompt: int = 1
    retry_after: float | None = None
    time_left: float = 60.0


def plan(event: Event, facts: Facts) -> tuple[Step, float]:
    """The next step, and after how many seconds (0.0 is at once; jitter is the caller's)."""
    row = TABLE[event]
    if not facts.can_resend:
        return Step.RELAY, 0.0
    if row.queues and (facts.retry_after or 0.0) <= LONG_WAIT:
        return Step.QUEUE, 0.0
    if facts.time_left <= 0:
        return Step.RELAY, 0.0
    if row.other and facts.other:
        return Step.OTHER, 0.0  # an account that is well is no load for one that is not
    fake = event is Event.OVERLOAD and facts.same_prompt >= FAKE_AFTER  # so this account would refuse it again
    if not fake and facts.tries <= len(row.delays) and (facts.bucket_open or not row.counted):
        delay = max(row.delays[facts.tries - 1], facts.retry_after or 0.0)
        if delay < min(facts.time_left, LONG_WAIT):
            return Step.AGAIN, delay
    return (Step.OTHER if row.other and facts.later else Step.RELAY), 0.0
