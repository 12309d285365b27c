"""What is read of an answer: the corpus at every cut, and bodies that nobody should send."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.exchange import Usage
from claude_proxy.protocol import usage as module
from claude_proxy.protocol.usage import StreamReader, read_answer
from tests.protocol.samples import BODIES, LINE_ENDS, STREAMS, TOTALS, content, cuts, seen

DEEP = b"[" * 100_000


def read(*chunks: bytes) -> StreamReader:
    reader = StreamReader()
    for chunk in chunks:
        reader.feed(chunk)
    return reader


def start(usage: Any) -> bytes:
    data = {"type": "message_start", "message": {"model": "m", "usage": usage}}
    return b"event: message_start\ndata: %b\n\n" % json.dumps(data).encode()


def delta(usage: Any) -> bytes:
    return b"event: message_delta\ndata: %b\n\n" % json.dumps({"type": "message_delta", "usage": usage}).encode()


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_adds_up_whole(name: str) -> None:
    assert seen(read(content(name))) == TOTALS[name]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_adds_up_cut_at_any_byte(name: str) -> None:
    """That other line ends change no event is the splitter's test."""
    stream = content(name)
    for at in range(len(stream) + 1):
        assert seen(read(stream[:at], stream[at:])) == TOTALS[name], at


@pytest.mark.parametrize("line_end", LINE_ENDS.values(), ids=LINE_ENDS)
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_adds_up_byte_by_byte(name: str, line_end: bytes) -> None:
    stream = content(name, line_end)
    assert seen(read(*(stream[at : at + 1] for at in range(len(stream))))) == TOTALS[name]


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.sampled_from(STREAMS), st.sampled_from(sorted(LINE_ENDS)), st.lists(st.integers(0, 4000), max_size=40))
def test_a_stream_adds_up_in_random_cuts(name: str, line_end: str, at: list[int]) -> None:
    assert seen(read(*cuts(content(name, LINE_ENDS[line_end]), at))) == TOTALS[name]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_ends_early_says_no_more_than_was_sent(name: str) -> None:
    """At every early end: no exception, no stop without message_stop, no count that was not sent by then."""
    stream = content(name)
    stops_at = stream.find(b"event: message_stop")
    for at in range(len(stream)):
        reader = read(stream[:at])
        assert not reader.stopped or (stops_at >= 0 and at > stops_at)
        assert seen(reader).get("usage", {}).keys() <= TOTALS[name].get("usage", {}).keys()


@pytest.mark.parametrize("name", BODIES)
def test_a_body_adds_up(name: str) -> None:
    assert seen(read_answer(content(name))) == TOTALS[name]


@pytest.mark.parametrize("name", BODIES)
def test_a_truncated_body_says_nothing(name: str) -> None:
    body = content(name).rstrip()
    for at in range(len(body)):
        assert seen(read_answer(body[:at])) == {"stopped": False}, at


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"error"',
        b"12",
        b"{}",
        b"<html>502</html>",
        b"\xff\xfe{}",
        b'{"model":"\xff"}',
        DEEP,
        b'{"a":%b' % DEEP,
        b'{"a":%b%b}' % (DEEP, b"]" * len(DEEP)),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_that_is_no_answer_says_nothing(body: bytes) -> None:
    assert seen(read_answer(body)) == {"stopped": False}


def test_a_deeply_nested_event_harms_nothing() -> None:
    reader = read(b"event: message_delta\ndata: %b\n\n" % DEEP, b'event: error\ndata: {"error":%b\n\n' % DEEP)
    assert reader.usage is None
    assert reader.error is not None


def test_a_later_count_replaces_it_does_not_add() -> None:
    assert read(start({"input_tokens": 2234}), delta({"input_tokens": 9281})).usage == Usage(input=9281)


def test_a_zero_never_replaces_a_count_but_stands_where_none_was() -> None:
    assert read(start({"input_tokens": 5, "output_tokens": 0}), delta({"input_tokens": 0, "output_tokens": 0})).usage == Usage(
        input=5, output=0
    )


def test_absent_keys_and_null_keep_their_value() -> None:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 7, "speed": "fast"}
    assert read(start(usage), delta({"cache_read_input_tokens": None, "speed": None, "output_tokens": 2})).usage == Usage(
        input=5, cache_read=7, output=2, speed="fast"
    )


def test_an_upstream_without_usage_leaves_none() -> None:
    assert read(start(None), delta(None)).usage is None


COUNTS = ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"]
WRONG: list[Any] = [[], {}, "many", True, 1.5, -1, 2**53, 10**40, [1], {"a": 1}]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize("name", [*COUNTS, "cache_creation", "server_tool_use", "service_tier", "inference_geo", "speed"])
def test_one_field_of_a_wrong_type_hides_no_other(name: str, wrong: Any) -> None:
    good = {"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 4}
    fields = dict(zip(COUNTS, ("input", "output", "cache_read", "cache_write"), strict=True))
    expected = {fields[key]: value for key, value in good.items() if key != name}
    usage = good | {name: wrong}
    if name in ("service_tier", "inference_geo", "speed") and isinstance(wrong, str):
        expected[name] = wrong
    for reading in (
        read(start(usage)),
        read(delta(usage)),
        read_answer(json.dumps({"type": "message", "model": "m", "usage": usage}).encode()),
    ):
        assert seen(reading).get("usage") == expected


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize("name", ["model", "stop_reason", "message", "delta", "code", "type", "msg"])
def test_a_wrong_field_beside_the_usage_does_not_hide_it(name: str, wrong: Any) -> None:
    body = {"type": "message", "usage": {"input_tokens": 8}, name: wrong}
    assert read_answer(json.dumps(body).encode()).usage == Usage(input=8)
    assert read(b"event: message_delta\ndata: %b\n\n" % json.dumps(body).encode()).usage == Usage(input=8)


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize("name", ["type", "message", "code"])
def test_a_wrong_field_in_an_error_does_not_hide_the_error(name: str, wrong: Any) -> None:
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded", "code": "1305", name: wrong}}
    error = read_answer(json.dumps(body).encode()).error
    assert error is not None
    assert (name == "message") is (error.message != "Overloaded")


def test_numbers_as_text_are_counts() -> None:
    assert read(start({"input_tokens": "12"})).usage == Usage(input=12)


def test_an_event_without_a_name_is_read_by_its_type() -> None:
    """The SDKs drop it; other clients do not (WHATWG HTML section 9.2.6 calls it `message`)."""
    reader = read(b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}\n\n')
    assert seen(reader) == {"usage": {"output": 5}, "stop_reason": "end_turn", "stopped": False}
    assert read(b'data: {"type":"message_stop"}\n\n').stopped


def test_a_code_that_reports_success_is_no_error() -> None:
    assert read_answer(b'{"code":200,"msg":"Operation successful","success":true}').error is None


def test_an_error_event_is_one_whatever_its_data_is() -> None:
    for data in (b"{}", b"null", b"[1]", b"gone", b"\xff", b'{"type":"error"}', b'{"error":null}'):
        assert read(b"event: error\ndata: %b\n\n" % data).error is not None, data


def test_an_event_larger_than_the_limit_is_passed_over_and_the_totals_still_come() -> None:
    huge = b'event: content_block_delta\ndata: {"message_delta":"%b"}\n\n' % (b"x" * 3_000_000)
    stream = start({"input_tokens": 3}) + huge + delta({"output_tokens": 4})
    reader = read(*(stream[at : at + 65_536] for at in range(0, len(stream), 65_536)))
    assert reader.usage == Usage(input=3, output=4)
    assert reader.between


def test_text_costs_no_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most events of a stream are text: they are passed over at a glance."""
    parsed: list[bytes] = []
    monkeypatch.setattr(module, "parse", lambda block: parsed.append(block) or [])
    plain = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"hello, world"}}\n\n'
    reader = StreamReader()
    reader.feed(plain * 3)
    assert parsed == []
    reader.feed(plain + plain.replace(b"hello, world", b"an error :-)") + plain)
    assert [block.count(b"\n\n") for block in parsed] == [1]
