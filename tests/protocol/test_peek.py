"""What a request says about itself."""

import json

import pytest

from claude_proxy.protocol.peek import NOTHING, Peek, peek

DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"glm-5.3","stream":true,"messages":[]}', Peek("glm-5.3", True)),
        (b'{"model":"glm-5.3","stream":false}', Peek("glm-5.3", False)),
        (b'{"stream":true}', Peek(None, True)),
        (b'{"model":null,"stream":null}', NOTHING),
        (b'{"messages":[{"content":"\\"model\\":\\"other\\""}],"model":"m"}', Peek("m", False)),
        (b'{"metadata":{"model":"inner","stream":true}}', NOTHING),
        (b' \n{"model" : "m" }\n', Peek("m", False)),
        (json.dumps({"model": "모델"}).encode(), Peek("모델", False)),
        (json.dumps({"model": "x" * 1000}).encode(), Peek("x" * 200, False)),
    ],
)
def test_reads_model_and_stream(body: bytes, expected: Peek) -> None:
    assert peek(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"12",
        b'"model"',
        b"<xml/>",
        b'{"model":"m"',
        b'{"model":"m"}}',
        b'{"model":5}',
        b'{"stream":"yes"}',
        b'{"model":"\xff"}',
        b"\x1f\x8b\x08",
        DEEP,
        b'{"a":%b%b}' % (DEEP, b"]" * len(DEEP)),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_that_is_no_such_json_says_nothing(body: bytes) -> None:
    assert peek(body) == NOTHING


def test_every_truncation_says_nothing() -> None:
    body = b'{"model":"glm-5.3","stream":true,"messages":[{"role":"user","content":"hi"}]}'
    assert all(peek(body[:at]) == NOTHING for at in range(len(body)))
