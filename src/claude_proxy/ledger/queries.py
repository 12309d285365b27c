"""Reads the ledger in short transactions, each with a time limit. Usable from any thread and any process."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, func, literal_column, or_, select, true
from sqlalchemy.exc import DBAPIError

from claude_proxy import ids
from claude_proxy.ledger import periods
from claude_proxy.ledger import tables as t
from claude_proxy.ledger.answers import attempt_item, exchange_item
from claude_proxy.ledger.database import Connect, file_connect, postgres_engine, sqlite_engine, trouble
from claude_proxy.ledger.errors import errors, speeds
from claude_proxy.ledger.incidents import newest
from claude_proxy.ledger.minutes import minutes
from claude_proxy.ledger.options import FILE, IncidentRow, NotReadable, Options, TooSlow
from claude_proxy.ledger.quotas import quota
from claude_proxy.ledger.schema import HEAD, VERSIONS, version_of
from claude_proxy.ledger.sessions import Story, named_like, neighbours, story, with_sums
from claude_proxy.ledger.usage import BY, DIMENSIONS, By, Dimension, bounds, text_id, texts_of, totals_of, usage

__all__ = ["MAX_LIMIT", "Books", "NotReadable", "TooSlow"]

MAX_LIMIT = 1000
TIMEOUT = 1.0
LATER = 2  # seconds after which a database that is locked, restarts or is being made may be there
_LONGEST = 6 * 3600.0  # seconds that an exchange may take and still be found by its end
_INSTRUCTIONS = 20_000  # of SQLite's machine between two looks at the clock
_EXCHANGE_TEXTS = tuple(t.kinds(t.exchange))
_ATTEMPT_TEXTS = tuple(t.kinds(t.attempt))


class Books:
    """The ledger's reader.

    Args:
        engine: for reading, from `database`.
        timeout: seconds that one query may take.
        wall: Unix seconds.
    """

    def __init__(self, engine: Engine, *, timeout: float = TIMEOUT, wall: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._timeout = timeout
        self._wall = wall
        self._checked = False

    @classmethod
    def open(cls, options: Options, in_memory: Connect | None = None, *, timeout: float = TIMEOUT) -> Books:
        """The books of a ledger; `in_memory` reaches one that is kept in this process (`Opener.reading`)."""
        if options.database_url is not None:
            return cls(postgres_engine(options.database_url, reading=True), timeout=timeout)
        connect = in_memory or file_connect(options.data_dir / FILE, make=False)
        return cls(sqlite_engine(connect, reading=True), timeout=timeout)

    # -- exchanges

    def exchanges(
        self,
        limit: int = 50,
        before: str | None = None,
        *,
        session: str | None = None,
        agent: str | None = None,
        model: str | None = None,
        status: str | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> dict[str, Any]:
        """The last exchanges, newest first.

        Args:
            limit: 1 to 1000.
            before: the `next` of the page before: an exchange's id.
            session, agent, model: as the client named them; an empty text means "none".
            status: a number such as "429", a class such as "5xx", or "failed".
            since, until: Unix seconds between which they began.

        Returns:
            {"items": [...], "next": cursor or None}.

        Raises:
            ValueError: an argument is invalid; a sentence.
            NotReadable: the ledger cannot be read now, or not in time.
        """
        _check_limit(limit)
        condition = and_(true() if before is None else t.exchange.c.id < ids.decode(before), _of_status(status))
        condition = and_(condition, *_between(since, until))
        with self._reading() as connection:
            for kind, wanted in (("session", session), ("agent", agent), ("model", model)):
                if wanted is not None:
                    number = text_id(connection, kind, wanted)
                    if number is None:
                        return {"items": [], "next": None}
                    condition = and_(condition, t.exchange.c[kind] == number)
            newest = select(t.exchange).where(condition).order_by(t.exchange.c.id.desc()).limit(limit + 1)
            found = connection.execute(newest).all()
            texts = texts_of(connection, _ids_in(found, _EXCHANGE_TEXTS))
        items = [exchange_item(row._asdict(), texts) for row in found[:limit]]
        return {"items": items, "next": items[-1]["id"] if len(found) > limit else None}

    def ended_since(self, ended: float, limit: int = MAX_LIMIT) -> list[dict[str, Any]]:
        """The exchanges that ended at a Unix time or later, sorted by their end. Those that took over six hours are left out.

        Args:
            limit: if there are more, the latest.
        """
        c = t.exchange.c
        began = ids.first_of(int((ended - _LONGEST) * 1000))
        end = c.id.bitwise_rshift(literal_column("22")) + c.duration_ms  # PostgreSQL shifts a bigint by an int only
        wanted = select(t.exchange).where(c.id >= began, end >= int(ended * 1000)).order_by(end.desc(), c.id.desc()).limit(limit)
        with self._reading() as connection:
            found = connection.execute(wanted).all()
            texts = texts_of(connection, _ids_in(found, _EXCHANGE_TEXTS))
        return [exchange_item(row._asdict(), texts) for row in reversed(found)]

    def exchange(self, number: str) -> dict[str, Any] | None:
        """One exchange with its attempts; None if it is not there. Raises as `exchanges` does."""
        key = ids.decode(number)
        with self._reading() as connection:
            found = connection.execute(select(t.exchange).where(t.exchange.c.id == key)).first()
            if found is None:
                return None
            tries = connection.execute(select(t.attempt).where(t.attempt.c.exchange == key).order_by(t.attempt.c.number)).all()
            texts = texts_of(connection, _ids_in([found], _EXCHANGE_TEXTS) | _ids_in(tries, _ATTEMPT_TEXTS))
            project = self._project(connection, found.session)
        item = exchange_item(found._asdict(), texts)
        return item | {"project": project, "attempts": [attempt_item(row._asdict(), texts) for row in tries]}

    def _project(self, connection: Connection, session: int) -> str | None:
        found = connection.execute(select(t.session.c.project).where(t.session.c.id == session)).scalar()
        return texts_of(connection, {found}).get(found) if found else None

    # -- sessions

    def sessions(
        self,
        limit: int = 50,
        before: str | None = None,
        *,
        project: str | None = None,
        session: str | None = None,
        search: str | None = None,
    ) -> dict[str, Any]:
        """Sessions, the one that was active last first, with their sums. Arguments and errors as in `exchanges`.

        Args:
            project, session: only those of this name.
            search: only those whose own or whose project's name contains this, in any case.
        """
        _check_limit(limit)
        c = t.session.c
        with self._reading() as connection:
            condition = and_(_before(before), true() if search is None else named_like(search))
            for kind, column, wanted in (("project", c.project, project), ("session", c.id, session)):
                if wanted is not None:
                    number = text_id(connection, kind, wanted)
                    if number is None:
                        return {"items": [], "next": None}
                    condition = and_(condition, column == number)
            page = select(t.session).where(condition).order_by(c.last_seen.desc(), c.id.desc()).limit(limit + 1)
            found = connection.execute(page).all()
            items = with_sums(connection, found[:limit])
        last = found[limit - 1] if len(found) > limit else None
        return {"items": items, "next": None if last is None else f"{last.last_seen}-{last.id}"}

    def session(self, session: str) -> dict[str, Any] | None:
        """One session; None if it is not there. Raises NotReadable."""
        with self._reading() as connection:
            number = text_id(connection, "session", session)
            found = connection.execute(select(t.session).where(t.session.c.id == number)).all() if number else []
            items = with_sums(connection, found)
        return items[0] if items else None

    def story(self, session: str) -> Story:
        """What a session's own exchanges say of it, with texts; see `sessions.Story`. Raises NotReadable."""
        with self._reading() as connection:
            return story(connection, text_id(connection, "session", session))

    def neighbours(self, number: str) -> dict[str, str | None]:
        """The exchanges next to one in its session, as {"previous", "next"}: ids, or None. Raises as `exchanges` does."""
        with self._reading() as connection:
            found = neighbours(connection, ids.decode(number))
        return {place: None if key is None else ids.encode(key) for place, key in found.items()}

    def projects(self, sessions: Iterable[str]) -> dict[str, str]:
        """The project of each of some sessions, as far as it is known. Raises NotReadable."""
        c, session, project = t.session.c, t.name.alias(), t.name.alias()
        joined = t.session.join(session, session.c.id == c.id).join(project, project.c.id == c.project)
        wanted = and_(session.c.kind == "session", session.c.text.in_(set(sessions)))
        with self._reading() as connection:
            found = connection.execute(select(session.c.text, project.c.text).select_from(joined).where(wanted)).all()
        return {row[0]: row[1] for row in found}

    def session_sums(self, session: str, ended: Sequence[str]) -> tuple[dict[str, int], frozenset[str]]:
        """A session's sums, and which of some exchanges are in them, at one point in time.

        Args:
            session: as the client names it.
            ended: ids of exchanges of this session that the ledger may not have yet.

        Returns:
            Sums by the names of ROLLUP_SUMS, all 0 for a session that is not there; and of `ended` those that are.

        Raises:
            NotReadable: as `exchanges`.
        """
        c, numbers = t.rollup.c, {ids.decode(one): one for one in ended}
        present = select(t.exchange.c.id).where(t.exchange.c.id.in_(numbers))
        with self._reading() as connection:
            there = connection.execute(present).scalars().all() if ended else []
            number = text_id(connection, "session", session) or 0
            found = connection.execute(select(t.session).where(t.session.c.id == number)).first() if number else None
            parts: Any = ()
            if found is not None:
                first, last = found.first_seen // t.BUCKET_MS, found.last_seen // t.BUCKET_MS
                sums = [func.coalesce(func.sum(c[key]), 0).label(key) for key in t.ROLLUP_SUMS]
                within = and_(c.bucket >= first, c.bucket <= last, c.session == number)
                parts = connection.execute(select(*sums).where(within)).all()
        return totals_of(parts), frozenset(numbers[one] for one in there)

    # -- sums

    def usage(
        self,
        by: By = "day",
        *,
        since: float | None = None,
        until: float | None = None,
        timezone: str = "UTC",
        filters: Mapping[Dimension, str] | None = None,
        breakdown: bool = False,
        limit: int | None = None,
        last: int | None = None,
    ) -> dict[str, Any]:
        """Sums over a time, in groups.

        Args:
            by: hour, day, week (from Monday) or month of the time zone; or an account's window of five hours (see `windows`); or
                session, project, model, agent, class, client, upstream, account. Groups of a time are in its order, without
                those that are empty; others by cost, the most expensive first.
            since, until: Unix seconds, taken to the quarter hour around them; by default all there is.
            timezone: an IANA name.
            filters: only what has this session, project, ...; an empty text means "none".
            breakdown: each group's sums per model too.
            limit: at most so many groups: the most expensive, or of a time the latest. The totals are still of all.
            last: of a time, so many of the latest groups that have exchanges, and the totals of these alone.

        Returns:
            {"from", "to", "timezone", "by", "totals": {...}, "groups": [{"key", ..., "models": [names]}]}, with sums named as in
            `answers.amounts`; a window also has "upstream" and "account"; with `breakdown` each group has
            `"breakdown": [{"model", ...}]`; with `limit` there is "more", the number of groups that are left out.

        Raises:
            ValueError, NotReadable: as `exchanges`.
        """
        where = periods.zone(timezone)
        filters = filters or {}
        if limit is not None:
            _check_limit(limit)
        for wanted, known in [(by, BY), *((key, DIMENSIONS) for key in filters)]:
            if wanted not in known:
                raise ValueError(f"{wanted!r} is nothing to group or filter by: expected one of {', '.join(known)}.")
        with self._reading() as connection:
            first, after = bounds(connection) or (periods.quarter(self._wall()),) * 2
            start = first if since is None else periods.quarter(since)
            end = max(after, periods.quarter_after(self._wall())) if until is None else periods.quarter_after(until)
            more: Any = {"filters": filters, "breakdown": breakdown, "limit": limit, "last": last}
            return usage(connection, by, since=start, until=end, where=where, **more)

    def minutes(self, count: int = 60) -> dict[str, Any]:
        """The last minutes, each with its exchanges, failures and time to the first byte (half and 95 % of them came within it).

        Returns:
            {"minutes": [{"at", "exchanges", "failed", "first_byte_p50_ms", "first_byte_p95_ms"}], and the same of all minutes}.

        Raises:
            NotReadable: as `exchanges`.
        """
        with self._reading() as connection:
            return minutes(connection, self._wall(), count)

    def errors(self, since: float) -> list[dict[str, Any]]:
        """Failed exchanges since a Unix time, by upstream and code; see `errors.errors`. Raises NotReadable."""
        with self._reading() as connection:
            return errors(connection, since)

    def speeds(self, since: float) -> dict[str, dict[str, Any]]:
        """Messages calls since a Unix time by upstream, with their time to the first byte. Raises NotReadable."""
        with self._reading() as connection:
            return speeds(connection, since)

    # -- the plan

    def quota(self) -> dict[str, Any]:
        """The windows of each plan as its provider last reported them, with our own counts; see `quotas`. Raises NotReadable."""
        with self._reading() as connection:
            return {"items": quota(connection, self._wall())}

    # -- incidents

    def incidents(self, limit: int = 100) -> list[IncidentRow]:
        """The last incidents, the newest first. Raises NotReadable."""
        _check_limit(limit)
        with self._reading() as connection:
            return newest(connection, limit)

    # -- the way there

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """A read transaction with a time limit. All its statements see the same state of the ledger."""
        deadline = time.monotonic() + self._timeout
        try:
            with self._engine.connect() as connection, connection.begin():
                self._bound(connection, deadline)
                self._check_schema(connection)
                yield connection
        except DBAPIError as error:
            if _was_stopped(error):
                raise TooSlow(f"This took longer than {self._timeout:g} s. Ask for a shorter time, or filter.") from None
            found = trouble(error)
            raise NotReadable(
                f"The ledger cannot be read: {found.reason}.", retry_after=None if found.hopeless else LATER
            ) from error

    def _check_schema(self, connection: Connection) -> None:
        if self._checked:
            return
        version = version_of(connection)
        if version is None:
            raise NotReadable("There is no ledger here yet.", retry_after=LATER)
        if version != HEAD:
            what = f"The ledger has schema {version}, and this claude-proxy reads {HEAD}."
            if version in VERSIONS:
                raise NotReadable(f"{what} The proxy brings it up to date when it starts with this version.")
            raise NotReadable(f"{what} A newer version wrote it: use that one.")
        self._checked = True

    def _bound(self, connection: Connection, deadline: float) -> None:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max(1, int(self._timeout * 1000))}")
            return
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(lambda: time.monotonic() >= deadline, _INSTRUCTIONS)


def _was_stopped(error: DBAPIError) -> bool:
    """Whether our time limit stopped the query."""
    stopped = getattr(error.orig, "sqlstate", None) == "57014"  # query_canceled
    return stopped or getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"limit={limit}: expected a whole number from 1 to {MAX_LIMIT}.")


def _of_status(status: str | None) -> ColumnElement[bool]:
    c = t.exchange.c
    if status is None:
        return true()
    if status == "failed":
        return c.failed == 1
    if len(status) == 3 and status[0] in "12345" and status[1:] == "xx":
        return and_(c.status >= int(status[0]) * 100, c.status < int(status[0]) * 100 + 100)
    if len(status) == 3 and status.isascii() and status.isdigit():
        return c.status == int(status)
    raise ValueError(f"status={status[:20]!r}: expected a number such as 429, a class such as 5xx, or failed.")


def _between(since: float | None, until: float | None) -> Iterator[ColumnElement[bool]]:
    if since is not None:
        yield t.exchange.c.id >= ids.first_of(int(since * 1000))
    if until is not None:
        yield t.exchange.c.id < ids.first_of(int(until * 1000))


def _before(cursor: str | None) -> ColumnElement[bool]:
    """Sessions behind one, in the order of their last activity."""
    if cursor is None:
        return true()
    seen, _, number = cursor.partition("-")
    if not (seen.isascii() and seen.isdigit() and number.isascii() and number.isdigit() and len(cursor) < 36):
        raise ValueError(f"before={cursor[:40]!r}: expected the `next` of the page before.")
    c = t.session.c
    return or_(c.last_seen < int(seen), and_(c.last_seen == int(seen), c.id < int(number)))


def _ids_in(rows: Any, columns: tuple[str, ...]) -> set[int]:
    return {row._mapping[column] for row in rows for column in columns}
