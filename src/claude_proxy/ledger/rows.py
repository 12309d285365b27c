"""Turns records into the statements' parameter tuples, and sums them per quarter hour.

Most records of a batch have the same texts. So whatever depends on the texts alone is made once per combination of texts, and
the rest of a row is picked by C code: a row costs about a microsecond, and its part of the sums half of one.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from claude_proxy import ids
from claude_proxy.ledger.options import Entry
from claude_proxy.ledger.record import Record
from claude_proxy.ledger.tables import BUCKET_MS, ROLLUP_KEYS

Ids: TypeAlias = Mapping[str, Mapping[str, int]]
Found: TypeAlias = tuple[str | None, ...]

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

_IDS_OF_A_MS = ids.first_of(1)  # ids sort by time
_IDS_OF_A_BUCKET = ids.first_of(BUCKET_MS)
_texts_of = operator.attrgetter(*(attribute for attribute, _ in TEXTS))
_numbers_of = operator.attrgetter(*NUMBERS)
_tokens_of = operator.attrgetter(*TOKENS)
_failed_of, _cancelled_of = operator.attrgetter("failed"), operator.attrgetter("cancelled")
_rollup_key = operator.itemgetter(*(EXCHANGE_COLUMNS.index(key) - 2 for key in ROLLUP_KEYS[1:]))
_KINDS = tuple(kind for _, kind in TEXTS)
_ATTEMPT_TEXTS = (
    *(("upstream", "upstream"), ("account", "account"), ("failure", "failure"), ("failure_text", "failure_text")),
    ("provider_code", "provider_code"),
)


class Batch:
    """Entries that the database does not have yet.

    Attributes:
        entries: in the order in which they came.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self._found: list[Found] = [_texts_of(entry.record) for entry in entries]

    def texts(self) -> Iterator[tuple[str, str]]:
        """Every text of the entries, with its kind."""
        for found in set(self._found):
            yield from ((kind, text) for kind, text in zip(_KINDS, found, strict=True) if text is not None)
        for price in {entry.charge.price_id for entry in self.entries}:
            if price is not None:
                yield "price", price
        for entry in self.entries:
            for attempt in entry.record.attempts:
                for attribute, kind in _ATTEMPT_TEXTS:
                    text = getattr(attempt, attribute)
                    if text is not None:
                        yield kind, text

    def rows(self, names: Ids, run: int) -> Rows:
        """The tuples to write.

        Args:
            names: ids of all texts.
            run: the writing process's row in `run`.
        """
        prices: dict[str | None, int] = dict(names.get("price", {})) | {None: 0}
        known: dict[Found, _Texts] = {}
        groups: defaultdict[tuple[int, int], list[Entry]] = defaultdict(list)  # by bucket and texts
        exchanges = []
        for entry, found in zip(self.entries, self._found, strict=True):
            texts = known.get(found)
            if texts is None:
                texts = known[found] = _resolved(len(known), found, names)
            record, (cost, credits_, price, lost) = entry.record, entry.charge
            number = record.id
            exchanges.append((number, run, *texts.ids, *_numbers_of(record), cost, credits_, prices[price], lost))
            groups[number // _IDS_OF_A_BUCKET, texts.at].append(entry)
        attempts = [row for entry in self.entries if entry.record.attempts for row in _attempts(entry.record, names)]
        combinations = [*known.values()]
        grouped = [(bucket, combinations[at], group) for (bucket, at), group in groups.items()]
        return Rows(exchanges, attempts, _sessions(grouped), _rollups(grouped))


class Rows(NamedTuple):
    """The tuples of one batch, in the order of the `*_COLUMNS`. Keys are sorted: no deadlocks in PostgreSQL."""

    exchanges: list[tuple[Any, ...]]
    attempts: list[tuple[Any, ...]]
    sessions: list[tuple[int, ...]]
    rollups: list[tuple[int, ...]]


class _Texts(NamedTuple):
    """What the texts of a record give: `ids` of those in `exchange`, and the columns of `rollup` but for the bucket.

    Attributes:
        at: its place among those of the batch.
    """

    at: int
    ids: tuple[int, ...]
    rollup: tuple[int, ...]
    session: int
    project: int
    kind: str


_Group: TypeAlias = tuple[int, _Texts, list[Entry]]  # entries of one bucket with the same texts
_SESSION, _KIND = _KINDS.index("session"), _KINDS.index("kind")


def _resolved(at: int, found: Found, names: Ids) -> _Texts:
    project, *rest = [0 if text is None else names[kind][text] for kind, text in zip(_KINDS, found, strict=True)]
    own = tuple(rest)
    return _Texts(at, own, _rollup_key(own), own[_SESSION - 1], project, found[_KIND] or "")


def _attempts(record: Record, names: Ids) -> Iterator[tuple[Any, ...]]:
    def of(kind: str, text: str | None) -> int:
        return 0 if text is None else names[kind][text]

    for number, a in enumerate(record.attempts, 1):
        yield (
            *(record.id, number, of("upstream", a.upstream), of("account", a.account), a.status, int(a.reused)),
            *(a.sent_ms, a.head_ms, of("failure", a.failure), of("failure_text", a.failure_text)),
            of("provider_code", a.provider_code),
        )


def _sessions(groups: Sequence[_Group]) -> list[tuple[int, ...]]:
    seen: dict[int, tuple[int, int, int]] = {}
    for _, texts, group in groups:
        if not texts.session:
            continue
        start = min(entry.record.id for entry in group) // _IDS_OF_A_MS
        end = max(entry.record.id // _IDS_OF_A_MS + entry.record.duration_ms for entry in group)
        project, first, last = seen.get(texts.session, (0, start, end))
        seen[texts.session] = texts.project or project, min(first, start), max(last, end)
    return sorted((session, *rest) for session, rest in seen.items())


def _rollups(groups: Sequence[_Group]) -> list[tuple[int, ...]]:
    sums: dict[tuple[int, ...], tuple[int, ...]] = {}
    for bucket, texts, group in groups:
        key = (bucket, *texts.rollup)
        have, added = sums.get(key), summed(texts.kind, group)
        sums[key] = added if have is None else tuple(map(operator.add, have, added))
    return [key + added for key, added in sorted(sums.items())]


def summed(kind: str, entries: Sequence[Entry]) -> tuple[int, ...]:
    """What exchanges of one kind add to their rollup, in the order of ROLLUP_SUMS."""
    records, count = [entry.record for entry in entries], len(entries)
    messages, counting = kind == "messages", kind == "count_tokens"
    costs, credits_, *_ = zip(*(entry.charge for entry in entries), strict=True)
    tokens = list(map(_tokens_of, records))
    unpriced = sum(any(of_one) for cost, of_one in zip(costs, tokens, strict=True) if cost is None) if None in costs else 0
    return (
        *(
            count if messages else 0,
            sum(map(_failed_of, records)) if messages else 0,
            sum(map(_cancelled_of, records)) if messages else 0,
            count if counting else 0,
            0 if messages or counting else count,
        ),
        *(sum(filter(None, column)) for column in zip(*tokens, strict=True)),
        sum(filter(None, costs)),
        count - costs.count(None),
        unpriced,
        sum(filter(None, credits_)),
        count - credits_.count(None),
    )
