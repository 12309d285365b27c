"""Turns records into the columns of `exchange`, and sums them per quarter hour.

It works column by column, because most columns of a batch have one value in all rows or can be computed by C code: a row costs a
microsecond and a half.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from typing import Any, NamedTuple, TypeAlias

import msgspec

from claude_proxy import ids
from claude_proxy.ledger.options import Entry
from claude_proxy.ledger.record import Record
from claude_proxy.ledger.tables import BUCKET_MS

Ids: TypeAlias = Mapping[str, Mapping[str, int]]
Column: TypeAlias = Sequence[Any]  # one value for each entry

# The kind of text that each attribute of a record is. The project is a column of `session`, the others are of `exchange`.
TEXTS = (
    *(("project", "project"), ("session", "session"), ("agent", "agent"), ("parent_agent", "agent")),
    *(("request_class", "class"), ("client", "client"), ("user_agent", "user_agent"), ("upstream", "upstream")),
    *(("account", "account"), ("model", "model"), ("model_served", "model"), ("kind", "kind"), ("outcome", "outcome")),
    *(("side", "side"), ("failure", "failure"), ("failure_text", "failure_text"), ("provider_code", "provider_code")),
    *(("stop_reason", "stop_reason"), ("service_tier", "service_tier"), ("speed", "speed"), ("geo", "geo")),
    *(("verdict", "verdict"), ("verdict_area", "verdict_area"), ("model_sent", "model")),
)
NUMBERS = (
    *("stream", "status", "failed", "request_id", "queue_ms", "first_byte_ms", "duration_ms", "silence_ms"),
    *("bytes_in", "bytes_out", "input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "web_searches"),
    *("verdict_block", "verdict_message", "verdict_lost", "transcript"),
)
_RENAMED = {"request_class": "class"}
EXCHANGE_COLUMNS = (
    *("id", "run"),
    *(_RENAMED.get(attribute, attribute) for attribute, _ in TEXTS[1:]),
    *NUMBERS,
    *("cost_nano", "credits_micro", "price", "lost_nano"),
)
TOKENS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "web_searches")
_ROLLUP_TEXTS = ("session", "agent", "model", "upstream", "account", "client", "request_class")  # of ROLLUP_KEYS
_IDS_OF_A_MS = ids.first_of(1)  # ids sort by time
_IDS_OF_A_BUCKET = ids.first_of(BUCKET_MS)
_FIELDS = Record.__struct_fields__
_ATTEMPT_TEXTS = (
    *(("upstream", "upstream"), ("account", "account"), ("failure", "failure"), ("failure_text", "failure_text")),
    ("provider_code", "provider_code"),
)


class Batch:
    """Entries that the database does not have yet; at least one.

    Attributes:
        entries: in the order in which they came.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        records = [entry.record for entry in entries]
        self._columns: dict[str, Column] = dict(
            zip(_FIELDS, zip(*map(msgspec.structs.astuple, records), strict=True), strict=True)
        )
        self._distinct = {attribute: _distinct(self._columns[attribute]) for attribute, _ in TEXTS}
        self._charges: Sequence[Column] = tuple(zip(*[entry.charge for entry in entries], strict=True))

    def texts(self) -> Iterator[tuple[str, str]]:
        """Every text of the entries, with its kind."""
        for attribute, kind in TEXTS:
            yield from ((kind, text) for text in self._distinct[attribute] if text is not None)
        yield from (("price", price) for price in _distinct(self._charges[2]) if price is not None)
        for attempts in filter(None, self._columns["attempts"]):
            for attempt in attempts:
                for attribute, kind in _ATTEMPT_TEXTS:
                    text = getattr(attempt, attribute)
                    if text is not None:
                        yield kind, text

    def rows(self, names: Ids, run: int) -> Rows:
        """What to write.

        Args:
            names: ids of all texts.
            run: the writing process's row in `run`.
        """
        columns, count = self._columns, len(self.entries)
        cost, credits_, price, lost = self._charges
        texts = {attribute: self._ids(attribute, names.get(kind, {})) for attribute, kind in TEXTS}
        exchanges = [
            columns["id"],
            [run] * count,
            *(texts[attribute] for attribute, _ in TEXTS[1:]),
            *(columns[name] for name in NUMBERS),
            *(cost, credits_, _looked_up(price, _distinct(price), names.get("price", {})), lost),
        ]
        attempts = [row for entry in self.entries if entry.record.attempts for row in _attempts(entry.record, names)]
        return Rows(exchanges, attempts, self._sessions(texts["session"], texts["project"]), self._rollups(texts))

    def _ids(self, attribute: str, names: Mapping[str, int]) -> Column:
        return _looked_up(self._columns[attribute], self._distinct[attribute], names)

    def _sessions(self, sessions: Column, projects: Column) -> list[tuple[int, ...]]:
        numbers, durations = self._columns["id"], self._columns["duration_ms"]
        rows = []
        for (session,), chosen in _groups(sessions):
            if session:
                own = _pick(numbers, chosen)
                end = max(number // _IDS_OF_A_MS + ms for number, ms in zip(own, _pick(durations, chosen), strict=True))
                project = next(filter(None, reversed(_pick(projects, chosen))), 0)
                rows.append((session, project, min(own) // _IDS_OF_A_MS, end))
        return sorted(rows)

    def _rollups(self, texts: Mapping[str, Column]) -> list[tuple[int, ...]]:
        buckets = [number // _IDS_OF_A_BUCKET for number in self._columns["id"]]
        keys = (buckets, *(texts[attribute] for attribute in _ROLLUP_TEXTS), self._columns["kind"])
        sums: dict[tuple[int, ...], tuple[int, ...]] = {}
        for (*of, kind), chosen in _groups(*keys):
            key, added = tuple(of), self._summed(kind, chosen)
            have = sums.get(key)
            sums[key] = added if have is None else tuple(map(operator.add, have, added))
        return [key + added for key, added in sorted(sums.items())]

    def _summed(self, kind: str, chosen: Chosen) -> tuple[int, ...]:
        """What exchanges of one kind add to their rollup, in the order of ROLLUP_SUMS."""
        columns, count = self._columns, len(self.entries) if chosen is None else len(chosen)
        messages, counting = kind == "messages", kind == "count_tokens"
        costs, credits_ = (_pick(column, chosen) for column in self._charges[:2])
        tokens = [_pick(columns[name], chosen) for name in TOKENS]
        unpriced = 0
        if None in costs:
            unpriced = sum(map(any, compress(zip(*tokens, strict=True), [cost is None for cost in costs])))
        return (
            *(
                count if messages else 0,
                sum(_pick(columns["failed"], chosen)) if messages else 0,
                sum(_pick(columns["cancelled"], chosen)) if messages else 0,
                count if counting else 0,
                0 if messages or counting else count,
            ),
            *(sum(filter(None, column)) for column in tokens),
            sum(filter(None, costs)),
            count - costs.count(None),
            unpriced,
            sum(filter(None, credits_)),
            count - credits_.count(None),
        )


class Rows(NamedTuple):
    """What one batch writes: the columns of `exchange` in the order of EXCHANGE_COLUMNS, and tuples in the order of the others'
    `*_COLUMNS`. Keys are sorted: no deadlocks in PostgreSQL.
    """

    exchanges: list[Column]
    attempts: list[tuple[Any, ...]]
    sessions: list[tuple[int, ...]]
    rollups: list[tuple[int, ...]]


Chosen: TypeAlias = list[int] | None  # places of entries in the batch; None for all of them


def _distinct(column: Column) -> set[Any]:
    return {column[0]} if column.count(column[0]) == len(column) else set(column)


def _looked_up(column: Column, distinct: set[Any], names: Mapping[str, int]) -> Column:
    """The ids of a column's texts; 0 stands for None."""
    of = {text: 0 if text is None else names[text] for text in distinct}
    return [of[column[0]]] * len(column) if len(distinct) == 1 else [*map(of.__getitem__, column)]


def _groups(*keys: Column) -> Iterator[tuple[tuple[Any, ...], Chosen]]:
    """The different combinations of the keys, in the order in which they occur, and where."""
    if all(key.count(key[0]) == len(key) for key in keys):
        yield tuple(key[0] for key in keys), None
        return
    found: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    for at, key in enumerate(zip(*keys, strict=True)):
        found[key].append(at)
    yield from found.items()


def _pick(column: Column, chosen: Chosen) -> Column:
    return column if chosen is None else [column[at] for at in chosen]


def _attempts(record: Record, names: Ids) -> Iterator[tuple[Any, ...]]:
    def of(kind: str, text: str | None) -> int:
        return 0 if text is None else names[kind][text]

    for number, a in enumerate(record.attempts, 1):
        yield (
            *(record.id, number, of("upstream", a.upstream), of("account", a.account), a.status, int(a.reused)),
            *(a.sent_ms, a.head_ms, of("failure", a.failure), of("failure_text", a.failure_text)),
            of("provider_code", a.provider_code),
        )
