"""How an ntfy server's replies are read."""

from __future__ import annotations

import json

import pytest

from claude_proxy.notify.answer import MAX_WAIT, Verdict, judge


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_a_message_with_an_id_was_sent() -> None:
    answer = judge(200, {}, body(id="abc", event="message"))
    assert (answer.verdict, answer.id) == (Verdict.SENT, "abc")


@pytest.mark.parametrize("reply", [b"<html>hello", b"[]", b"{}", b"[" * 100_000, b"\xff"])
def test_a_200_of_something_else_is_no_ntfy(reply: bytes) -> None:
    answer = judge(200, {}, reply)
    assert answer.verdict is Verdict.REFUSED
    assert "NTFY_SERVER" in answer.sentence


@pytest.mark.parametrize(
    ("status", "named"),
    [(400, "1.18"), (401, "NTFY_TOKEN"), (403, "NTFY_TOPIC"), (404, "NTFY_SERVER"), (413, "message-size-limit"), (418, "418")],
)
def test_a_4xx_is_not_tried_again_and_says_what_to_do(status: int, named: str) -> None:
    answer = judge(status, {}, body(code=status * 100 + 1, http=status, error="not so"))
    assert answer.verdict is Verdict.REFUSED
    assert named in answer.sentence
    assert "not so" in answer.sentence


def test_a_redirect_is_not_followed_and_named_without_its_path() -> None:
    answer = judge(301, {"location": "https://ntfy.example/secret-topic?auth=x"}, b"")
    assert answer.verdict is Verdict.REFUSED
    assert "to https://ntfy.example:" in answer.sentence
    assert "secret-topic" not in answer.sentence
    assert judge(302, {"location": "http://[bad"}, b"").verdict is Verdict.REFUSED


@pytest.mark.parametrize("status", [500, 502, 503, 408])
def test_trouble_at_the_server_is_tried_again(status: int) -> None:
    assert judge(status, {}, b"oops").verdict is Verdict.AGAIN
    assert judge(status, {"retry-after": "7"}, b"oops").after == 7


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 5.0),
        ("", 5.0),
        ("0", 0.0),
        ("17", 17.0),
        ("999999999999999999999", MAX_WAIT),
        ("Mon, 21 Sep 2026 14:13:50 GMT", 30.0),
        ("Mon, 21 Sep 2020 14:13:50 GMT", 0.0),
        ("soon", 5.0),
        ("-3", 5.0),
    ],
)
def test_a_429_waits_as_told(value: str | None, seconds: float) -> None:
    headers = {} if value is None else {"retry-after": value}
    answer = judge(429, headers, body(code=42901, http=429, error="limit reached"), now=1_790_000_000)
    assert (answer.verdict, answer.after) == (Verdict.AGAIN, seconds)


def test_the_daily_quota_ends_the_day() -> None:
    answer = judge(429, {}, body(code=42908, http=429, error="limit reached: daily message quota reached"))
    assert answer.verdict is Verdict.QUOTA
    assert "midnight" in answer.sentence
