"""A ledger for the commands that read one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from claude_proxy import ids
from claude_proxy.exchange import Attempt, Failure, Outcome, Usage
from claude_proxy.ledger.record import Charge
from tests.ledger.books import NOW, WALL, Clock, entry, write_all
from tests.ledger.places import Place

HOUR = 3_600_000
DOLLAR = 10**9


def fill(folder: Path, *entries: Any) -> list[str]:
    """Write entries into the ledger of a folder; their ids.

    It is written on the day of the last entry, so that a process that tidies the ledger up finds its texts in use.
    """
    written = ids.milliseconds(max(one.record.id for one in entries)) / 1000
    store = Place(folder, clock=Clock(max(WALL, written))).store()
    write_all(store, list(entries))
    store.close(0)
    return [ids.encode(one.record.id) for one in entries]


def a_day(folder: Path) -> list[str]:
    """Exchanges of every kind around 2026-09-21 14:13 UTC."""
    failure = Failure("upstream", "rate_limit_error", "Too many concurrent requests", "1302")
    attempts = [
        Attempt("default", 50.0, status=429, head_at=50.4, failure=failure),
        Attempt("default", 51.0, reused=True, head_at=51.5, status=200),
    ]
    old = entry(NOW - 30 * HOUR, charge=Charge(2 * DOLLAR, 5_500_000, "zai/glm-5.3.abc"), session="old")
    old.record = msgspec.structs.replace(old.record, project="tools")
    return fill(
        folder,
        old,
        entry(NOW, charge=Charge(DOLLAR // 4, None, "zai/glm-5.3.abc"), agent="helper", attempts=attempts),
        entry(NOW + 1000, model="nobody-knows-it", usage=Usage(input=1_234_567, output=8)),
        entry(NOW + 2000, status=429, outcome=Outcome.COMPLETED, usage=None, failure=failure, session=None, client="10.0.0.1"),
        entry(NOW + 3000, outcome=Outcome.CANCELLED, status=499, usage=Usage(input=3, output=1), charge=Charge(4_200_000)),
    )
