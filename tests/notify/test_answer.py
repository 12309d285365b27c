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


PAGES = [b"<html>hello", b"\n<!DOCTYPE html><title>Just a moment...</title>", b"<?xml version='1.0'?><html/>"]
OTHERS = [
    *PAGES,
    b"",
    b"Forbidden",
    b"[]",
    b"{}",
    b"[" * 100_000,
    b"\xff",
    b'{"error": "forbidden"}',
    b'{"id": 7}',
    b'{"id": 7, "event": "message"}',
    b'{"id": "x", "object": "error"}',
    b'{"code": 403, "message": "no"}',
    b'{"code": "40301", "http": 403}',
    b'{"code": true, "http": 1}',
    b'{"code": 40301, "http": 200}',
    b'{"code": 42908, "http": 200, "error": "of another status"}',
    b'{"type": "error", "error": {"type": "permission_error"}}',
]
FAMILY = {400: "1.18", 401: "NTFY_TOKEN", 403: "NTFY_TOPIC", 404: "without the topic", 413: "message-size-limit", 418: "418"}


@pytest.mark.parametrize("status", [200, 204, 400, 401, 403, 404, 405, 407, 413, 418, 429, 451])
@pytest.mark.parametrize("reply", OTHERS)
def test_only_ntfys_own_words_are_taken_for_ntfys(status: int, reply: bytes) -> None:
    answer = judge(status, {}, reply)
    assert answer.verdict is Verdict.AGAIN
    assert answer.sentence.startswith(f"NTFY_SERVER answered {status} with ")
    assert "open NTFY_SERVER in a browser" in answer.sentence
    for word in ("topic", "NTFY_TOKEN", "quota", "slow down"):
        assert word not in answer.sentence


@pytest.mark.parametrize("reply", OTHERS)
@pytest.mark.parametrize("status", [500, 502, 503, 530])
def test_a_gateway_in_trouble_is_not_ntfy_in_trouble(status: int, reply: bytes) -> None:
    answer = judge(status, {"retry-after": "9"}, reply)
    assert (answer.verdict, answer.after) == (Verdict.AGAIN, 9)
    assert "or something in front of it, has trouble" in answer.sentence


@pytest.mark.parametrize(
    ("reply", "what"),
    [*((page, "a web page") for page in PAGES), (b" \n", "an empty reply"), (b"no", "something that is not ntfy's")],
)
def test_what_answered_instead_of_ntfy_is_described(reply: bytes, what: str) -> None:
    assert f"NTFY_SERVER answered 403 with {what}." in judge(403, {}, reply).sentence


@pytest.mark.parametrize(("status", "named"), FAMILY.items())
@pytest.mark.parametrize("number", [1, 8, 28])
def test_a_4xx_of_ntfys_is_not_tried_again_and_says_what_to_do(status: int, named: str, number: int) -> None:
    answer = judge(status, {}, body(code=status * 100 + number, http=status, error="not so"))
    assert answer.verdict is Verdict.REFUSED
    assert named in answer.sentence
    assert "not so" in answer.sentence


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(301, Verdict.REFUSED), (308, Verdict.REFUSED), (302, Verdict.AGAIN), (303, Verdict.AGAIN), (307, Verdict.AGAIN)],
)
def test_a_redirect_is_not_followed_and_named_without_its_path(status: int, verdict: Verdict) -> None:
    answer = judge(status, {"location": "https://ntfy.example/secret-topic?auth=x"}, b"")
    assert answer.verdict is verdict
    assert "to https://ntfy.example:" in answer.sentence
    assert "secret-topic" not in answer.sentence
    assert judge(status, {"location": "http://[bad"}, b"").verdict is verdict


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
