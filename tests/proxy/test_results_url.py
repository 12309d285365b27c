"""A batch's results_url: its address becomes ours, everything else stays byte for byte."""

import json

import pytest

from claude_proxy.proxy.results_url import own_base, rewrite

BASE = b"http://localhost:3000/api/anthropic"
TAIL = "/v1/messages/batches/msgbatch_1/results"


@pytest.mark.parametrize(
    "upstream",
    [
        "https://api.anthropic.com",
        "https://api.z.ai/api/anthropic",
        "http://127.0.0.1:8000",
        "https://h/deep/er/path",
        "https://[::1]:8",
    ],
)
def test_the_upstreams_address_becomes_ours(upstream: str) -> None:
    batch = {"id": "msgbatch_1", "results_url": upstream + TAIL, "processing_status": "ended"}
    assert json.loads(rewrite(json.dumps(batch).encode(), BASE)) == batch | {"results_url": BASE.decode() + TAIL}


def test_every_batch_of_a_list_is_rewritten_and_nothing_else() -> None:
    body = (
        b'{"data" : [ {"id":"a","results_url" :\n "https://u/v1/messages/batches/a/results","x":1.50} ,'
        b'{"id":"b","results_url":null}, {"id":"c","results_url":"https:\\/\\/u\\/v1\\/messages\\/batches\\/c\\/results"}],'
        b'"next":"https://u/v1/messages/batches?after=c"}'
    )
    assert rewrite(body, BASE) == (
        b'{"data" : [ {"id":"a","results_url" :\n "' + BASE + b'/v1/messages/batches/a/results","x":1.50} ,'
        b'{"id":"b","results_url":null}, {"id":"c","results_url":"' + BASE + b'\\/v1\\/messages\\/batches\\/c\\/results"}],'
        b'"next":"https://u/v1/messages/batches?after=c"}'
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"results_url":"https://u/elsewhere"}',
        b'{"results_url":"/v1/messages/batches/a/results"}',
        b'{"results_url":"ftp://u/v1/messages/batches/a/results"}',
        b'{"results_url":"https:///v1/messages/batches/a/results"}',
        b'{"url":"https://u/v1/messages/batches/a/results"}',
        b'{"note":"\\"results_url\\":\\"https://u/v1/messages/batches/a/results\\""}',
        b'{"results_url":"https://u","z":"/v1/messages/batches"}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_such_address_stays(body: bytes) -> None:
    assert rewrite(body, BASE) == body


def test_a_base_with_a_backslash_is_no_pattern() -> None:
    assert rewrite(b'{"results_url":"https://u/v1/messages/batches/a"}', rb"http://h\1\g<0>") == (
        rb'{"results_url":"http://h\1\g<0>/v1/messages/batches/a"}'
    )


def test_a_body_without_end_of_string_costs_little() -> None:
    body = b'{"results_url":"https://u' + b"/x" * 2_000_000
    assert rewrite(body, BASE) == body


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({"headers": [(b"host", b"localhost:3000")], "scheme": "http", "root_path": ""}, BASE),
        ({"headers": [(b"host", b"p.example")], "scheme": "https", "root_path": "/gw/"}, b"https://p.example/gw/api/anthropic"),
        ({"headers": []}, b"http://localhost/api/anthropic"),
    ],
)
def test_our_own_base_is_what_the_client_sees(scope: dict[str, object], expected: bytes) -> None:
    assert own_base(scope) == expected
