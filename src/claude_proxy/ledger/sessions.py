"""What is read of sessions: their sums by agent, who called whom, what broke the prompt cache, and which exchanges are next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select

from claude_proxy.ledger.answers import NANO, amounts, rfc3339
from claude_proxy.ledger.tables import BUCKET_MS, ROLLUP_SUMS, exchange, name, rollup
from claude_proxy.ledger.tables import session as sessions
from claude_proxy.ledger.usage import texts_of, totals_of

LOOKED_AT = 20_000  # exchanges of a session that a story is told from: its latest


class Story(NamedTuple):
    """What the rows of a session's latest exchanges say.

    Attributes:
        parents: the agent that called each agent; None where it was the main conversation.
        breaks: what was lost to the cache, by cause, the dearest first:
            {"verdict", "area", "count", "lost_tokens", "lost_usd"}.
        turns: answers of the main conversation that ended the model's turn.
        whole: whether all its exchanges were looked at.
        looked_at: how many are looked at, at most.
    """

    parents: dict[str, str | None]
    breaks: list[dict[str, Any]]
    turns: int
    whole: bool
    looked_at: int = LOOKED_AT


def story(connection: Connection, session: int | None) -> Story:
    """Read the story of a session.

    Args:
        session: the id of its name; None for one that is not there.
    """
    if session is None:
        return Story({}, [], 0, whole=True)
    c = exchange.c
    columns = (c.agent, c.parent_agent, c["class"], c.stop_reason, c.verdict, c.verdict_area, c.verdict_lost, c.lost_nano)
    latest = select(*columns).where(c.session == session).order_by(c.id.desc()).limit(LOOKED_AT).subquery()
    keys = [latest.c[column.name] for column in columns[:-2]]
    sums = [func.count().label("rows"), func.sum(latest.c.verdict_lost).label("lost"), func.sum(latest.c.lost_nano).label("nano")]
    found = connection.execute(select(*keys, *sums).group_by(*keys)).all()
    texts = texts_of(connection, {number for row in found for number in row[: len(keys)]})
    parents = {texts[row.agent]: texts.get(row.parent_agent) for row in found if row.agent in texts}
    turns = sum(row.rows for row in found if _ends_turn(row, texts))
    return Story(parents, _breaks(found, texts), turns, whole=sum(row.rows for row in found) < LOOKED_AT)


def _ends_turn(row: Row[Any], texts: Mapping[int, str]) -> bool:
    own = not row.agent and texts.get(row._mapping["class"]) in (None, "main")
    return own and texts.get(row.stop_reason) == "end_turn"


def _breaks(found: Sequence[Row[Any]], texts: Mapping[int, str]) -> list[dict[str, Any]]:
    causes: dict[tuple[str, str | None], dict[str, Any]] = {}
    for row in found:
        if not row.lost or row.verdict not in texts:
            continue
        cause = (texts[row.verdict], texts.get(row.verdict_area))
        empty = {"verdict": cause[0], "area": cause[1], "count": 0, "lost_tokens": 0, "lost_usd": None}
        known = causes.setdefault(cause, empty)
        known["count"] += row.rows
        known["lost_tokens"] += int(row.lost)
        if row.nano is not None:
            known["lost_usd"] = (known["lost_usd"] or 0) + int(row.nano) / NANO
    return sorted(causes.values(), key=lambda one: (-(one["lost_usd"] or 0), -one["lost_tokens"]))


def named_like(part: str) -> ColumnElement[bool]:
    """The condition that a session's name, or its project's, contains a text in any case."""

    def named(kind: str) -> Any:
        return select(name.c.id).where(name.c.kind == kind, name.c.text.icontains(part, autoescape=True))

    return or_(sessions.c.id.in_(named("session")), sessions.c.project.in_(named("project")))


def neighbours(connection: Connection, number: int) -> dict[str, int | None]:
    """The exchanges before and after one in its session; None at the ends, and where there is no session."""
    c = exchange.c
    session = connection.execute(select(c.session).where(c.id == number)).scalar()
    if not session:
        return {"previous": None, "next": None}
    of_it = c.session == session
    before = select(c.id).where(of_it, c.id < number).order_by(c.id.desc()).limit(1)
    after = select(c.id).where(of_it, c.id > number).order_by(c.id).limit(1)
    return {"previous": connection.execute(before).scalar(), "next": connection.execute(after).scalar()}


def with_sums(connection: Connection, found: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    """Rows of `session` with their texts, sums, and sums by agent."""
    if not found:
        return []
    c = rollup.c
    within = and_(
        c.bucket >= min(row.first_seen for row in found) // BUCKET_MS,
        c.bucket <= max(row.last_seen for row in found) // BUCKET_MS,
        c.session.in_([row.id for row in found]),
    )
    sums = [func.sum(c[key]).label(key) for key in ROLLUP_SUMS]
    parts = connection.execute(select(c.session, c.agent, c.model, *sums).where(within).group_by(c.session, c.agent, c.model))
    by_session: dict[int, list[Row[Any]]] = {row.id: [] for row in found}
    for part in parts:
        by_session[part.session].append(part)
    numbers = {row.id for row in found} | {row.project for row in found}
    numbers |= {number for rows in by_session.values() for row in rows for number in (row.agent, row.model)}
    texts = texts_of(connection, numbers)
    return [_session_item(row, by_session[row.id], texts) for row in found]


def _session_item(row: Row[Any], parts: Sequence[Row[Any]], texts: Mapping[int, str]) -> dict[str, Any]:
    return {
        "session": texts.get(row.id),
        "project": texts.get(row.project),
        "first_seen": rfc3339(row.first_seen),
        "last_seen": rfc3339(row.last_seen),
        "models": sorted({texts[part.model] for part in parts if part.model}),
        **amounts(totals_of(parts)),
        "agents": _per_agent(parts, texts),
    }


def _per_agent(parts: Iterable[Row[Any]], texts: Mapping[int, str]) -> list[dict[str, Any]]:
    agents: dict[int, list[Row[Any]]] = {}
    for part in parts:
        agents.setdefault(part.agent, []).append(part)
    return [{"agent": texts.get(agent), **amounts(totals_of(rows))} for agent, rows in sorted(agents.items())]
