"""The retry table: what follows an attempt. Pure.

`POST /v1/messages` is billed, so only what cannot have reached the upstream is sent again: a pooled connection whose close
was seen before anything was written (RFC 9112 section 9.3.1). Everything else is for the client to repeat: its own loop
knows better, and two loops multiply (docs/facts.md, "Retries").
"""

from __future__ import annotations

import enum

MAX_STALE = 3


class Kind(enum.Enum):
    """How an attempt ended, seen before the first byte goes to the client."""

    ANSWERED = "answered"  # the upstream has answered; its status may be an error that is the client's
    REFUSED = "refused"  # it has said in so many words that it did not work on the request
    NOT_SENT = "not sent"  # no connection, or not a byte was written
    FAILED = "failed"  # written, at least in part, and no answer that could be passed on
    BROKE_OFF = "broke off"  # an answer began and broke off before any of it had gone to the client


class Verdict(enum.Enum):
    """What to do next."""

    RELAY = "relay"  # the answer goes to the client as it is
    AGAIN = "again"
    GIVE_UP = "give up"


_TABLE = {
    Kind.ANSWERED: Verdict.RELAY,
    Kind.REFUSED: Verdict.RELAY,
    Kind.BROKE_OFF: Verdict.RELAY,
    Kind.FAILED: Verdict.GIVE_UP,
    Kind.NOT_SENT: Verdict.GIVE_UP,
}


def decide(kind: Kind, *, stale: bool, tries: int, can_resend: bool) -> Verdict:
    """What follows an attempt.

    Args:
        stale: whether a pooled connection turned out to be closed before a byte was written.
        tries: attempts made so far, this one included.
        can_resend: whether everything that was read of the request's body is still at hand.
    """
    if kind is Kind.NOT_SENT and stale and can_resend and tries <= MAX_STALE:
        return Verdict.AGAIN
    return _TABLE[kind]
