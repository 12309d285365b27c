"""A notice fits ntfy and carries no secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.notify.notice import MAX_MESSAGE, MAX_TITLE, Notice, clip, plain, scrub


@given(st.text(st.characters(), max_size=3000), st.integers(3, 5000))
def test_a_cut_is_valid_utf8_within_the_limit(text: str, limit: int) -> None:
    cut = clip(text, limit)
    assert len(cut.encode()) <= limit
    if len(text.encode("utf-8", "replace")) > limit:
        assert cut.endswith("…")


def test_a_cut_falls_between_characters() -> None:
    assert clip("가나다", 9) == "가나다"
    assert clip("가나다", 8) == "가…"
    assert clip("\ud800", 10) == "?"


def test_title_and_message_are_cut_to_ntfys_limits() -> None:
    notice = Notice("é" * 500, "é" * 5000, 3, (), "s").scrubbed()
    assert len(notice.title.encode()) <= MAX_TITLE
    assert len(notice.message.encode()) <= MAX_MESSAGE


@pytest.mark.parametrize(
    "secret",
    [
        "sk-ant-api03-abcdef_gh",
        "tk_abcdef123456",
        "Bearer abc.def.ghi",
        "0123456789abcdef0123456789abcdef.AbCdEfGh",
        "eyJhbGciOiJIUzI1NiJ9.e30.abc",
    ],
)
def test_what_looks_like_a_credential_is_taken_out(secret: str) -> None:
    assert secret not in scrub(f"login with {secret} failed")
    assert scrub(f"login with {secret} failed").startswith("login with ")


def test_credentials_in_an_address_are_taken_out() -> None:
    assert scrub("via http://me:pw@proxy:3128 refused") == "via http://proxy:3128 refused"


def test_known_secrets_are_taken_out_of_title_and_message() -> None:
    notice = Notice("has hush", "hush-hush and hush", 3, (), "s").scrubbed(["hush", "hush-hush", ""])
    assert (notice.title, notice.message) == ("has [redacted]", "[redacted] and [redacted]")


def test_foreign_text_becomes_one_line() -> None:
    assert plain("a\r\n b\x00\tc") == "a b c"
    assert plain(None) == ""
    assert plain("x" * 70) == "x" * 63 + "…"
