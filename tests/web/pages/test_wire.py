"""The event stream: its lines, and gzip whose parts are shared."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.web.pages import wire


def test_an_event_has_a_line_of_data_for_each_line() -> None:
    assert wire.message("<tr>\n\n  <td>one</td></tr>\n") == b"data: <tr>\ndata:   <td>one</td></tr>\n\n"
    assert wire.message("{}", event="beat") == b"event: beat\ndata: {}\n\n"
    assert wire.message("", event="beat") == b"event: beat\ndata:\n\n"


@pytest.mark.parametrize("ending", ["\r", "\r\n", "\u2028", "\x0b", "\x85"])
def test_no_line_ending_in_a_text_can_begin_a_field_of_its_own(ending: str) -> None:
    lines = wire.message(f"a{ending}event: forged{ending}{ending}data: b").decode().replace("\r", "\n").split("\n")
    assert [line for line in lines if line and not line.startswith("data: ")] == []


@given(st.lists(st.binary(max_size=2000), max_size=6), st.data())
def test_any_sequence_of_parts_is_a_gzip_stream(parts: list[bytes], data: st.DataObject) -> None:
    shared = [(part, wire.packed(part)) for part in parts]
    chosen = data.draw(st.lists(st.sampled_from(shared), max_size=8)) if shared else []
    trailer = wire.Trailer()
    stream = wire.GZIP_HEAD
    for raw, packed in chosen:
        trailer.add(raw)
        stream += packed
    raw = b"".join(raw for raw, _ in chosen)
    assert zlib.decompressobj(31).decompress(stream) == raw, "each part can be read as soon as it is there"
    assert gzip.decompress(stream + trailer.bytes()) == raw
