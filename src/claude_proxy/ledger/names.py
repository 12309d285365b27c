"""Repeated texts are stored once, as `name(id, kind, text)`; rows hold their ids.

Clients choose many of these texts, so each kind accepts 1,000 new ones a day; later ones become `other`. A lookup marks the text
as used on that day, and a process caches its id until the day ends: so no text is pruned while a process has its id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from sqlalchemy import Connection, bindparam, func, select

from claude_proxy.ledger.options import Trouble
from claude_proxy.ledger.statements import Statements
from claude_proxy.ledger.tables import name

NEW_PER_DAY = 1000
OTHER = "other"
MAX_REMEMBERED = 20_000  # of one kind
Text: TypeAlias = tuple[str, str]  # kind and text

_known = select(name.c.id, name.c.text, name.c.last_day).where(
    name.c.kind == bindparam("kind"), name.c.text.in_(bindparam("texts", expanding=True))
)
_new_today = select(func.count()).select_from(name).where(name.c.kind == bindparam("kind"), name.c.first_day == bindparam("day"))
_used = name.update().where(name.c.id == bindparam("of")).values(last_day=bindparam("day"))


class Names:
    """The texts that this process has looked up today. One per writer. Call `commit` after the transaction's commit."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._day = -1
        self._ids: dict[str, dict[str, int]] = defaultdict(dict)
        self._fresh: dict[str, dict[str, int]] = {}

    def resolve(self, connection: Connection, wanted: Iterable[Text], day: int) -> Mapping[str, Mapping[str, int]]:
        """The ids of texts, by kind and text; new texts are inserted. Call it inside a transaction.

        Args:
            connection: with a transaction begun.
            wanted: kinds and texts; may contain duplicates.
            day: UTC days since 1970.
        """
        if day != self._day:
            self._ids.clear()
            self._day = day
        self._fresh = {}
        missing: dict[str, dict[str, None]] = defaultdict(dict)  # in order of arrival
        for kind, text in wanted:
            if text not in self._ids[kind]:
                missing[kind][text] = None
        if not missing:
            return self._ids
        found: dict[str, dict[str, int]] = {}
        for kind in sorted(missing):  # the same order in all processes prevents deadlocks in PostgreSQL
            found[kind] = self._look_up(connection, kind, list(missing[kind]))
        self._fresh = found
        return dict(self._ids) | {kind: self._ids[kind] | ids for kind, ids in found.items()}

    def commit(self) -> None:
        """The transaction was committed: cache the ids that it looked up."""
        for kind, ids in self._fresh.items():
            known = self._ids[kind]
            if len(known) + len(ids) > MAX_REMEMBERED:
                known.clear()
            known.update(ids)
        self._fresh = {}

    def _look_up(self, connection: Connection, kind: str, texts: list[str]) -> dict[str, int]:
        ids, stale = self._known(connection, kind, texts)
        if stale:
            marked = connection.execute(_used, [{"of": number, "day": self._day} for number in sorted(stale)])
            if marked.rowcount != len(stale):
                raise Trouble("a text was pruned while it was looked up")
        new = [text for text in texts if text not in ids]
        if new:
            self._make(connection, kind, new, ids)
        return ids

    def _make(self, connection: Connection, kind: str, new: list[str], ids: dict[str, int]) -> None:
        room = NEW_PER_DAY - int(connection.execute(_new_today, {"kind": kind, "day": self._day}).scalar_one())
        made, others = new[: max(0, room)], new[max(0, room) :]
        if others:
            made.append(OTHER)
        rows = [(kind, text, self._day, self._day) for text in sorted(set(made))]
        connection.exec_driver_sql(self._statements.name, rows)
        ids.update(self._known(connection, kind, made)[0])
        ids.update(dict.fromkeys(others, ids[OTHER]) if others else {})

    def _known(self, connection: Connection, kind: str, texts: list[str]) -> tuple[dict[str, int], list[int]]:
        """Ids of the texts that are there, and those not yet marked as used today."""
        ids: dict[str, int] = {}
        stale = []
        for number, text, last_day in connection.execute(_known, {"kind": kind, "texts": texts}):
            ids[text] = number
            if last_day < self._day:
                stale.append(number)
        return ids, stale
