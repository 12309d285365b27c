"""Cleans every value from the environment, a file or the command line before it is validated.

People paste values with surrounding characters, and tools pass those on: `docker run --env-file` keeps quotes, an editor on
Windows leaves a byte-order mark and CRLF, a header is copied with its `Bearer `. All of that is removed here. Invisible
characters inside a value are refused, because otherwise the only symptom would be a credential that does not work.
"""

from __future__ import annotations

import re
import unicodedata

_AROUND = " \t\r\n\v\f\ufeff"  # U+FEFF at the start of a file is the byte-order mark
_FIELD_NAME = re.compile(r"(?i)(?:authorization|x-api-key)\s*:\s*")
LABEL = re.compile(r"(?i)(?:(?:authorization|x-api-key)\s*:\s*)?(?:bearer)?")
_BEARER = re.compile(r"(?i)bearer(?:\s+|$)")
_WHOLE_PLACEHOLDER = re.compile(r"\$\{[^{}]*\}|\$\([^()]*\)|\$[A-Z_][A-Z0-9_]*|\{\{.*\}\}|%[A-Z_][A-Z0-9_]*%|<[^<>]*>")
_PLACEHOLDER = re.compile(r"\$\{|\$\(|\$[A-Za-z_]|\{\{|\}\}|%[A-Z_]+%|<[^<>]*>")


def clean(text: str) -> str:
    """Strip white space, byte-order marks, line ends and balanced quotes from both ends of `text`."""
    while (bare := _unquoted(text.strip(_AROUND))) != text:
        text = bare
    return text


def clean_key(text: str) -> str:
    """Clean a credential, which people also copy with its field name and scheme: `Authorization: Bearer sk-...`."""
    text = key = clean(text)
    for pattern in (_FIELD_NAME, _BEARER):
        if found := pattern.match(key):
            key = clean(key[found.end() :])
    return key or text  # a label alone is not a key, but not unset either: keep it, to be refused later


def _unquoted(text: str) -> str:
    """Remove one pair of quotes around the whole text; `"a","b"` has none."""
    quote = text[:1]
    whole = len(text) > 1 and quote in "\"'" and text.endswith(quote) and quote not in text[1:-1]
    return text[1:-1] if whole else text


def clean_value(value: object, *, key: bool = False) -> object:
    """Clean a string, or each string of a list; return anything else unchanged."""
    if isinstance(value, str):
        return clean_key(value) if key else clean(value)
    return [clean_value(one, key=key) for one in value] if isinstance(value, list) else value


def flaw(value: object) -> str | None:
    """Say, as the end of a sentence, what makes a cleaned value unusable for any setting; None if nothing does."""
    if isinstance(value, list | tuple):
        return next((found for one in value if (found := flaw(one)) is not None), None)
    if not isinstance(value, str):
        return None
    hidden = next((char for char in value if not char.isprintable()), None)
    if hidden is not None:
        return f"there is an invisible character in it, {_named(hidden)}: delete that, or type the value instead of pasting it"
    if _WHOLE_PLACEHOLDER.fullmatch(value):
        return "this is a placeholder that was never replaced: put the value itself there"
    return None


def has_placeholder(text: str) -> bool:
    """Whether a part of `text` looks like an unexpanded variable: `${HOST}`, `$HOST`, `{{ host }}`, `<host>`."""
    return _PLACEHOLDER.search(text) is not None


def _named(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # how Python represents a byte that is not UTF-8 (PEP 383)
        return f"the byte 0x{code - 0xDC00:02X}, which is not UTF-8"
    return f"U+{code:04X} ({unicodedata.name(char, 'CONTROL CHARACTER')})"
