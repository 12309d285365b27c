"""Foreign strings: bounded, printable, and unchanged where nothing is wrong with them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.cleaning import clean

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
CONTROLS = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}
NOT_PRINTED = CONTROLS | set(BIDI) | set("\ufeff\ufff9\ufffa\ufffb")
AWKWARD = st.sampled_from([*sorted(NOT_PRINTED), "\ud800", "\udfff", "\U000e0041", "é", "你", "\U0001f600", "\u200d", " ", "a"])
ANY_TEXT = st.text(st.one_of(st.characters(), AWKWARD), max_size=60)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "glm-5.2",
        "claude-opus-4-5[1m]",
        "two words",
        "rate limit: 100%",
        "한국어",
        "你好",
        "naïve",
        "👩\u200d💻",
        "a\u00a0b",
        "نص",
    ],
)
def test_a_clean_text_stays_as_it_is(text: str) -> None:
    assert clean(text, 100) == text
    assert clean(text.encode(), 100) == text


def test_nothing_stays_nothing() -> None:
    assert clean(None, 5) is None


@pytest.mark.parametrize(
    ("dirty", "cleaned"),
    [
        ("a\r\nb", "a b"),
        ("a\tb\x00\x1bc", "a b c"),
        ("\x1b[2J\x1b]0;title\x07x", "[2J ]0;title x"),
        ("a\x7fb\x85c\x9bd", "a b c d"),
        ("a\u2028b\u2029c", "a b c"),
        ("  padded \n", "padded"),
        ("\n", ""),
        ("user\u202e\u2066txt.exe\u2069\u202c", "usertxt.exe"),
        ("\ufeffmodel", "model"),
        ("x\U000e0041\U000e007fy", "xy"),
        ("\ud83d half", "\ufffd half"),
        ("\udc80", "\ufffd"),
    ],
)
def test_what_moves_a_cursor_or_hides_is_taken_out(dirty: str, cleaned: str) -> None:
    assert clean(dirty, 100) == cleaned


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("Zoë 你好".encode(), "Zoë 你好"),
        ("Zoë".encode("latin-1"), "Zoë"),
        (b"\xff\xfe", "ÿþ"),
        (b"a\x85b\x9b31m", "a b 31m"),  # C1, by way of ISO 8859-1
        ("a\u202eb".encode(), "ab"),
        (b"\xed\xa0\x80.", "í\u00a0 ."),  # a surrogate is not UTF-8
        (b"caf\xc3", "cafÃ"),  # ends inside a character, and nobody cut it
    ],
)
def test_header_bytes_are_utf_8_where_they_can_be_and_else_latin_1(raw: bytes, text: str) -> None:
    assert clean(raw, 100) == text


@pytest.mark.parametrize("limit", range(1, 14))
@pytest.mark.parametrize("text", ["é你\U0001f600" * 4, "a" * 20, "\U0001f600" * 20])
def test_a_cut_inside_a_character_does_not_change_the_encoding(text: str, limit: int) -> None:
    assert clean(text.encode(), limit) == text[:limit]


@settings(derandomize=True, deadline=None, max_examples=500)
@given(ANY_TEXT, st.integers(0, 70))
def test_the_result_is_bounded_encodable_and_harmless_and_cleaning_it_again_changes_nothing(text: str, limit: int) -> None:
    cleaned = clean(text, limit)
    assert cleaned is not None
    assert len(cleaned) <= limit
    cleaned.encode()  # no surrogate is left
    assert not set(cleaned) & NOT_PRINTED
    assert all(unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp") for char in cleaned)
    assert cleaned == cleaned.strip()
    assert clean(cleaned, limit) == cleaned
    assert clean(cleaned.encode(), limit) == cleaned


@settings(derandomize=True, deadline=None, max_examples=500)
@given(st.binary(max_size=80), st.integers(0, 70))
def test_any_bytes_give_a_bounded_harmless_text(data: bytes, limit: int) -> None:
    cleaned = clean(data, limit)
    assert cleaned is not None
    assert len(cleaned) <= limit
    assert not set(cleaned.encode().decode()) & NOT_PRINTED


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=40), st.integers(40, 80))
def test_a_printable_text_is_never_changed(text: str, limit: int) -> None:
    assert clean(text, limit) == text
    assert clean(text.encode(), limit) == text
