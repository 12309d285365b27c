"""The splitter and the parser, held against the reference at every byte."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.protocol.sse import PING, Event, Splitter, encode, parse
from tests.protocol.reference import Reference, events_of
from tests.protocol.samples import LINE_ENDS, STREAMS, content, cuts

# Whatever can go wrong at a boundary is made of these.
pieces = st.lists(
    st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"a", b":", b" ", b"data: x", b"data", b"event: e", b": c", b"id: 1"]),
    max_size=24,
)


def split(chunks: list[bytes], limit: int = 1 << 20) -> list[Event]:
    splitter = Splitter(limit)
    return [event for chunk in chunks for event in parse(splitter.feed(chunk))]


@pytest.mark.parametrize("line_end", LINE_ENDS.values(), ids=LINE_ENDS)
@pytest.mark.parametrize("name", STREAMS)
def test_a_cut_at_any_byte_changes_no_event(name: str, line_end: bytes) -> None:
    stream = content(name, line_end)
    expected = events_of(stream)
    for at in range(len(stream) + 1):
        assert split([stream[:at], stream[at:]]) == expected, at


@pytest.mark.parametrize("line_end", LINE_ENDS.values(), ids=LINE_ENDS)
@pytest.mark.parametrize("name", STREAMS)
def test_between_is_true_exactly_where_no_event_is_half_sent(name: str, line_end: bytes) -> None:
    stream, splitter, reference = content(name, line_end), Splitter(), Reference()
    for at in range(len(stream)):
        byte = stream[at : at + 1]
        splitter.feed(byte)
        reference.feed(byte)
        assert splitter.between is not reference.pending, (at, stream[:at][-40:])


@settings(derandomize=True, deadline=None, max_examples=500)
@given(pieces, st.lists(st.integers(0, 200), max_size=12))
def test_any_bytes_in_any_cuts_give_the_events_of_the_reference(parts: list[bytes], at: list[int]) -> None:
    stream = b"".join(parts)
    assert split(list(cuts(stream, at))) == events_of(stream)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(pieces, st.lists(st.integers(0, 200), max_size=12))
def test_what_is_put_in_between_changes_no_event_of_the_stream(parts: list[bytes], at: list[int]) -> None:
    """What `between` promises: a ping may go there."""
    splitter, sent = Splitter(), b""
    for chunk in cuts(b"".join(parts), at):
        splitter.feed(chunk)
        sent += chunk
        if splitter.between:
            sent += PING
    assert [event for event in events_of(sent) if event != events_of(PING)[0]] == events_of(b"".join(parts))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(pieces)
def test_between_is_never_true_inside_an_event(parts: list[bytes]) -> None:
    splitter, reference = Splitter(), Reference()
    for byte in b"".join(parts):
        splitter.feed(bytes([byte]))
        reference.feed(bytes([byte]))
        assert not (splitter.between and reference.pending)


def test_a_chunk_that_ends_with_an_event_is_handed_on_as_it_is() -> None:
    chunk = b"event: ping\ndata: {}\n\n"
    assert Splitter().feed(chunk) is chunk


def test_an_empty_chunk_says_nothing_and_leaves_the_state() -> None:
    splitter = Splitter()
    assert (splitter.feed(b""), splitter.between) == (b"", True)
    splitter.feed(b"data: x")
    assert (splitter.feed(b""), splitter.between) == (b"", False)


@pytest.mark.parametrize("line_end", LINE_ENDS.values(), ids=LINE_ENDS)
@pytest.mark.parametrize("step", [1, 7, 64])
def test_an_event_over_the_limit_is_skipped_and_the_next_one_read(step: int, line_end: bytes) -> None:
    stream = b"data: before\n\ndata: %b\ndata: tail\n\ndata: after\n\n" % (b"x" * 500)
    stream = stream.replace(b"\n", line_end)
    chunks = [stream[at : at + step] for at in range(0, len(stream), step)]
    assert split(chunks, limit=100) == [Event("message", b"before"), Event("message", b"after")]


def test_between_is_false_inside_a_skipped_event_and_true_behind_it() -> None:
    splitter = Splitter(limit=10)
    for _ in range(50):
        splitter.feed(b"data: x")
        assert not splitter.between
    splitter.feed(b"\n\n")
    assert splitter.between


@pytest.mark.parametrize("line_end", LINE_ENDS.values(), ids=LINE_ENDS)
def test_a_skipped_event_is_not_kept_in_memory(line_end: bytes) -> None:
    splitter = Splitter(limit=1000)
    splitter.feed(b"data: a" + line_end)
    for _ in range(200):
        splitter.feed(b"x" * 700)
        assert len(splitter._rest) <= 1700


def test_a_name_without_utf8_and_a_field_without_colon_are_read_as_the_rules_say() -> None:
    assert list(parse(b"event: \xff\ndata\n\n")) == [Event("\ufffd", b"")]


def test_an_event_without_data_is_none() -> None:
    assert list(parse(b"event: ping\n\n: comment\n\nid: 4\nretry: 3\n\n")) == []


def test_encode_is_what_parse_reads() -> None:
    assert list(parse(encode("error", b'{"a":1}'))) == [Event("error", b'{"a":1}')]
    assert list(parse(PING)) == [Event("ping", b'{"type": "ping"}')]
