"""Reading model and stream from the beginning of a body that is not kept whole."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.protocol.peek import PREFIX, Peek, peek, peek_prefix

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["model", '"model":"x"', "{", "]", "\\"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["model", "stream", "a", "{"]), inner, max_size=3)
    ),
    max_leaves=12,
)
_REQUEST = st.dictionaries(st.sampled_from(["messages", "system", "x", "metadata"]), _JSON, max_size=4)


@settings(deadline=None, max_examples=300)
@given(_REQUEST, st.sampled_from(["glm-5.3", "claude-opus-5", None]), st.sampled_from([True, False, None]), st.booleans())
def test_a_prefix_that_is_the_whole_body_says_what_the_body_says(
    request_: dict[str, Any], model: str | None, stream: bool | None, first: bool
) -> None:
    named = {key: value for key, value in (("model", model), ("stream", stream)) if value is not None}
    body = json.dumps({**named, **request_} if first else {**request_, **named}).encode()
    assert peek_prefix(body) == peek(body)


@pytest.mark.parametrize(
    "body", [b"", b"[", b"{", b'{"model', b'{"model":', b'{"model":"glm', b'{"a":"' + b"x" * 100, b"\xff\xfe", b"null"]
)
def test_a_prefix_that_does_not_say_says_nothing(body: bytes) -> None:
    assert peek_prefix(body) == Peek()


def test_what_stands_behind_the_prefix_is_not_looked_for() -> None:
    assert peek_prefix(b'{"a":"' + b"x" * PREFIX + b'","model":"glm-5.3"}') == Peek()


@pytest.mark.parametrize("unit", [b'"', b"{", b"[", b'\\"', b'{"model":', b'"model"', b"\\", b'{"model"   '])
def test_a_hostile_prefix_is_read_in_bounded_time(unit: bytes) -> None:
    """A generous bound, so that a busy machine does not fail it: a quadratic scan would take minutes."""
    began = time.process_time()
    for lead in (b"", b"{", b'{"'):
        peek_prefix(lead + unit * (1024 * 1024 // len(unit)))
    assert time.process_time() - began < 2
