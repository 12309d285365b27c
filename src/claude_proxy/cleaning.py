"""Makes a string from a client or an upstream safe to store and to show: in logs, notices, the ledger, pages and terminals."""

from __future__ import annotations

import re
from functools import lru_cache

# C0, DEL and C1 (ECMA-48: what moves a cursor or starts an escape sequence), line and paragraph separator.
_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# Invisible characters that change how the text around them is read: bidirectional marks, embeddings, overrides and isolates
# (Unicode UAX #9 section 2; CVE-2021-42574), byte-order mark, annotation marks, tag characters.
_INVISIBLE = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]+")
_SURROGATES = re.compile("[\ud800-\udfff]")


def clean(text: str | bytes | None, limit: int) -> str | None:
    """Truncate and clean a foreign string; done once, where it enters.

    Runs of control characters and line separators become one space, invisible formatting is removed, lone surrogates become
    U+FFFD, and both ends are stripped. Cleaning is idempotent. Its time depends on `limit`, not on the length of `text`.

    Args:
        text: what was sent. Bytes, such as a header value, are decoded as UTF-8 if valid, else as ISO 8859-1 (RFC 9110
            section 5.5 leaves it open, and servers and clients send both).
        limit: the most characters to keep.

    Returns:
        at most `limit` characters; None for None.
    """
    if text is None:
        return None
    return _clean_short(text, limit) if len(text) <= _SHORT else _cleaned(text, limit)


def _cleaned(text: str | bytes, limit: int) -> str:
    text = _decoded(text, limit) if isinstance(text, bytes) else text[:limit]
    if not text.isprintable():  # no control, format or separator character, and no surrogate, is printable
        text = _SURROGATES.sub("\ufffd", _INVISIBLE.sub("", _BREAKS.sub(" ", text)))
    return text.strip()


class Cleaned(dict[str | bytes, str]):
    """`clean(text, limit)` as `memory[text]`, for texts that come again and again: names of models, sessions and clients.

    Bounded: at most `MOST` of them, each at most `_SHORT` long.
    """

    MOST = 2048

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __missing__(self, text: str | bytes) -> str:
        found = _cleaned(text, self._limit)
        if len(text) <= _SHORT:
            if len(self) >= self.MOST:
                self.clear()
            self[text] = found
        return found


_SHORT = 128  # characters or bytes: names of models, sessions and clients, most of which come again
_clean_short = lru_cache(2048)(_cleaned)


def _decoded(data: bytes, limit: int) -> str:
    """Decode the first `limit` characters of `data`."""
    if len(data) <= limit and data.isascii():
        return data.decode("ascii")
    head = data[: 4 * limit]  # a character takes up to four bytes in UTF-8
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        cut = len(head) < len(data) and error.reason == "unexpected end of data"  # we cut inside a character
        text = head[: error.start].decode() if cut else head.decode("latin-1")
    return text[:limit]


def visible(text: object, keep: str = "") -> str:
    """Return `text` with control and format characters escaped: `\\x1b`, `\\u202e`.

    Args:
        keep: characters to leave alone, `"\\n"` for a text of several lines.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(_escaped(char) if char not in keep and is_unseen(char) else char for char in text)


def is_unseen(char: str) -> bool:
    """Whether a character is a control or format character, a lone surrogate, or a separator other than the space."""
    return not char.isprintable()


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode()
