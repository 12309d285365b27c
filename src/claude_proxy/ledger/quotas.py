"""A plan's quota: the provider's count, ours, and their difference, which was spent outside this proxy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Executable, func, or_, select

from claude_proxy import ids
from claude_proxy.ledger.answers import MICRO, rfc3339
from claude_proxy.ledger.prices.plan import BURN_SPAN, Spent, burn_rate, spent_outside, time_to_empty
from claude_proxy.ledger.prices.quota import Meter, Window
from claude_proxy.ledger.samples import window_of
from claude_proxy.ledger.tables import BUCKET_MS, TOKENS, exchange, name, quota_sample, rollup
from claude_proxy.ledger.usage import texts_of

_KEPT_MS = 40 * 86_400_000  # an account whose last sample is older is left out


class Plan(NamedTuple):
    """One account's plan; `upstream` and `account` are ids of texts, `at` is when it was sampled (Unix milliseconds)."""

    upstream: int
    account: int
    at: int


def quota(connection: Connection, now: float) -> list[dict[str, Any]]:
    """Each plan that was sampled lately, with its windows; see docs/books.md.

    Args:
        now: Unix seconds.
    """
    c = quota_sample.c
    latest = (
        select(c.upstream, c.account, func.max(c.at).label("at"))
        .where(c.at > int(now * 1000) - _KEPT_MS)
        .group_by(c.upstream, c.account)
        .order_by(c.upstream, c.account)
    )
    plans = [Plan(row.upstream, row.account, int(row.at)) for row in connection.execute(latest)]
    return [_item(connection, plan, now) for plan in plans if not _is_replaced(connection, plan, plans, now)]


def _is_replaced(connection: Connection, plan: Plan, plans: Sequence[Plan], now: float) -> bool:
    """Whether another account of the upstream was sampled later, and nothing of this one's sample is valid any more.

    Samples of earlier releases name no account.
    """
    if not any(other.upstream == plan.upstream and other.at > plan.at for other in plans):
        return False
    return plan.account == 0 or all(_is_over(window, now) for window in _windows(connection, plan))


def _is_over(window: Window, now: float) -> bool:
    return window.resets_at is not None and window.resets_at <= now


def _item(connection: Connection, plan: Plan, now: float) -> dict[str, Any]:
    windows = _windows(connection, plan)
    in_credits = [window for window in windows if window.meter is Meter.CREDITS]
    rate, ends = None, None
    recent = _spent(connection, plan, int((now - BURN_SPAN) * 1000), int(now * 1000)).micro if in_credits else None
    if recent is not None:
        rate = burn_rate([Spent(now, recent)], now)
        since = _spent(connection, plan, plan.at, int(now * 1000)).micro
        ends = time_to_empty(_as_of_now(in_credits, since or 0, now), rate, now)
    texts = texts_of(connection, {plan.upstream, plan.account})
    return {
        "upstream": texts.get(plan.upstream),
        "account": texts.get(plan.account),
        "sampled_at": rfc3339(plan.at),
        "windows": [_window(connection, plan, window, now) for window in windows],
        "burn_rate": None if rate is None else rate / MICRO,
        "time_to_empty": None
        if ends is None
        else {"window": ends.window.name, "at": rfc3339(int(ends.at * 1000)), "seconds": max(0, round(ends.at - now))},
    }


def _windows(connection: Connection, plan: Plan) -> list[Window]:
    c = quota_sample.c
    of_plan = (c.at == plan.at, c.upstream == plan.upstream, c.account == plan.account)
    rows = connection.execute(select(quota_sample, name.c.text).join(name, name.c.id == c.window).where(*of_plan))
    return sorted((window_of(row.text, row) for row in rows), key=lambda window: (window.seconds or 2**40, window.name))


def _as_of_now(windows: Sequence[Window], spent: int, now: float) -> list[Window]:
    """The windows, reduced by what we counted since the sample. Those that were reset since are left out."""
    return [
        window._replace(left=None if window.left is None else max(0, window.left - spent))
        for window in windows
        if not _is_over(window, now)
    ]


def _window(connection: Connection, plan: Plan, window: Window, now: float) -> dict[str, Any]:
    """A window by the names that readers know. After its reset the sample says nothing about it."""
    over = _is_over(window, now)
    ours, uncredited = None, None
    if window.meter is Meter.CREDITS and window.started is not None and not over:
        spent = _spent(connection, plan, int(window.started * 1000), plan.at)
        ours, uncredited = spent.micro, spent.used - spent.credited
    used = None if over else window.used
    return {
        "window": window.name,
        "meter": str(window.meter),
        "used_ratio": None if over else window.ratio,
        "used": _amount(used),
        "allowance": _amount(window.allowance),
        "left": None if over else _amount(window.left),
        "resets_at": None if over or window.resets_at is None else rfc3339(int(window.resets_at * 1000)),
        "computed_credits": _amount(ours),
        "uncredited_exchanges": uncredited,
        "spent_outside": None if ours is None or used is None else _amount(spent_outside(used, ours)),
    }


def _amount(micro: int | None) -> float | None:
    return None if micro is None else micro / MICRO


class _Credits(NamedTuple):
    """What exchanges took from a plan: the sum of micro-credits, how many it covers, and how many used any tokens."""

    sum: int
    credited: int
    used: int

    @property
    def micro(self) -> int | None:
        """The sum; None if the credits of no exchange are known, which is not the same as 0."""
        return self.sum if self.credited or not self.used else None


def _spent(connection: Connection, plan: Plan, since: int, until: int) -> _Credits:
    """What the exchanges took that began in a time (Unix milliseconds): whole quarter hours from the rollup, the rest from the
    rows."""
    first, last = -(-since // BUCKET_MS), until // BUCKET_MS
    if first >= last:
        return _of_rows(connection, plan, since, until)
    c = rollup.c
    inside = c.bucket >= first, c.bucket < last, c.upstream == plan.upstream, c.account == plan.account
    sums = func.sum(c.credits_micro), func.sum(c.credited), func.sum(c.priced + c.unpriced)
    whole = _credits(connection, select(*sums).where(*inside))
    before = _of_rows(connection, plan, since, first * BUCKET_MS)
    after = _of_rows(connection, plan, last * BUCKET_MS, until)
    return _Credits(*map(sum, zip(whole, before, after, strict=True)))


def _of_rows(connection: Connection, plan: Plan, since: int, until: int) -> _Credits:
    c = exchange.c
    inside = c.id >= ids.first_of(since), c.id < ids.first_of(until), c.upstream == plan.upstream, c.account == plan.account
    used = func.count().filter(or_(c.cost_nano.is_not(None), *(c[kind] > 0 for kind in TOKENS)))
    return _credits(connection, select(func.sum(c.credits_micro), func.count(c.credits_micro), used).where(*inside))


def _credits(connection: Connection, query: Executable) -> _Credits:
    return _Credits(*(int(value or 0) for value in connection.execute(query).one()))
