"""Quota samples in the database: the last one of each quarter hour and window is kept.

A window is kept under its name, with its meter in brackets where that is not the plan's credits: "5h", "week (tokens)".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, delete, insert

from claude_proxy.ledger.names import Names
from claude_proxy.ledger.options import Sample
from claude_proxy.ledger.prices.quota import Meter, Window
from claude_proxy.ledger.tables import BUCKET_MS, quota_sample

_LABEL = re.compile(rf"(.*?)(?: \(({'|'.join(Meter)})\))?")
_HOURS = re.compile(r"(\d{1,3})h", re.ASCII)
_METERS = {str(meter): meter for meter in Meter}
_PPM = 1_000_000
_WEEK = 7 * 24 * 3600


def keep(connection: Connection, names: Names, taken: Sample, day: int) -> None:
    """Replace the sample of the same quarter hour. Call it inside a transaction, and `names.commit` after the commit."""
    ids = names.resolve(connection, _texts(taken), day)
    upstream = ids["upstream"][taken.upstream]
    account = 0 if taken.account is None else ids["account"][taken.account]
    rows = {ids["window"][label(window)]: _row(window) for window in taken.windows}
    c = quota_sample.c
    start = taken.at // BUCKET_MS * BUCKET_MS
    before = delete(quota_sample).where(c.at >= start, c.at <= taken.at, c.upstream == upstream, c.account == account)
    connection.execute(before)
    if rows:
        key = {"at": taken.at, "upstream": upstream, "account": account}
        connection.execute(insert(quota_sample), [{**key, "window": window, **row} for window, row in sorted(rows.items())])


def _texts(taken: Sample) -> Iterator[tuple[str, str]]:
    yield "upstream", taken.upstream
    if taken.account is not None:
        yield "account", taken.account
    for window in taken.windows:
        yield "window", label(window)


def _row(window: Window) -> dict[str, int | None]:
    return {
        "used_micro": window.used,
        "limit_micro": window.allowance,
        "used_ppm": None if window.ratio is None else round(window.ratio * _PPM),
        "resets_at": None if window.resets_at is None else int(window.resets_at * 1000),
    }


def label(window: Window) -> str:
    """The text that identifies a window in the database."""
    return window.name if window.meter is Meter.CREDITS else f"{window.name} ({window.meter})"


def window_of(text: str, row: Any) -> Window:
    """The window that a row of `quota_sample` kept.

    Args:
        text: of its window.
    """
    found = _LABEL.fullmatch(text)
    name, meter = (found[1], found[2]) if found is not None else (text, None)
    allowance, used = row.limit_micro, row.used_micro
    ratio = used / allowance if allowance and used is not None else None if row.used_ppm is None else row.used_ppm / _PPM
    return Window(
        name=name,
        meter=_METERS.get(meter or Meter.CREDITS, Meter.OTHER),
        type="",
        allowance=allowance,
        used=used,
        left=max(0, allowance - used) if allowance is not None and used is not None else None,
        ratio=ratio,
        seconds=_seconds(name),
        resets_at=None if row.resets_at is None else row.resets_at / 1000,
    )


def _seconds(name: str) -> int | None:
    hours = _HOURS.fullmatch(name)
    return int(hours[1]) * 3600 if hours is not None else _WEEK if name == "week" else None
