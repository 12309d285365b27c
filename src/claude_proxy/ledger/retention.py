"""Deletes what is too old or too much, in steps of a few milliseconds, each its own transaction.

By age, exchanges and fine rollups are deleted; rollups by day stay. By size (SQLite only), the oldest exchanges are deleted
first, then the oldest fine rollups, which are those not folded yet to their day (UTC) without session, agent and client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, Connection, and_, delete, func, insert, or_, select, true, union

from claude_proxy import ids
from claude_proxy.ledger.options import Options
from claude_proxy.ledger.tables import (
    BUCKETS_PER_DAY,
    DAY_MS,
    ROLLUP_SUMS,
    attempt,
    exchange,
    incident,
    meta,
    name,
    quota_sample,
    rollup,
    run,
    session,
)

PASS_SECONDS = 300.0  # between two passes
STEP_SECONDS = 0.05  # between two steps: waiting rows are written first
STEP_ROWS = 2000
STEP_NAMES = 500
STEP_PAGES = 256
FREE_PAGES = 1024  # stay in the file for the next rows
TRIM = 0.95  # of max_bytes, the target of a pass, so that not every pass has to delete
_CLAIM = "retention"

_c = rollup.c
FINE = or_(_c.session != 0, _c.agent != 0, _c.client != 0, _c.bucket % BUCKETS_PER_DAY != 0)


class Retention:
    """Keeps a database within its limits. Of several processes, one does each pass.

    Args:
        options: `keep_days` and `max_bytes`.
        wall: Unix seconds.
    """

    def __init__(self, options: Options, wall: Callable[[], float]) -> None:
        self._options = options
        self._wall = wall
        self._steps: Iterator[None] = iter(())
        self._next_look = 0.0

    def step(self, connection: Connection) -> float:
        """Do the next piece of work if there is one; returns seconds until the next."""
        now = self._wall()
        try:
            next(self._steps)
        except StopIteration:
            if now < self._next_look:
                return self._next_look - now
            self._next_look = now + PASS_SECONDS
            self._steps = self._look(connection, int(now * 1000))
        return STEP_SECONDS

    def _look(self, connection: Connection, now: int) -> Iterator[None]:
        if not self._claim(connection, now):
            return
        oldest_day = now // DAY_MS - self._options.keep_days
        before = oldest_day * DAY_MS
        yield from self._rows_before(connection, ids.first_of(before))
        yield from self._fold_before(connection, oldest_day)
        yield from self._small_tables(connection, before)
        if connection.dialect.name == "sqlite":
            yield from self._by_size(connection, now // DAY_MS)
        yield from self._prune(connection, now // DAY_MS)
        if connection.dialect.name == "sqlite":
            yield from self._vacuum(connection)

    def _claim(self, connection: Connection, now: int) -> bool:
        """Whether this process does this pass."""
        with connection.begin():
            last = connection.execute(select(meta.c.value).where(meta.c.key == _CLAIM).with_for_update()).scalar()
            if last is not None and 0 <= now - int(last) < PASS_SECONDS * 500:
                return False
            connection.execute(delete(meta).where(meta.c.key == _CLAIM))
            connection.execute(insert(meta).values(key=_CLAIM, value=str(now)))
            return True

    def _rows_before(self, connection: Connection, before: int) -> Iterator[None]:
        while self._delete_rows(connection, before):
            yield

    def _delete_rows(self, connection: Connection, before: int) -> int:
        """Delete the oldest exchanges below an id, one step's worth; returns how many."""
        with connection.begin():
            oldest = select(exchange.c.id).where(exchange.c.id < before).order_by(exchange.c.id).limit(STEP_ROWS)
            found = connection.execute(oldest).scalars().all()
            if found:
                connection.execute(delete(exchange).where(exchange.c.id <= found[-1]))
                connection.execute(delete(attempt).where(attempt.c.exchange <= found[-1]))
            return len(found)

    def _fold_before(self, connection: Connection, day: int) -> Iterator[None]:
        while (oldest := self._oldest_fine(connection)) is not None and oldest < day:
            self._fold(connection, oldest)
            yield

    def _oldest_fine(self, connection: Connection) -> int | None:
        """The oldest day that has fine rollups."""
        with connection.begin():
            found = connection.execute(select(_c.bucket).where(FINE).order_by(_c.bucket).limit(1)).scalar()
        return None if found is None else int(found) // BUCKETS_PER_DAY

    def _fold(self, connection: Connection, day: int) -> None:
        """Fold a day's rollups, including those folded before."""
        first = day * BUCKETS_PER_DAY
        of_day = and_(_c.bucket >= first, _c.bucket < first + BUCKETS_PER_DAY)
        kept = (_c.model, _c.upstream, _c.account, _c["class"])
        sums = select(*kept, *(func.sum(_c[key]).label(key) for key in ROLLUP_SUMS)).where(of_day).group_by(*kept)
        with connection.begin():
            if connection.dialect.name == "postgresql":  # or rows that another process adds now would be deleted uncounted
                connection.exec_driver_sql("LOCK TABLE rollup IN SHARE ROW EXCLUSIVE MODE")
            folded = [dict(row._mapping) for row in connection.execute(sums)]
            connection.execute(delete(rollup).where(of_day))
            if folded:
                blank = {"bucket": first, "session": 0, "agent": 0, "client": 0}
                counts = [{key: int(value) for key, value in row.items()} for row in folded]
                connection.execute(insert(rollup), [row | blank for row in counts])

    def _small_tables(self, connection: Connection, before: int) -> Iterator[None]:
        for statement in (
            delete(quota_sample).where(quota_sample.c.at < before),
            delete(incident).where(func.coalesce(incident.c.closed, incident.c.seen) < before),
            delete(run).where(run.c.ended < before),
        ):
            with connection.begin():
                connection.execute(statement)
            yield

    def _by_size(self, connection: Connection, today: int) -> Iterator[None]:
        limit = self._options.max_bytes
        if used_bytes(connection) <= limit:
            return
        limit = int(limit * TRIM)
        while used_bytes(connection) > limit:
            if not self._delete_rows(connection, ids.MAX_ID):
                oldest = self._oldest_fine(connection)
                if oldest is None or oldest >= today:
                    return  # what is left is small, or today's
                self._fold(connection, oldest)
            yield

    def _prune(self, connection: Connection, today: int) -> Iterator[None]:
        """Delete sessions and texts that nothing refers to any more.

        Each text has the last day on which it was looked up for a row, which is never earlier than the row's own. So a text that
        was last used before the oldest row's day is unused; only folded rollups and small tables have to be searched for it.
        """
        with connection.begin():
            oldest = connection.execute(select(func.min(exchange.c.id))).scalar()
        days = [today if oldest is None else ids.milliseconds(int(oldest)) // DAY_MS]
        fine = self._oldest_fine(connection)
        days += [] if fine is None else [fine]
        unused = min(days) - 1  # a day of margin for a clock that was changed
        with connection.begin():
            connection.execute(delete(session).where(session.c.last_seen < unused * DAY_MS))
        yield
        while self._delete_names(connection, unused):
            yield

    def _delete_names(self, connection: Connection, day: int) -> int:
        old = and_(name.c.last_day < day, name.c.id.not_in(_used_ids(day)))
        with connection.begin():
            found = connection.execute(select(name.c.id).where(old).limit(STEP_NAMES)).scalars().all()
            if found:  # checks the day again: another process may have used the text meanwhile
                connection.execute(delete(name).where(name.c.id.in_(found), name.c.last_day < day))
            return len(found)

    def _vacuum(self, connection: Connection) -> Iterator[None]:
        while _pragma(connection, "freelist_count") > FREE_PAGES:
            driver: Any = connection.connection.driver_connection
            driver.executescript(f"PRAGMA incremental_vacuum({STEP_PAGES})")  # `execute` would stop after one page
            yield


def used_bytes(connection: Connection) -> int:
    """Bytes of a SQLite database that are in use."""
    pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    return pages * _pragma(connection, "page_size")


def _pragma(connection: Connection, question: str) -> int:
    with connection.begin():
        return int(connection.exec_driver_sql(f"PRAGMA {question}").scalar_one())


def _used_ids(day: int) -> CompoundSelect[tuple[int]]:
    folded: ColumnElement[bool] = _c.bucket < (day + 1) * BUCKETS_PER_DAY
    columns = [(rollup, key, folded) for key in ("model", "upstream", "account", "class")]
    columns += [(quota_sample, key, true()) for key in ("upstream", "account", "window")]
    columns += [(session, key, true()) for key in ("id", "project")]
    return union(*(select(table.c[key]).where(where) for table, key, where in columns))
