"""The error for a request that was not sent, because its account takes no more for now."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from claude_proxy.errors import NoTurn
from claude_proxy.proxy.accounts import Account
from claude_proxy.routing.ticket import Reason, Refuse

_CODES = {Reason.DEADLINE: "queue_timeout", Reason.FULL: "queue_full", Reason.OUT: "account_out", Reason.GONE: "account_gone"}


def no_turn(refused: Refuse, accounts: Sequence[Account], timezone: str, epoch: float) -> NoTurn:
    """Return the error for a refusal of the queue.

    Args:
        accounts: those that it waited for, at least one.
        timezone: for the time at which the first of them is back (TIMEZONE).
        epoch: what to add to the queue's clock to get Unix seconds.
    """
    return NoTurn(
        _message(refused, accounts, timezone, epoch),
        code=_CODES[refused.reason],
        should_retry=None if refused.retry else False,
        retry_after=None if refused.retry_after is None else math.ceil(refused.retry_after),
    )


def _message(refused: Refuse, accounts: Sequence[Account], timezone: str, epoch: float) -> str:
    name = accounts[0].id
    if refused.reason is Reason.OUT:
        return f"{_out(accounts)} {_back(refused.until, timezone, epoch)}"
    if refused.reason is Reason.FULL:
        return (
            f"Too many requests wait for the account {name}; this one was not sent. Try again in a minute, or start fewer agents."
        )
    if refused.reason is Reason.GONE:
        return f"The account {name} was removed from the proxy's settings while this request waited for it. Try again."
    kept = " Its place in the queue is kept for a minute: try again." if refused.kept else " Try again later."
    return f"The account {name} is busy: this request waited for its turn until its time was up, and was not sent.{kept}"


def _out(accounts: Sequence[Account]) -> str:
    if len(accounts) > 1:
        return f"None of the accounts {', '.join(account.id for account in accounts)} is accepted by its upstream at the moment."
    return f"{accounts[0].upstream.provider.label} accepts no requests of the account {accounts[0].id} at the moment."


def _back(until: float | None, timezone: str, epoch: float) -> str:
    if until is None:
        return "The usage is used up, or the key is refused: the upstream's dashboard tells. The request was not sent."
    back = datetime.fromtimestamp(until + epoch, ZoneInfo(timezone))
    return f"The usage is used up until {back:%Y-%m-%d %H:%M} ({timezone}). The request was not sent; try again after that."
