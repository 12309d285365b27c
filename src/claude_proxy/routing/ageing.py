"""What waiting does to the place of a request. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from claude_proxy.routing.classes import BACKGROUND, MAIN, SUBAGENT

if TYPE_CHECKING:
    from claude_proxy.routing.ticket import Ticket

AGED = 45.0  # seconds of waiting that lift a request by one class, up to SUBAGENT
AGED_TO_MAIN = 300.0  # seconds of waiting that lift a subagent to MAIN; nothing is lifted to BLOCKING
LAST_CALL = 10.0  # seconds before its deadline, from which on a request may take the slot that is kept for a main agent


def effective(ticket: Ticket, now: float) -> int:
    """The class of a request after ageing."""
    urgency = ticket.urgency
    if urgency <= MAIN:
        return urgency
    waited = now - ticket.since
    if waited < AGED:
        return urgency
    return MAIN if waited >= AGED_TO_MAIN else max(SUBAGENT, urgency - int(waited / AGED))


def changes_at(ticket: Ticket, now: float) -> float:
    """When waiting changes its class next."""
    above = ticket.urgency - SUBAGENT
    waited = now - ticket.since
    if above < 0 or waited >= AGED_TO_MAIN:
        return math.inf
    steps = int(waited / AGED) + 1
    return ticket.since + (AGED * steps if steps <= above else AGED_TO_MAIN)


def last_call(ticket: Ticket) -> float:
    """When it takes even the slot that is kept for a main agent, because it would soon be told to come again."""
    if ticket.urgency is BACKGROUND:
        return math.inf
    return max(ticket.deadline - LAST_CALL, (ticket.since + ticket.deadline) / 2)
