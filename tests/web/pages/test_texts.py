"""The catalogues: each text in both languages, with the same values in it, and every key that is used is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import claude_proxy.web
from claude_proxy.web.texts import CATALOGUES, known, text

WEB = Path(claude_proxy.web.__file__).parent
PAIRS = [(f"{name}.{key}", *pair) for name, texts in CATALOGUES.items() for key, pair in texts.items()]
BY_STATE = re.compile(r"shell\.(state|outcome)_.+|connect\.key_.+|shell\.(ms|s|min|h|d)")  # put together at runtime


@pytest.mark.parametrize(("key", "english", "korean"), PAIRS, ids=[pair[0] for pair in PAIRS])
def test_a_text_says_the_same_in_both_languages(key: str, english: str, korean: str) -> None:
    assert english.strip()
    assert korean.strip()
    forms = english.split("|")
    assert len(forms) <= 2
    for form in forms:
        assert {*re.findall(r"\{\w+\}|<[^>]+>", form)} == {*re.findall(r"\{\w+\}|<[^>]+>", korean)}, key
    assert "|" not in korean


@cache
def used() -> dict[str, str]:
    """Each key that templates and views name, with the file that does."""
    found = {}
    for path in (WEB / "templates").glob("*.html"):
        found |= dict.fromkeys(re.findall(r"\bt\('(\w+\.[\w-]+)'", path.read_text("utf-8")), path.name)
    for path in (WEB / "pages").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            key = node.value if isinstance(node, ast.Constant) else None
            if isinstance(key, str) and re.fullmatch(r"(?!\w+\.html)\w+\.[\w-]+", key) and key.partition(".")[0] in CATALOGUES:
                found[key] = path.name
    return found


def test_every_key_that_is_used_has_a_text() -> None:
    missing = {key: file for key, file in used().items() if not known(key) and not key.endswith("_")}
    assert missing == {}


def test_every_text_is_used() -> None:
    templates = "".join(path.read_text("utf-8") for path in (WEB / "templates").glob("*.html"))
    prefixes = tuple(re.findall(r"t\('(\w+\.\w*)' ~", templates))
    unused = [key for key, *_ in PAIRS if key not in used() and not key.startswith(prefixes) and not BY_STATE.fullmatch(key)]
    # the charts' series and the navigation's names are looked up by name
    looked_up = ("now.exchanges", "now.failed", "now.first_byte_p50_ms", "now.first_byte_p95_ms")
    assert [key for key in unused if key not in looked_up] == []


def test_a_plural_is_chosen_by_count() -> None:
    assert text("en", "now.errors", count=1) == "1 error"
    assert text("en", "now.errors", count="1,204") == "1,204 errors"
    assert text("ko", "now.errors", count=1) == "오류 1건"


def test_values_are_not_read_as_texts() -> None:
    assert "{0.__class__}" in text("en", "now.quota_left", window="{0.__class__}")


def test_an_unknown_key_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        text("en", "now.nothing_of_the_kind")
    assert not known("nowhere.at_all")
