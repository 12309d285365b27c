"""A plan's windows of five hours, for sums: as the provider's quota endpoint reported them, else estimated.

Each account has windows of its own: a window begins with the account's first request after its previous window has ended. Where
no reset was sampled, it is estimated from our own exchanges, and the window's key is marked with "~". Windows are cut to quarter
hours, like the rollup.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import TypeAlias

from sqlalchemy import ColumnElement, Connection, select

from claude_proxy.ledger.periods import MAX_SPANS, QUARTER, Span
from claude_proxy.ledger.tables import name, quota_sample, rollup

WINDOW = "5h"
LENGTH = 20  # quarter hours

Account: TypeAlias = tuple[int, int]  # ids of the upstream's and the account's name; 0 is none


def spans(
    connection: Connection, since: int, until: int, where: tzinfo, chosen: ColumnElement[bool]
) -> list[tuple[Span, Account]]:
    """The windows with exchanges in the quarter hours from `since` to before `until`, the earliest first.

    Args:
        chosen: a condition on the rollup that chooses accounts, and nothing finer: every exchange of an account counts for when
            its windows begin.

    Raises:
        ValueError: there are more than MAX_SPANS.
    """
    starts, active = _starts(connection, since, until), _active(connection, since, until, chosen)
    found: list[tuple[Span, Account]] = []
    for account, buckets in active.items():
        known = sorted(starts.get(account, ()))
        found += [(span, account) for span in cut(known, sorted(buckets), since, until, where)]
        _check(len(found))
    return sorted(found, key=lambda one: (one[0].first, one[1]))


def _active(connection: Connection, since: int, until: int, chosen: ColumnElement[bool]) -> Mapping[Account, list[int]]:
    """The quarter hours in which each account had exchanges."""
    c = rollup.c
    wanted = select(c.bucket, c.upstream, c.account).where(c.bucket >= since, c.bucket < until, chosen).distinct()
    found: dict[Account, list[int]] = defaultdict(list)
    for bucket, *account in connection.execute(wanted):
        found[account[0], account[1]].append(bucket)
    return found


def _starts(connection: Connection, since: int, until: int) -> Mapping[Account, list[int]]:
    """The quarter hours in which windows began, as the provider reported them."""
    c = quota_sample.c
    resets = (
        select(c.resets_at, c.upstream, c.account)
        .join(name, name.c.id == c.window)
        .where(name.c.text == WINDOW, c.resets_at >= since * QUARTER * 1000, c.resets_at < (until + LENGTH) * QUARTER * 1000)
        .distinct()
    )
    found: dict[Account, list[int]] = defaultdict(list)
    for at, *account in connection.execute(resets):
        found[account[0], account[1]].append(int(at) // (QUARTER * 1000) - LENGTH)
    return found


def _check(count: int) -> None:
    if count > MAX_SPANS:
        raise ValueError(f"More than {MAX_SPANS} windows: choose a shorter time, or one account.")


def cut(starts: Sequence[int], active: Iterable[int], since: int, until: int, where: tzinfo) -> list[Span]:
    """An account's windows, without gaps in what is active and without overlaps. Pure.

    Args:
        starts: quarter hours in which a window is known to begin, sorted.
        active: quarter hours that have exchanges, sorted.

    Raises:
        ValueError: there are more than MAX_SPANS.
    """
    found: list[Span] = []
    for bucket in active:
        if found and bucket < found[-1].end:
            continue
        at = bisect_right(starts, bucket)
        known = at > 0 and bucket < starts[at - 1] + LENGTH
        start = starts[at - 1] if known else bucket
        end = min([start + LENGTH, *starts[at : at + 1]])
        found.append(Span(_key(start, where, estimated=not known), max(start, since), min(end, until)))
        _check(len(found))
    return found


def _key(start: int, where: tzinfo, *, estimated: bool) -> str:
    local = datetime.fromtimestamp(start * QUARTER, where).isoformat(timespec="minutes")
    return f"~{local}" if estimated else local
