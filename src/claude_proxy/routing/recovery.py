"""Whether an account that a request has failed at has recovered since, so that the request may be sent there again. Pure.

A request that failed at an account goes to another one. It may come back after the delays of the retry table; once these, or the
hidden retries of that account, are used up, it comes back only if the account has recovered, because it has accepted a later
request; from the second time on, a later request of the same kind. One request comes back for each that is accepted, so that an
upstream that refuses most requests is spared, and one that is well takes all of them within a few round trips.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from claude_proxy.routing.ticket import Ticket

NEVER = math.inf
MOST_KINDS = 100  # kinds of requests whose last answer is remembered
MOST_SPARE = 10  # accepted requests for which another one may still come back
RETURNS = 5  # times that one request comes back to an account that has recovered: z.ai answers 1305 to some prompts, always


class Recovery:
    """What one account has answered lately, and who is being sent there again because of it."""

    __slots__ = ("_last", "_returned", "_spare")

    def __init__(self) -> None:
        self._last: dict[Hashable, tuple[float, bool]] = {}
        self._spare = 0
        self._returned: Ticket | None = None

    def accepted(self, kind: Hashable, sent_at: float) -> None:
        """A request was accepted. `kind` is what overload refusals may depend on (see `Ticket.prompt`)."""
        self._spare = min(MOST_SPARE, self._spare + 1)
        self._note(kind, sent_at, ok=True)

    def failed(self, kind: Hashable, sent_at: float) -> None:
        """A request was refused, or could not be sent."""
        self._note(kind, sent_at, ok=False)

    def since(self, moment: float, kind: Hashable) -> bool:
        """Whether the last request of this kind (None: of any) was sent after `moment`, and accepted."""
        sent_at, ok = self._last.get(kind, (-NEVER, False))
        return ok and sent_at > moment

    @property
    def may_return(self) -> bool:
        """Whether one more may come back: one at a time, and another one for each accepted request."""
        one = self._returned
        return self._spare > 0 or one is None or one.lease is None or not one.lease.undecided

    def returns(self, ticket: Ticket) -> None:
        """A request comes back."""
        self._spare, self._returned = max(0, self._spare - 1), ticket

    def _note(self, kind: Hashable, sent_at: float, *, ok: bool) -> None:
        for one in (None,) if kind is None else (None, kind):
            before = self._last.pop(one, None)
            self._last[one] = (sent_at, ok) if before is None or sent_at >= before[0] else before
        if len(self._last) > MOST_KINDS:
            del self._last[next(iter(self._last))]


class Avoided(NamedTuple):
    """Why a request goes elsewhere.

    Attributes:
        until: when it may come back; NEVER if only once the account has recovered.
        since: when it failed there; NEVER if it does not come back even then.
        kind: of the request that the account must have accepted; None for any.
    """

    until: float
    since: float
    kind: Hashable = None

    def holds(self, recovery: Recovery, now: float) -> bool:
        """Whether the request still goes elsewhere."""
        if self.until != NEVER:
            return now < self.until
        return not (recovery.since(self.since, self.kind) and recovery.may_return)

    def may_end(self, recovery: Recovery, deadline: float) -> bool:
        """Whether it may come back before its deadline, as far as is known now."""
        return self.until < deadline or recovery.since(self.since, self.kind)
