"""What is kept of an exchange: every field in its place, texts and numbers that any database takes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy import ids
from claude_proxy.exchange import Attempt, CacheVerdict, Exchange, Failure, Kind, Outcome, Usage
from claude_proxy.ledger.record import MAX_COUNT, MAX_MS, Record, record
from tests.ledger.books import WALL, exchange_of


class Later(Exchange):
    """An exchange with the attributes that are still to come (no slots: it takes any)."""


def later(**values: Any) -> Later:
    plain = exchange_of()
    made = Later(**{name: getattr(plain, name) for name in Exchange.__slots__})
    for name, value in values.items():
        setattr(made, name, value)
    return made


def test_every_field_is_in_its_place() -> None:
    usage = Usage(11, 12, 13, 30, 14, 16, 17, 18, "tier", "geo", "fast")
    made = later(
        id=ids.encode(12345),
        session="session",
        agent="agent",
        request_class="class",
        client="10.0.0.1",
        upstream="upstream",
        model="model",
        stream=True,
        status=529,
        upstream_request_id="req",
        attempts=[Attempt("first", 50.0, status=529), Attempt("upstream", 51.5, reused=True, head_at=52.0, status=200)],
        usage=usage,
        stop_reason="stop",
        bytes_in=21,
        bytes_out=22,
        first_byte=0.023,
        longest_silence=0.024,
        ended=50.025,
        outcome=Outcome.CUT,
        failure=Failure("upstream", "kind", "message", "1305"),
        project="project",
        parent_agent="parent",
        key="key",
        user_agent="agent/1",
        account="account",
        model_sent="sent",
        model_served="served",
        kind=Kind.MESSAGES,
        queue_wait=0.026,
        cache=CacheVerdict("changed", "tools", 27, 29, 28),
        transcript=31,
    )
    found = record(made)
    attempts = found.attempts
    assert {name: getattr(found, name) for name in Record.__struct_fields__} == {
        "id": 12345,
        "sent_at": int((WALL + 1.5) * 1000),
        "kind": "messages",
        "failed": True,
        "cancelled": False,
        "session": "session",
        "project": "project",
        "agent": "agent",
        "parent_agent": "parent",
        "request_class": "class",
        "client": "key",
        "user_agent": "agent/1",
        "upstream": "upstream",
        "account": "account",
        "model": "model",
        "model_served": "served",
        "stream": True,
        "status": 529,
        "outcome": "cut",
        "side": "upstream",
        "failure": "kind",
        "failure_text": "message",
        "provider_code": "1305",
        "stop_reason": "stop",
        "request_id": "req",
        "queue_ms": 26,
        "first_byte_ms": 23,
        "duration_ms": 25,
        "silence_ms": 24,
        "bytes_in": 21,
        "bytes_out": 22,
        "input": 11,
        "output": 12,
        "cache_read": 13,
        "cache_write_5m": 14,
        "cache_write_1h": 16,
        "web_searches": 17,
        "service_tier": "tier",
        "speed": "fast",
        "geo": "geo",
        "verdict": "changed",
        "verdict_area": "tools",
        "verdict_block": 27,
        "verdict_message": 29,
        "verdict_lost": 28,
        "transcript": 31,
        "attempts": attempts,
        "model_sent": "sent",
    }
    assert [(a.upstream, a.status, a.reused, a.sent_ms, a.head_ms) for a in attempts] == [
        ("first", 529, False, 0, None),
        ("upstream", 200, True, 1500, 2000),
    ]


def test_what_is_not_known_is_none() -> None:
    bare = Exchange("x", "GET", "/v1/models", "", 1.0, WALL)
    found = record(bare)
    assert (found.kind, found.session, found.model, found.client, found.input, found.first_byte_ms) == ("other",) + (None,) * 5
    assert (found.outcome, found.failed, found.used, found.attempts) == (None, True, False, ())


@pytest.mark.parametrize("kind", list(Kind))
def test_what_kind_of_call_it_was_is_kept(kind: Kind) -> None:
    assert record(exchange_of(kind=kind)).kind == kind.value


@pytest.mark.parametrize(
    ("values", "failed", "cancelled"),
    [
        ({}, False, False),
        ({"status": 429, "failure": Failure("upstream", "rate_limit_error", "Slow down")}, True, False),
        ({"status": 404}, True, False),
        ({"failure": Failure("upstream", "api_error", "In the stream")}, True, False),
        ({"outcome": Outcome.CANCELLED, "status": 499}, False, True),
        *(({"outcome": outcome}, True, False) for outcome in Outcome if outcome not in (Outcome.COMPLETED, Outcome.CANCELLED)),
    ],
)
def test_an_exchange_failed_unless_it_went_well_or_the_client_left(values: dict[str, Any], failed: bool, cancelled: bool) -> None:
    found = record(exchange_of(**values))
    assert (found.failed, found.cancelled) == (failed, cancelled)


@pytest.mark.parametrize(
    ("total", "short", "long", "found"),
    [
        (100, None, None, (100, None)),
        (100, 60, 40, (60, 40)),
        (100, None, 40, (60, 40)),
        (100, 60, None, (100, None)),
        (100, 10, 40, (60, 40)),  # what does not add up: the total is what was reported
        (100, 0, 400, (0, 100)),
        (None, 60, 40, (60, 40)),
        (None, None, None, (None, None)),
        (0, None, None, (0, None)),
    ],
)
def test_cache_writes_add_up_to_the_reported_total(total: Any, short: Any, long: Any, found: tuple[Any, Any]) -> None:
    made = record(exchange_of(usage=Usage(cache_write=total, cache_write_5m=short, cache_write_1h=long)))
    assert (made.cache_write_5m, made.cache_write_1h) == found


@pytest.mark.parametrize("id_", ["req_foreign", "", "cp_0a1b2c3d4e5f00000001"])
def test_an_id_that_is_none_of_ours_becomes_one_of_its_time(id_: str) -> None:
    found = record(exchange_of(id=id_))
    assert ids.milliseconds(found.id) == int(WALL * 1000)


@given(st.text(max_size=500))
def test_any_text_can_be_stored(text: str) -> None:
    found = record(exchange_of(model=text)).model
    if found is not None:
        found.encode()
        assert "\0" not in found
        assert 0 < len(found) <= 200
        assert found == text or len(text) > 200 or "\0" in text


def test_a_lone_surrogate_can_be_stored() -> None:
    assert record(exchange_of(model="a\ud800b")).model == "a?b"


@given(st.floats(-1e12, 1e12), st.integers(0, 2**63))
def test_any_number_can_be_stored(seconds: float, count: int) -> None:
    found = record(exchange_of(first_byte=seconds, longest_silence=seconds, usage=Usage(input=count), bytes_in=count))
    assert found.first_byte_ms is not None
    assert found.input is not None
    assert 0 <= found.first_byte_ms <= MAX_MS
    assert found.input <= MAX_COUNT
    assert found.bytes_in <= 2**53


def test_one_good_attempt_is_not_kept() -> None:
    assert record(exchange_of(attempts=[Attempt("default", 50.0, head_at=50.5, status=200)])).attempts == ()


def test_one_failed_attempt_is_kept() -> None:
    failed = Attempt("default", 50.5, failure=Failure("upstream", "connect_failed", "No connection."))
    (kept,) = record(exchange_of(attempts=[failed])).attempts
    assert (kept.sent_ms, kept.failure, kept.failure_text, kept.status) == (500, "connect_failed", "No connection.", None)


@pytest.mark.parametrize(
    ("usage", "used"),
    [(None, False), (Usage(), False), (Usage(0, 0, 0, 0), False), (Usage(output=1), True), (Usage(web_searches=1), True)],
)
def test_used_is_what_could_cost(usage: Usage | None, used: bool) -> None:
    assert record(exchange_of(usage=usage)).used is used
