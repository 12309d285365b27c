"""Patterns: what they match, and what that says of two of them."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.patterns import any_matches, covers, matches, overlap

PATTERNS = st.text("ab*", max_size=6)
NAMES = ["".join(letters) for size in range(7) for letters in itertools.product("ab", repeat=size)]


@given(PATTERNS, st.text("ab", max_size=8))
def test_a_star_stands_for_any_text_and_a_letter_for_itself(pattern: str, name: str) -> None:
    assert matches(pattern, name) == bool(re.fullmatch(pattern.replace("*", ".*"), name))


@pytest.mark.parametrize("special", [".", "?", "[a]", "(", "+", "\\"])
def test_nothing_else_is_special(special: str) -> None:
    assert matches(f"a{special}*", f"a{special}b")
    assert not matches(f"a{special}", "ab")


@given(PATTERNS, PATTERNS)
def test_two_overlap_where_one_name_matches_both(one: str, other: str) -> None:
    found = any(matches(one, name) and matches(other, name) for name in NAMES)
    assert overlap(one, other) == overlap(other, one)
    assert overlap(one, other) or not found
    if len(one) + len(other) <= 6:  # then the shortest common name is among those tried
        assert overlap(one, other) == found


@given(PATTERNS, PATTERNS)
def test_what_covers_another_matches_all_of_its_names(wide: str, narrow: str) -> None:
    if covers(wide, narrow):
        assert all(matches(wide, name) for name in NAMES if matches(narrow, name))


@pytest.mark.parametrize(
    ("wide", "narrow", "does"),
    [("*", "a*b", True), ("a*", "ab*", True), ("ab*", "a*", False), ("a", "a", True), ("a*c", "a*b*c", True), ("a", "*", False)],
)
def test_covering(wide: str, narrow: str, does: bool) -> None:
    assert covers(wide, narrow) is does


def test_any_of_several() -> None:
    assert any_matches(("glm-*", "claude-*"), "claude-opus-5")
    assert not any_matches((), "claude-opus-5")
