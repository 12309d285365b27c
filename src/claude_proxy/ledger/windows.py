"""A plan's windows of five hours, for sums: as the provider's quota endpoint reported them, else estimated.

A window begins with the first request after the previous window has ended. Where no reset was sampled, it is estimated from
our own exchanges, and the window's key is marked with "~". Windows are cut to quarter hours, like the rollup.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo

from sqlalchemy import Connection, select

from claude_proxy.ledger.periods import MAX_SPANS, QUARTER, Span
from claude_proxy.ledger.tables import name, quota_sample, rollup

WINDOW = "5h"
LENGTH = 20  # quarter hours


def spans(connection: Connection, since: int, until: int, where: tzinfo) -> list[Span]:
    """The windows with exchanges in the quarter hours from `since` to before `until`."""
    active = select(rollup.c.bucket).where(rollup.c.bucket >= since, rollup.c.bucket < until).distinct().order_by(rollup.c.bucket)
    return cut(_starts(connection, since, until), connection.execute(active).scalars(), since, until, where)


def _starts(connection: Connection, since: int, until: int) -> list[int]:
    """The quarter hours in which windows began, as the provider reported them."""
    c = quota_sample.c
    resets = (
        select(c.resets_at)
        .join(name, name.c.id == c.window)
        .where(name.c.text == WINDOW, c.resets_at >= since * QUARTER * 1000, c.resets_at < (until + LENGTH) * QUARTER * 1000)
        .distinct()
    )
    return sorted({int(at) // (QUARTER * 1000) - LENGTH for at in connection.execute(resets).scalars()})


def cut(starts: Sequence[int], active: Iterable[int], since: int, until: int, where: tzinfo) -> list[Span]:
    """Windows without gaps in what is active and without overlaps. Pure.

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
        if len(found) > MAX_SPANS:
            raise ValueError(f"More than {MAX_SPANS} windows: choose a shorter time.")
    return found


def _key(start: int, where: tzinfo, *, estimated: bool) -> str:
    local = datetime.fromtimestamp(start * QUARTER, where).isoformat(timespec="minutes")
    return f"~{local}" if estimated else local
