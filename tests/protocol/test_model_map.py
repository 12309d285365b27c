"""The model is replaced, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.protocol.model_map import MAX_MEMBERS, model_spans, remap

TARGET = "glm-5.3"
SPACE = st.text(" \t\r\n", max_size=3)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["model", "a", '"', "\\"]), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(['"model"', '"mod\\u0065l"', '"Model"', '"models"', '"a"', '"\\"model\\""', '"\\\\"', '""', '"한"'])


@st.composite
def documents(draw: Any) -> tuple[bytes, bytes]:
    """A body with any members, some of them twice; and the same with the target as the value of each outermost model."""
    before, after = draw(SPACE) + "{", ""
    after = before
    members = draw(st.lists(st.tuples(KEYS, JSON, st.booleans()), max_size=7))
    for number, (key, value, escaped) in enumerate(members):
        start = ("," if number else "") + draw(SPACE) + key + draw(SPACE) + ":" + draw(SPACE)
        text, end = json.dumps(value, ensure_ascii=escaped), draw(SPACE)
        before += start + text + end
        after += start + (f'"{TARGET}"' if json.loads(key) == "model" else text) + end
    end = "}" + draw(SPACE)
    return (before + end).encode("utf-8", "surrogatepass"), (after + end).encode("utf-8", "surrogatepass")


@given(documents())
def test_every_other_byte_stays_as_it_is(both: tuple[bytes, bytes]) -> None:
    before, after = both
    assert remap(before, TARGET) == after


@given(documents())
def test_a_parser_sees_the_target_and_else_the_same(both: tuple[bytes, bytes]) -> None:
    before, _ = both
    try:
        was = json.loads(before)
    except UnicodeDecodeError:
        return
    now = json.loads(remap(before, TARGET))
    assert now == (was | {"model": TARGET} if "model" in was else was)


@given(st.binary(max_size=60) | st.text('{}[]":,\\model 1', max_size=60).map(str.encode))
def test_what_is_no_json_object_is_returned_as_it_is(body: bytes) -> None:
    try:
        is_object = isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        assert remap(body, TARGET) is body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'["model"]',
        b'{"a":{"model":"x"}}',
        b'{"model":"x"',
        b'{"model":"x"}}',
        b"\xef\xbb\xbf{}",
        b'{"a":"\xff"}',
        '{"model":"x"}'.encode("utf-16"),
        b"{" + b'"a":[' * 5000,
    ],
)
def test_without_a_model_nothing_happens(body: bytes) -> None:
    assert remap(body, TARGET) is body


@pytest.mark.parametrize("value", ['"x"', "null", "7", "{}", '{"model":"y"}', '["model"]', '"}"', '"\\""', '"\\\\"'])
def test_whatever_the_model_is_it_is_replaced(value: str) -> None:
    assert remap(b'{"model": %b ,"a":1}' % value.encode(), TARGET) == b'{"model": "glm-5.3" ,"a":1}'


def test_a_target_is_written_as_json() -> None:
    assert remap(b'{"model":"x"}', 'a"b') == b'{"model":"a\\"b"}'


def test_every_model_of_several_is_found() -> None:
    body = b'{"model":"a","b":0,"model":"c"}'
    assert [body[start:end] for start, end in model_spans(body)] == [b'"a"', b'"c"']


def test_an_object_with_more_members_than_any_request_has_is_left_alone() -> None:
    body = b"{" + b'"a":0,' * MAX_MEMBERS + b'"model":"x"}'
    assert remap(body, TARGET) is body
