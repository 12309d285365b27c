"""The canonical line: what it holds, what it leaves out, when it warns."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from claude_proxy import logs
from claude_proxy.exchange import Attempt, CacheVerdict, Exchange, Failure, Outcome, Usage
from claude_proxy.observe.line import ExchangeLog, line


def said(exchange: Exchange) -> dict[str, Any]:
    return logs.said(line(exchange))


def exchange(**more: Any) -> Exchange:
    made = Exchange(id="cp_1", method="POST", path="/v1/messages", client="127.0.0.1", started=10.0, started_at=1_700_000_000.0)
    made.upstream, made.status, made.outcome, made.ended = "default", 200, Outcome.COMPLETED, 11.2346
    made.bytes_in, made.bytes_out = 49_000, 1_234
    for name, value in more.items():
        setattr(made, name, value)
    return made


BARE = {
    "id": "cp_1",
    "method": "POST",
    "path": "/v1/messages",
    "status": 200,
    "outcome": "completed",
    "ms": 1235,
    "bytes_in": 49_000,
    "bytes_out": 1_234,
    "client": "127.0.0.1",
    "upstream": "default",
}


def test_the_line_of_a_bare_exchange() -> None:
    assert said(exchange()) == BARE


def test_the_line_of_a_full_one() -> None:
    full = exchange(
        model="glm-5.3",
        session="s-1",
        agent="a-1",
        request_class="main",
        stop_reason="end_turn",
        upstream_request_id="req_1",
        first_byte=0.4567,
        stream=True,
        longest_silence=2.0004,
        pings=3,
        attempts=[Attempt("default", 10.0), Attempt("default", 10.1)],
        usage=Usage(input=1, output=2, cache_read=3, cache_write=4, cache_write_5m=5, service_tier="standard"),
        failure=Failure("upstream", "rate_limit_error", "concurrency limit", "1302"),
    )
    assert said(full) == BARE | {
        "model": "glm-5.3",
        "session": "s-1",
        "agent": "a-1",
        "request_class": "main",
        "stop_reason": "end_turn",
        "upstream_request_id": "req_1",
        "first_byte_ms": 457,
        "silence_ms": 2000,
        "pings": 3,
        "attempts": 2,
        "tokens_input": 1,
        "tokens_output": 2,
        "tokens_cache_read": 3,
        "tokens_cache_write": 4,
        "side": "upstream",
        "error": "rate_limit_error",
        "provider_code": "1302",
        "reason": "concurrency limit",
    }


def test_a_zero_is_told_and_the_unknown_left_out() -> None:
    line = said(exchange(usage=Usage(input=0), first_byte=0.0, failure=Failure("proxy", "internal", "x")))
    assert (line["tokens_input"], line["first_byte_ms"]) == (0, 0)
    assert not {"tokens_output", "provider_code", "attempts", "pings", "silence_ms", "model"} & set(line)


def test_one_attempt_is_not_worth_a_field() -> None:
    assert "attempts" not in said(exchange(attempts=[Attempt("default", 10.0)]))


@pytest.fixture
def lines() -> Callable[[], list[dict[str, Any]]]:
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding="utf-8")
    logs.configure("info", "json", stream)
    return lambda: [json.loads(line) for line in buffer.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("outcome", "failure", "level"),
    [
        (Outcome.COMPLETED, None, "info"),
        (Outcome.CANCELLED, None, "info"),
        (Outcome.COMPLETED, Failure("upstream", "overloaded_error", "Overloaded"), "warning"),
        (Outcome.REFUSED, Failure("client", "key_wrong", "x"), "warning"),
        (Outcome.FAILED, Failure("upstream", "connect_failed", "x"), "warning"),
        (Outcome.CUT, Failure("upstream", "stream_cut", "x"), "warning"),
        (Outcome.STALLED, Failure("upstream", "stream_idle", "x"), "warning"),
        (Outcome.CLIENT_STALLED, None, "warning"),
        (Outcome.ABORTED, None, "warning"),
    ],
)
def test_one_line_and_a_warning_where_somebody_has_to_act(
    lines: Callable[[], list[dict[str, Any]]], outcome: Outcome, failure: Failure | None, level: str
) -> None:
    ExchangeLog().on_exchange_end(exchange(outcome=outcome, failure=failure))
    (line,) = lines()
    assert (line["event"], line["level"], line["outcome"]) == ("exchange", level, outcome.value)


@pytest.mark.parametrize("verdict", ["first", "grew"])
def test_a_cache_that_is_as_it_should_be_is_not_worth_a_field(verdict: str) -> None:
    assert said(exchange(cache=CacheVerdict(verdict))) == BARE


def test_the_line_says_what_broke_the_cache() -> None:
    assert said(exchange(cache=CacheVerdict("changed", "system", 3, None, 900)))["cache"] == "changed at block 3 (system)"
    assert said(exchange(cache=CacheVerdict("expired")))["cache"] == "expired"
