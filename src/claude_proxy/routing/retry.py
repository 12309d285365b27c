"""The retry table: what follows an attempt. Pure.

`POST /v1/messages` is billed, so this table retries only what cannot have reached the upstream: a pooled connection that was
found closed before anything was written (RFC 9112 section 9.3.1). What else may be sent again is decided with the queue
(plan.py); the rest is left to the client, which has its own retry loop (docs/facts.md, "Retries").
"""

from __future__ import annotations

import enum

MAX_STALE = 3


class Kind(enum.Enum):
    """How an attempt ended, before the first byte is sent to the client."""

    __hash__ = object.__hash__  # Enum's is Python code, and slower

    ANSWERED = "answered"  # the upstream answered; the status may be an error for the client
    REFUSED = "refused"  # the upstream said explicitly that it did not process the request
    NOT_SENT = "not sent"  # no connection, or nothing was written
    FAILED = "failed"  # at least partly written, but no usable answer came
    BROKE_OFF = "broke off"  # an answer began and was cut before any of it was sent to the client


class Verdict(enum.Enum):
    """What to do next."""

    RELAY = "relay"  # pass the answer to the client unchanged
    AGAIN = "again"
    GIVE_UP = "give up"


ANSWERED, REFUSED, NOT_SENT, FAILED, BROKE_OFF = Kind
RELAY, AGAIN, GIVE_UP = Verdict  # see `exchange.py`


_TABLE = {
    ANSWERED: RELAY,
    REFUSED: RELAY,
    BROKE_OFF: RELAY,
    FAILED: GIVE_UP,
    NOT_SENT: GIVE_UP,
}


def decide(kind: Kind, *, stale: bool, tries: int, can_resend: bool) -> Verdict:
    """Decide what follows an attempt.

    Args:
        stale: whether a pooled connection was found closed before anything was written.
        tries: attempts made so far, this one included.
        can_resend: whether all of the request body read so far is still available.
    """
    if kind is NOT_SENT and stale and can_resend and tries <= MAX_STALE:
        return AGAIN
    return _TABLE[kind]
