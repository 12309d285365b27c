"""The retry table: what happens after an attempt that brought no answer.

`POST /v1/messages` is billed, so only what cannot have reached the upstream is sent again: a pooled connection whose close
was seen before anything was written (RFC 9112 section 9.3.1). Everything else is the client's to repeat: its own loop
knows better, and two loops multiply (FACTS section 4, "SDK retries").
"""

from __future__ import annotations

import enum

from claude_proxy.errors import ProxyError

MAX_STALE = 3


class Verdict(enum.Enum):
    """What to do next."""

    AGAIN = "again"
    GIVE_UP = "give up"


def decide(error: ProxyError, *, tries: int, can_resend: bool) -> Verdict:
    """What follows a failed attempt.

    Args:
        tries: attempts made so far, this one included.
        can_resend: whether the request body is still at hand.
    """
    if error.code == "stale_connection" and can_resend and tries <= MAX_STALE:
        return Verdict.AGAIN
    return Verdict.GIVE_UP
