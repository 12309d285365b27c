"""Makes a string of a client or an upstream safe to keep and to show: in logs, notices, the ledger, on a page, in a terminal."""

from __future__ import annotations

import re

# C0, DEL and C1 (ECMA-48: what moves a cursor or starts an escape sequence), line and paragraph separator.
_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# What is not seen but changes how the text around it is read: marks, embeddings, overrides and isolates of bidirectional text
# (Unicode UAX #9 section 2; CVE-2021-42574), byte-order mark, annotation marks, tag characters.
_INVISIBLE = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]+")
_SURROGATES = re.compile("[\ud800-\udfff]")


def clean(text: str | bytes | None, limit: int) -> str | None:
    """Bound and clean a foreign string, once, where it enters.

    Runs of control characters and line separators become one space, invisible formatting is removed, half surrogate pairs become
    U+FFFD, and space at both ends goes. Cleaning twice changes nothing. The time depends on `limit`, not on the length of `text`.

    Args:
        text: what was sent. Bytes, such as a header value, are read as UTF-8 where they are that, else as ISO 8859-1 (RFC 9110
            section 5.5 leaves it open, and servers and clients send both).
        limit: how many characters may be kept.

    Returns:
        at most `limit` characters; None for None.
    """
    if text is None:
        return None
    text = _decoded(text, limit) if isinstance(text, bytes) else text[:limit]
    if not text.isprintable():  # no control, format or separator character, and no surrogate, is printable
        text = _SURROGATES.sub("\ufffd", _INVISIBLE.sub("", _BREAKS.sub(" ", text)))
    return text.strip()


def _decoded(data: bytes, limit: int) -> str:
    """The first `limit` characters of `data`."""
    if len(data) <= limit and data.isascii():
        return data.decode("ascii")
    head = data[: 4 * limit]  # UTF-8 takes up to four bytes for a character
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        cut = len(head) < len(data) and error.reason == "unexpected end of data"  # our own cut, inside a character
        text = head[: error.start].decode() if cut else head.decode("latin-1")
    return text[:limit]


def visible(text: object, keep: str = "") -> str:
    """`text` with each control and format character written out: `\\x1b`, `\\u202e`.

    Args:
        keep: characters that stay, `"\\n"` for a text of several lines.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(_escaped(char) if char not in keep and is_unseen(char) else char for char in text)


def is_unseen(char: str) -> bool:
    """Whether a character is a control or format character, half a surrogate pair, or a separator other than the space."""
    return not char.isprintable()


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode()
