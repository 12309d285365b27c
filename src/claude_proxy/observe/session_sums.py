"""What a session has used so far: the ledger's sums plus what the ledger does not have yet.

The ledger has an exchange about a second after its end. Calls that ended in the last seconds are therefore added from memory
unless the ledger contains them, and running calls with the usage reported so far.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from claude_proxy.exchange import Kind
from claude_proxy.ledger.record import Charge, Record, record
from claude_proxy.observe.sessions import Sessions
from claude_proxy.protocol.status_line import Cost, Tokens

log = structlog.get_logger("statusline")

FRESH = 1.0  # seconds that a ledger answer is reused
STALE = 10.0  # seconds that it is used if a newer one is late; must be less than RECENT of `sessions`
WAIT = 0.12  # seconds that a line waits for the ledger
SHORT_WAIT = 0.02  # the same where an older answer is there, which the calls since then make as good
FEW = 20  # calls that are priced on the event loop: less work than handing them to a thread
MAX_KEPT = 200  # sessions whose answer is kept


class Booked(NamedTuple):
    """What the ledger has of a session.

    Attributes:
        sums: by the names of its rollup.
        present: which of the given exchanges the sums include.
    """

    sums: Mapping[str, int]
    present: frozenset[str]


Books = Callable[[str, Sequence[str]], Booked]
"""Asks the ledger about a session and some exchanges, by id; in a thread, may raise."""


class Sums(NamedTuple):
    """What a session has used."""

    tokens: Tokens
    cost: Cost


@dataclass(slots=True)
class _Kept:
    at: float
    booked: Booked


class SessionSums:
    """Adds sessions up.

    Args:
        sessions: running and recently finished exchanges.
        books: queries the ledger.
        price: prices a record; called in a thread.
        clock: monotonic seconds.
        wait: seconds to wait for the ledger.
        short_wait: the same where an older answer is there.
    """

    def __init__(
        self,
        sessions: Sessions,
        books: Books,
        price: Callable[[Record], Charge],
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: float = WAIT,
        short_wait: float = SHORT_WAIT,
    ) -> None:
        self._sessions = sessions
        self._books = books
        self._price = price
        self._clock = clock
        self._wait = wait
        self._short_wait = short_wait
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._failing = False
        self._has_prices = False  # the first price reads the table

    async def of(self, session: str) -> Sums | None:
        """A session's sums; None if the ledger does not answer in time."""
        kept = self._kept.get(session)
        if kept is None or self._clock() - kept.at > FRESH:
            task = self._asking.get(session)
            if task is None:
                task = self._asking[session] = asyncio.get_running_loop().create_task(self._ask(session))
                task.add_done_callback(lambda _: self._asking.pop(session, None))
            usable = kept is not None and self._clock() - kept.at <= STALE
            await asyncio.wait((task,), timeout=self._short_wait if usable else self._wait)
            kept = self._kept.get(session)
        if kept is None or self._clock() - kept.at > STALE:
            return None
        return await self._added(session, kept.booked)

    async def _ask(self, session: str) -> None:
        at = self._clock()
        ended = [exchange.id for exchange in self._sessions.recent(session)]
        try:
            booked = await asyncio.to_thread(self._books, session, ended)
        except Exception as error:  # not readable now: the line goes without the sums, and readers of the API get the reason
            if not self._failing:
                log.debug("status_line_without_sums", exc_info=error)
            self._failing = True
            return
        self._failing = False
        self._kept[session] = _Kept(at, booked)
        self._kept.move_to_end(session)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    async def _added(self, session: str, booked: Booked) -> Sums:
        recent = [one for one in self._sessions.recent(session) if one.id not in booked.present]
        running = self._sessions.running(session)
        estimated = any(one.usage is not None for one in running)
        records = [record(one) for one in (*recent, *running)]
        sums = dict(booked.sums)
        if records:
            quick = self._has_prices and len(records) <= FEW
            costs = self._priced(records) if quick else await asyncio.to_thread(self._priced, records)
            self._has_prices = True
            for one, cost in zip(records, costs, strict=True):
                _add(sums, one, cost)
        return _sums(sums, estimated=estimated)

    def _priced(self, records: Iterable[Record]) -> list[int | None]:
        return [self._price(one).cost_nano if one.used else None for one in records]


def _add(sums: dict[str, int], one: Record, cost: int | None) -> None:
    """Add a record as the ledger's rollup does."""
    for name in ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h"):
        sums[name] = sums.get(name, 0) + (getattr(one, name) or 0)
    sums["exchanges"] = sums.get("exchanges", 0) + (one.kind == Kind.MESSAGES)
    if cost is not None:
        sums["cost_nano"] = sums.get("cost_nano", 0) + cost
        sums["priced"] = sums.get("priced", 0) + 1
    elif one.used:
        sums["unpriced"] = sums.get("unpriced", 0) + 1


def _sums(sums: Mapping[str, int], *, estimated: bool) -> Sums:
    def of(name: str) -> int:
        return sums.get(name, 0)

    writes = of("cache_write_5m") + of("cache_write_1h")
    nano = None if of("unpriced") and not of("priced") else of("cost_nano")
    return Sums(Tokens(of("input"), of("output"), of("cache_read"), writes, estimated), Cost(nano, of("unpriced"), estimated))
