"""Our own words for a request that is not sent, because its account takes no more for now."""

from __future__ import annotations

import math
from datetime import datetime
from zoneinfo import ZoneInfo

from claude_proxy.errors import NoTurn
from claude_proxy.proxy.accounts import Account
from claude_proxy.routing.ticket import Reason, Refuse

_CODES = {Reason.DEADLINE: "queue_timeout", Reason.FULL: "queue_full", Reason.OUT: "account_out", Reason.GONE: "account_gone"}


def no_turn(refused: Refuse, account: Account, timezone: str, epoch: float) -> NoTurn:
    """The error for a refusal of the queue.

    Args:
        account: the one that it waited for, or the first of them.
        timezone: for the time at which the account is back (TIMEZONE).
        epoch: what to add to the queue's clock to get Unix seconds.
    """
    name, where = account.id, account.upstream.provider.label
    if refused.reason is Reason.OUT:
        message = f"{where} accepts no requests of the account {name} at the moment. {_back(refused.until, timezone, epoch)}"
    elif refused.reason is Reason.FULL:
        message = (
            f"Too many requests wait for the account {name}; this one was not sent. Try again in a minute, or start fewer agents."
        )
    elif refused.reason is Reason.GONE:
        message = f"The account {name} was removed from the proxy's settings while this request waited for it. Try again."
    else:
        kept = " Its place in the queue is kept for a minute: try again." if refused.kept else " Try again later."
        message = f"The account {name} is busy: this request waited for its turn until its time was up, and was not sent.{kept}"
    return NoTurn(
        message,
        code=_CODES[refused.reason],
        should_retry=None if refused.retry else False,
        retry_after=None if refused.retry_after is None else math.ceil(refused.retry_after),
    )


def _back(until: float | None, timezone: str, epoch: float) -> str:
    if until is None:
        return "Its usage is used up, or its key is refused: the upstream's dashboard tells. The request was not sent."
    back = datetime.fromtimestamp(until + epoch, ZoneInfo(timezone))
    return f"Its usage is used up until {back:%Y-%m-%d %H:%M} ({timezone}). The request was not sent; try again after that."
