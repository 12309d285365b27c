"""What the ledger keeps of an exchange: made on the path when the exchange ends, written later by the writer's thread.

Times are milliseconds. Texts are cleaned here once, so that no database refuses them; numbers are clamped to what sums can hold.
"""

from __future__ import annotations

from operator import attrgetter
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from claude_proxy import ids
from claude_proxy.exchange import CANCELLED, Attempt, CacheVerdict, Exchange, Failure, Usage

MAX_TEXT = 200  # characters of an interned text
MAX_REMEMBERED = 4096  # texts
MAX_COMBINATIONS = 1024  # of texts
MAX_FAILURE = 300  # characters of a failure's sentence, as `Failure` promises
MAX_MS = 2**31 - 1  # 24 days
MAX_COUNT = 10**9  # tokens of one exchange: a thousand times the largest context, and sums of it fit 64 bits
MAX_BYTES = 2**53
_Count: TypeAlias = int | None
_Term: TypeAlias = str | None
_Used: TypeAlias = tuple[_Count, _Count, _Count, _Count, _Count, _Count, _Term, _Term, _Term]
_NOTHING_USED: _Used = (None, None, None, None, None, None, None, None, None)
_NO_FAILURE = (None, None, None, None)
_NO_VERDICT = (None, None, None, None, None)
_counts_of = attrgetter("input", "output", "cache_read", "cache_write", "cache_write_5m", "cache_write_1h", "web_searches")
_NO_NUL = str.maketrans("", "", "\0")  # PostgreSQL's text cannot hold it


class Attempted(msgspec.Struct, frozen=True, gc=False):
    """One try. `sent_ms` and `head_ms` count from the start of the exchange; `head_ms` is None where no head came."""

    upstream: str | None
    account: str | None
    status: int | None
    reused: bool
    sent_ms: int
    head_ms: int | None
    failure: str | None
    failure_text: str | None
    provider_code: str | None


class Record(msgspec.Struct, frozen=True, gc=False):
    """One finished exchange. Token counts are the upstream's own; None where it said nothing.

    Attributes:
        id: see `claude_proxy.ids`.
        sent_at: Unix milliseconds at which the last attempt was sent: the price in force then applies.
        kind: messages, count_tokens, batches or other; only `messages` counts as an exchange in sums.
        failed: whether the client did not get a good answer whole, and did not leave by itself: 1 or 0, as the database has it.
        stream: 1 or 0 as well.
        client: the name of the client's key, or its address.
        cache_write_5m: with `cache_write_1h` it adds up to the reported `cache_creation_input_tokens`; what the upstream
            did not split is here.
        verdict: what became of the prompt cache (`protocol.cache_verdict`): where it changed, and how many tokens that lost.
        transcript: head of the captured conversation.
        attempts: empty where the first attempt went well.
        model_sent: what the upstream's map put in place of `model`; None where the client's went as it was.
    """

    id: int
    sent_at: int
    kind: str
    failed: int
    cancelled: bool
    session: str | None
    project: str | None
    agent: str | None
    parent_agent: str | None
    request_class: str | None
    client: str | None
    user_agent: str | None
    upstream: str | None
    account: str | None
    model: str | None
    model_served: str | None
    stream: int
    status: int
    outcome: str | None
    side: str | None
    failure: str | None
    failure_text: str | None
    provider_code: str | None
    stop_reason: str | None
    request_id: str | None
    queue_ms: int | None
    first_byte_ms: int | None
    duration_ms: int
    silence_ms: int
    bytes_in: int
    bytes_out: int
    input: int | None
    output: int | None
    cache_read: int | None
    cache_write_5m: int | None
    cache_write_1h: int | None
    web_searches: int | None
    service_tier: str | None
    speed: str | None
    geo: str | None
    verdict: str | None
    verdict_area: str | None
    verdict_block: int | None
    verdict_message: int | None
    verdict_lost: int | None
    transcript: int | None
    attempts: tuple[Attempted, ...] = ()
    model_sent: str | None = None

    @property
    def used(self) -> bool:
        """Whether the upstream reported anything that could cost."""
        return bool(
            self.input or self.output or self.cache_read or self.cache_write_5m or self.cache_write_1h or self.web_searches
        )


class Charge(NamedTuple):
    """What is booked for an exchange; None where that is not known, never zero in its place."""

    cost_nano: int | None = None  # 10**-9 USD, at list price
    credits_micro: int | None = None  # 10**-6 plan credits
    price_id: str | None = None
    lost_nano: int | None = None  # what a broken prompt cache cost of that, an estimate


UNKNOWN = Charge()


class Pricing(Protocol):
    """What prices records. Called in the writer's thread, once per record; an exception leaves the record unpriced."""

    def __call__(self, record: Record, /) -> Charge:
        """The cost at list price and the plan credits of one exchange."""


def record(exchange: Exchange) -> Record:
    """What to keep of a finished exchange. It runs on the path: whatever most exchanges do not have is looked at only once."""
    usage, failure, outcome, cache = exchange.usage, exchange.failure, exchange.outcome, exchange.cache
    texts = _texts[_texts_of(exchange)]
    session, project, agent, parent, class_, client, user_agent, upstream, account, model, served, sent, stop = texts
    input_, output, cache_read, write_5m, write_1h, searches, tier, speed, geo = _NOTHING_USED if usage is None else _used(usage)
    side, kind, sentence, code = _NO_FAILURE if failure is None else _failed(failure)
    found, area, block, message, lost = _NO_VERDICT if cache is None else _verdict(cache)
    attempts = exchange.attempts
    return Record(  # by position, in the order of its fields: names would cost a microsecond more per exchange
        exchange.number or _id(exchange),
        int((exchange.started_at + (attempts[-1].started - exchange.started if attempts else 0.0)) * 1000),  # sent_at
        exchange.kind._value_,
        1 if exchange.failed else 0,
        outcome is CANCELLED,
        session,
        project,
        agent,
        parent,
        class_,
        client,
        user_agent,
        upstream,
        account,
        model,
        served,
        1 if exchange.stream else 0,
        exchange.status,
        None if outcome is None else outcome._value_,
        side,
        kind,
        sentence,
        code,
        stop,
        _clean(exchange.upstream_request_id),  # never repeats
        None if exchange.queue_wait is None else _ms(exchange.queue_wait),
        None if exchange.first_byte is None else _ms(exchange.first_byte),
        _ms((exchange.ended or exchange.started) - exchange.started),
        _ms(exchange.longest_silence) if exchange.stream else 0,
        min(exchange.bytes_in, MAX_BYTES),
        min(exchange.bytes_out, MAX_BYTES),
        input_,
        output,
        cache_read,
        write_5m,
        write_1h,
        searches,
        tier,
        speed,
        geo,
        found,
        area,
        block,
        message,
        lost,
        exchange.transcript,
        () if len(attempts) == 1 and attempts[0].failure is None else tuple(_attempted(exchange, one) for one in attempts),
        sent,
    )


def _id(exchange: Exchange) -> int:
    """The id that the exchange's text stands for, or a random one of its millisecond where the text is none of ours."""
    try:
        return ids.decode(exchange.id)
    except ValueError:
        return ids.reminted(ids.first_of(int(exchange.started_at * 1000)))


def _used(usage: Usage) -> _Used:
    """Input, output, cache read, cache writes by time to live, web searches; service tier, speed, place of inference.

    The sum of the cache writes is the reported total, whatever the split says.
    """
    counts = _counts_of(usage)
    if max(0, 0, *filter(None, counts)) > MAX_COUNT:
        counts = tuple(None if count is None else min(count, MAX_COUNT) for count in counts)
    input_, output, cache_read, total, write_5m, write_1h, searches = counts
    if total is not None and write_1h is not None:
        write_1h = min(write_1h, total)
        write_5m = total - write_1h
    elif total is not None:
        write_5m = total
    tier, speed, geo = _text[usage.service_tier], _text[usage.speed], _text[usage.inference_geo]
    return input_, output, cache_read, write_5m, write_1h, searches, tier, speed, geo


def _failed(failure: Failure) -> tuple[str | None, str | None, str | None, str | None]:
    return failure.side, _text[failure.kind], _clean(failure.message, MAX_FAILURE), _text[failure.provider_code]


def _verdict(verdict: CacheVerdict) -> tuple[str, str | None, int | None, int | None, int]:
    return verdict.kind, verdict.area, verdict.block, verdict.message, min(verdict.lost, MAX_COUNT)


def _attempted(exchange: Exchange, attempt: Attempt) -> Attempted:
    failure = attempt.failure
    return Attempted(
        upstream=_text[attempt.upstream],
        account=_text[attempt.account],
        status=attempt.status,
        reused=attempt.reused,
        sent_ms=_ms(attempt.started - exchange.started),
        head_ms=None if attempt.head_at is None else _ms(attempt.head_at - exchange.started),
        failure=None if failure is None else _text[failure.kind],
        failure_text=None if failure is None else _clean(failure.message, MAX_FAILURE),
        provider_code=None if failure is None else _text[failure.provider_code],
    )


def _clean(value: str | None, limit: int = MAX_TEXT) -> str | None:
    """A text that every database takes; None for an empty one."""
    if not value:
        return None
    if value.isascii() and len(value) <= limit and "\0" not in value:
        return value
    return value[:limit].translate(_NO_NUL).encode("utf-8", "replace").decode() or None


class _Texts(dict[str | None, str | None]):
    """Remembers cleaned texts: most repeat. A dict's subscript costs two thirds of a call of `lru_cache`'s."""

    def __missing__(self, value: str | None) -> str | None:
        cleaned = _clean(value)
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        self[value] = cleaned
        return cleaned


class _Combinations(dict[tuple[str | None, ...], tuple[str | None, ...]]):
    """Remembers the texts of exchanges, cleaned: those of a session's exchanges are mostly the same all together."""

    def __missing__(self, found: tuple[str | None, ...]) -> tuple[str | None, ...]:
        key, address, *others = (_text[value] for value in found)
        if len(self) >= MAX_COMBINATIONS:
            self.clear()
        self[found] = cleaned = (*others[:5], key or address, *others[5:])
        return cleaned


_text = _Texts()
_texts = _Combinations()
_texts_of = attrgetter(
    *("key", "client", "session", "project", "agent", "parent_agent", "request_class", "user_agent", "upstream", "account"),
    *("model", "model_served", "model_sent", "stop_reason"),
)


def _ms(seconds: float) -> int:
    ms = int(seconds * 1000 + 0.5)
    return ms if 0 <= ms <= MAX_MS else min(max(ms, 0), MAX_MS)
