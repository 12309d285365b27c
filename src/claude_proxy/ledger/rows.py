"""Turns records into the statements' parameter tuples, and sums them per quarter hour."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from claude_proxy import ids
from claude_proxy.ledger.options import Entry
from claude_proxy.ledger.record import Record
from claude_proxy.ledger.statements import EXCHANGE_COLUMNS
from claude_proxy.ledger.tables import BUCKET_MS, ROLLUP_KEYS

Ids: TypeAlias = Mapping[str, Mapping[str, int]]

# The kind of text that each attribute of a record is; `price` comes from its price.
TEXTS = (
    *(("session", "session"), ("project", "project"), ("agent", "agent"), ("parent_agent", "agent")),
    *(("request_class", "class"), ("client", "client"), ("user_agent", "user_agent"), ("upstream", "upstream")),
    *(("account", "account"), ("model", "model"), ("model_served", "model"), ("kind", "kind"), ("outcome", "outcome")),
    *(("side", "side"), ("failure", "failure"), ("failure_text", "failure_text"), ("provider_code", "provider_code")),
    *(("stop_reason", "stop_reason"), ("service_tier", "service_tier"), ("speed", "speed"), ("geo", "geo")),
    *(("verdict", "verdict"), ("verdict_area", "verdict_area"), ("model_sent", "model")),
)
_texts_of = operator.attrgetter(*(attribute for attribute, _ in TEXTS))
_KINDS = tuple(kind for _, kind in TEXTS)
_ATTEMPT_TEXTS = (
    *(("upstream", "upstream"), ("account", "account"), ("failure", "failure"), ("failure_text", "failure_text")),
    ("provider_code", "provider_code"),
)


def texts(entries: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    """Every text of the entries, with its kind. Most entries of a batch have the same texts."""
    for found in {_texts_of(entry.record) for entry in entries}:
        yield from ((kind, text) for kind, text in zip(_KINDS, found, strict=True) if text is not None)
    for price in {entry.charge.price_id for entry in entries}:
        if price is not None:
            yield "price", price
    for entry in entries:
        for attempt in entry.record.attempts:
            for attribute, kind in _ATTEMPT_TEXTS:
                text = getattr(attempt, attribute)
                if text is not None:
                    yield kind, text


class Rows:
    """The tuples of one batch, in the order of the `*_COLUMNS` of `statements`. Keys are sorted: no deadlocks in PostgreSQL.

    Args:
        entries: those that the database does not have yet.
        names: ids of all their texts.
        run: the writing process's row in `run`.
    """

    def __init__(self, entries: Sequence[Entry], names: Ids, run: int) -> None:
        self._names = names
        self._run = run
        self._ids_of: dict[tuple[str | None, ...], tuple[int, ...]] = {}
        self.exchanges = [self._exchange(entry) for entry in entries]
        self.attempts = [row for entry in entries for row in self._attempts(entry.record)]
        self.sessions = sorted(self._sessions(entries))
        self.rollups = [key + tuple(sums) for key, sums in sorted(self._sums(entries).items())]

    def _id(self, kind: str, text: str | None) -> int:
        return 0 if text is None else self._names[kind][text]

    def _ids(self, record: Record) -> tuple[int, ...]:
        """The ids of the record's texts, in the order of TEXTS."""
        found = _texts_of(record)
        ids_ = self._ids_of.get(found)
        if ids_ is None:
            ids_ = self._ids_of[found] = tuple(map(self._id, _KINDS, found))
        return ids_

    def _exchange(self, entry: Entry) -> tuple[Any, ...]:
        r, charge = entry.record, entry.charge
        i = self._ids(r)
        session, _, agent, parent, class_, client, user_agent, upstream, account, model, served, kind, outcome = i[:13]
        side, failure, failure_text, provider_code, stop_reason, tier, speed, geo, verdict, area, sent = i[13:]
        return (
            *(r.id, self._run, session, agent, parent, class_, client, user_agent, upstream, account, model, served),
            *(kind, int(r.stream), r.status, outcome, int(r.failed), side, failure, failure_text, provider_code, stop_reason),
            *(r.request_id, r.queue_ms, r.first_byte_ms, r.duration_ms, r.silence_ms),
            *(r.bytes_in, r.bytes_out, r.input, r.output, r.cache_read, r.cache_write_5m, r.cache_write_1h, r.web_searches),
            *(tier, speed, geo, charge.cost_nano, charge.credits_micro, self._id("price", charge.price_id)),
            *(verdict, area, r.verdict_block, r.verdict_message, r.verdict_lost, charge.lost_nano, r.transcript, sent),
        )

    def _attempts(self, record: Record) -> Iterator[tuple[Any, ...]]:
        of = self._id
        for number, a in enumerate(record.attempts, 1):
            yield (
                *(record.id, number, of("upstream", a.upstream), of("account", a.account), a.status, int(a.reused)),
                *(a.sent_ms, a.head_ms, of("failure", a.failure), of("failure_text", a.failure_text)),
                of("provider_code", a.provider_code),
            )

    def _sessions(self, entries: Sequence[Entry]) -> Iterator[tuple[int, int, int, int]]:
        seen: dict[int, tuple[int, int, int]] = {}
        for entry in entries:
            record = entry.record
            if record.session is None:
                continue
            session = self._id("session", record.session)
            start = ids.milliseconds(record.id)
            project, first, last = seen.get(session, (0, start, start))
            project = self._id("project", record.project) or project
            seen[session] = project, min(first, start), max(last, start + record.duration_ms)
        return ((session, *rest) for session, rest in seen.items())

    def _sums(self, entries: Sequence[Entry]) -> dict[tuple[int, ...], list[int]]:
        sums: dict[tuple[int, ...], list[int]] = {}
        for entry, row in zip(entries, self.exchanges, strict=True):
            key = (ids.milliseconds(entry.record.id) // BUCKET_MS, *_rollup_key(row))
            have = sums.get(key)
            added = summands(entry)
            sums[key] = list(added) if have is None else list(map(operator.add, have, added))
        return sums


_rollup_key = operator.itemgetter(*(EXCHANGE_COLUMNS.index(key) for key in ROLLUP_KEYS[1:]))


def summands(entry: Entry) -> tuple[int, ...]:
    """What one exchange adds to its rollup, in the order of ROLLUP_SUMS."""
    r, (cost, credits_, *_) = entry.record, entry.charge
    messages = r.kind == "messages"
    counting = r.kind == "count_tokens"
    return (
        *(
            int(messages),
            int(messages and r.failed),
            int(messages and r.cancelled),
            int(counting),
            int(not messages and not counting),
        ),
        *(r.input or 0, r.output or 0, r.cache_read or 0, r.cache_write_5m or 0, r.cache_write_1h or 0, r.web_searches or 0),
        *(cost or 0, int(cost is not None), int(cost is None and r.used), credits_ or 0, int(credits_ is not None)),
    )
