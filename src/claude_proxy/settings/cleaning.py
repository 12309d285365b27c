"""What every value from the environment, a file or the command line goes through before it is judged.

People paste values with what stood around them, and tools pass that on: `docker run --env-file` keeps quotes, an editor on
Windows leaves a byte-order mark and CRLF, a header is copied with its `Bearer `. All of that is dropped here. What cannot be
seen inside a value is refused, because it would otherwise surface as a credential that does not work.
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
    """`text` without the space, byte-order marks, line ends and balanced quotes around it."""
    while (bare := _unquoted(text.strip(_AROUND))) != text:
        text = bare
    return text


def clean_key(text: str) -> str:
    """The same for a credential, which people also copy with its field name and scheme: `Authorization: Bearer sk-...`."""
    text = key = clean(text)
    for pattern in (_FIELD_NAME, _BEARER):
        if found := pattern.match(key):
            key = clean(key[found.end() :])
    return key or text  # nothing but a label is no key, and it is not "not set" either: it will be refused


def _unquoted(text: str) -> str:
    """`text` without a pair of quotes around the whole: `"a","b"` is not one."""
    quote = text[:1]
    whole = len(text) > 1 and quote in "\"'" and text.endswith(quote) and quote not in text[1:-1]
    return text[1:-1] if whole else text


def clean_value(value: object, *, key: bool = False) -> object:
    """Clean a text, or each text of a list; anything else is returned as it is."""
    if isinstance(value, str):
        return clean_key(value) if key else clean(value)
    return [clean_value(one, key=key) for one in value] if isinstance(value, list) else value


def flaw(value: object) -> str | None:
    """What makes a cleaned value unusable whatever it is for, as the end of a sentence; None if nothing does."""
    if isinstance(value, list | tuple):
        return next((found for one in value if (found := flaw(one)) is not None), None)
    if not isinstance(value, str):
        return None
    hidden = next((char for char in value if not char.isprintable()), None)
    if hidden is not None:
        return f"there is an invisible character in it, {_named(hidden)}: delete that, or type the value instead of pasting it"
    if _WHOLE_PLACEHOLDER.fullmatch(value):
        return "this is a placeholder that nothing has filled in: put the value itself there"
    return None


def has_placeholder(text: str) -> bool:
    """Whether a part of `text` looks like a variable that nothing has expanded: `${HOST}`, `$HOST`, `{{ host }}`, `<host>`."""
    return _PLACEHOLDER.search(text) is not None


def _named(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # how Python hands over a byte that is not UTF-8 (PEP 383)
        return f"the byte 0x{code - 0xDC00:02X}, which is not UTF-8"
    return f"U+{code:04X} ({unicodedata.name(char, 'CONTROL CHARACTER')})"
