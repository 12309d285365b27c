"""Content codings: every cut, several members, bombs, garbage."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.protocol.decoding import MAX_DECODED, Decompressor, decompressor
from tests.protocol.samples import content, cuts

try:
    from compression import zstd
except ImportError:
    from backports import zstd

TEXT = content("prompt_cache.sse") + content("unicode.sse")


def raw_deflate(data: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return engine.compress(data) + engine.flush()


def small_window(data: bytes) -> bytes:
    """zlib with a 512-byte window: its first byte is not the usual 0x78."""
    engine = zlib.compressobj(wbits=9)
    return engine.compress(data) + engine.flush()


ENCODERS: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (b"gzip", gzip.compress),
    "x-gzip": (b"x-gzip", gzip.compress),
    "deflate": (b"deflate", zlib.compress),
    "deflate-fast": (b"deflate", lambda data: zlib.compress(data, 1)),
    "deflate-small-window": (b"deflate", small_window),
    "deflate-raw": (b"deflate", raw_deflate),
    "br": (b"br", lambda data: brotli.compress(data, quality=5)),
    "zstd": (b"zstd", zstd.compress),
}
BOMBS = {name: encoder for name, encoder in ENCODERS.items() if name not in ("x-gzip", "deflate-fast", "deflate-small-window")}
all_codings = pytest.mark.parametrize(("coding", "encode"), ENCODERS.values(), ids=ENCODERS)

bombs = pytest.mark.parametrize(("coding", "encode"), BOMBS.values(), ids=BOMBS)


def decode(coding: bytes, *chunks: bytes) -> bytes:
    engine = decompressor(coding)
    return b"".join(engine.feed(chunk) for chunk in chunks)


@all_codings
def test_decodes_whole_and_cut_at_any_byte(coding: bytes, encode: Callable[[bytes], bytes]) -> None:
    data = encode(TEXT)
    for at in range(len(data) + 1):
        assert decode(coding, data[:at], data[at:]) == TEXT, at


@all_codings
def test_decodes_byte_by_byte_with_empty_chunks_between(coding: bytes, encode: Callable[[bytes], bytes]) -> None:
    data = encode(TEXT)
    assert decode(coding, b"", *(part for at in range(len(data)) for part in (data[at : at + 1], b""))) == TEXT


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.sampled_from(sorted(ENCODERS)), st.binary(max_size=400), st.lists(st.integers(0, 500), max_size=10))
def test_decodes_anything_in_random_cuts(name: str, data: bytes, at: list[int]) -> None:
    coding, encode = ENCODERS[name]
    assert decode(coding, *cuts(encode(data), at)) == data


@pytest.mark.parametrize(("coding", "encode"), [ENCODERS["gzip"], ENCODERS["zstd"]], ids=["gzip", "zstd"])
def test_members_one_after_another_are_one_body(coding: bytes, encode: Callable[[bytes], bytes]) -> None:
    data = b"".join(encode(part) for part in (b"one ", b"", b"two ", TEXT))
    for at in range(len(data) + 1):
        assert decode(coding, data[:at], data[at:]) == b"one two " + TEXT, at


@pytest.mark.parametrize(("coding", "encode"), [ENCODERS["gzip"], ENCODERS["zstd"]], ids=["gzip", "zstd"])
@pytest.mark.parametrize("padding", [b"\0" * 512, b"garbage"], ids=["zeros", "garbage"])
def test_padding_behind_the_last_member_costs_nothing_of_it(
    coding: bytes, encode: Callable[[bytes], bytes], padding: bytes
) -> None:
    data = encode(TEXT)
    assert decode(coding, data + padding, b"more") == TEXT
    assert decode(coding, data, padding, b"more") == TEXT


@all_codings
def test_what_came_before_a_truncation_is_read(coding: bytes, encode: Callable[[bytes], bytes]) -> None:
    data = encode(TEXT)
    assert TEXT.startswith(decode(coding, data[: len(data) // 2]))


@all_codings
def test_garbage_yields_nothing_for_good(coding: bytes, encode: Callable[[bytes], bytes]) -> None:
    engine = decompressor(coding)
    assert engine.feed(b"\xff\xfe not compressed at all, long enough to be sure of it" * 20) == b""
    assert engine.feed(encode(TEXT)) == b""


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.sampled_from(sorted(ENCODERS)), st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_random_bytes_never_raise(name: str, data: bytes, at: list[int]) -> None:
    decode(ENCODERS[name][0], *cuts(data, at))


@pytest.mark.parametrize("coding", [b"", b"identity", b"compress", b"gzip, br", b"aes128gcm"])
def test_an_unknown_coding_yields_nothing(coding: bytes) -> None:
    assert decode(coding, gzip.compress(b"data")) == b""


@bombs
def test_a_bomb_in_one_chunk_is_not_allocated(coding: bytes, encode: Callable[[bytes], bytes]) -> None:
    bomb = encode(b"\0" * 48_000_000)
    engine = decompressor(coding)
    tracemalloc.start()
    try:
        decoded = engine.feed(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert decoded == b""
    assert peak < 2.5 * MAX_DECODED  # the decoded bytes and the buffer they grew in
    assert engine.feed(b"x") == b""


@bombs
def test_a_bomb_in_many_chunks_ends_at_the_limit(coding: bytes, encode: Callable[[bytes], bytes]) -> None:
    bomb = encode(b"\0" * 20_000_000)
    engine, size = decompressor(coding), 0
    for at in range(0, len(bomb), 16):
        size += len(engine.feed(bomb[at : at + 16]))
    assert size <= MAX_DECODED


@bombs
def test_the_limit_itself_may_be_reached(coding: bytes, encode: Callable[[bytes], bytes]) -> None:
    assert len(decode(coding, encode(b"x" * MAX_DECODED))) == MAX_DECODED
    assert decode(coding, encode(b"x" * (MAX_DECODED + 1))) == b""


def test_the_engine_is_told_how_much_is_wanted() -> None:
    asked: list[int] = []

    def engine(data: bytes, most: int) -> bytes:
        asked.append(most)
        return data

    counted = Decompressor(engine, limit=10)
    assert [counted.feed(b"12345678"), counted.feed(b"12"), counted.feed(b"3")] == [b"12345678", b"12", b""]
    assert asked == [11, 3, 1]


SMALL_ONES = pytest.mark.parametrize(("coding", "encode"), [ENCODERS["gzip"], ENCODERS["zstd"]], ids=["gzip", "zstd"])


@SMALL_ONES
@pytest.mark.parametrize("size", [7, 4096, 1 << 20])
def test_a_member_for_each_event_is_read_however_many_there_are(
    coding: bytes, encode: Callable[[bytes], bytes], size: int
) -> None:
    events = [b"event: ping\ndata: %d\n\n" % number for number in range(3000)]
    data = b"".join(map(encode, events))
    assert decode(coding, *(data[at : at + size] for at in range(0, len(data), size))) == b"".join(events)


@SMALL_ONES
@pytest.mark.parametrize("held", [b"", b"x"], ids=["empty", "one byte"])
def test_members_that_hold_nothing_are_not_read_without_end(coding: bytes, encode: Callable[[bytes], bytes], held: bytes) -> None:
    engine, chunk = decompressor(coding), encode(held) * 900
    assert engine.feed(chunk) == held * 900
    assert len(engine.feed(chunk)) <= len(held * 101)
    assert engine.feed(encode(TEXT)) == b""
