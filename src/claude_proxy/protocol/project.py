"""Finds the project name of a Claude Code session in the prompt, the only place that has it.

Claude Code (2.1.332) sends a message of the role `system` with a line "Primary working directory: /path". For models without that
role (Haiku 4.5, Sonnet 4.5) it sends the same as a reminder in the first message. Only the name of the folder is used, not its
path. Text of the user or of a tool is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from claude_proxy.cleaning import clean

MAX_NAME = 100  # characters
_MARK = b"Primary working directory: "
_LINE = re.compile(r"^[ *-]{0,8}Primary working directory: ([^\r\n]+)", re.MULTILINE)
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")


_REMINDER = "<system-reminder>\n# Environment\n"


class _Message(msgspec.Struct):
    role: str
    content: msgspec.Raw


class _Request(msgspec.Struct):
    messages: list[_Message]
    system: msgspec.Raw = msgspec.Raw()


class _Text(msgspec.Struct):
    text: str = ""


_decode = msgspec.json.Decoder(_Request).decode
_texts = msgspec.json.Decoder(str | list[_Text]).decode


def project_in(body: bytes) -> str | None:
    """Return the folder's name from an uncompressed Messages body; None if there is none.

    A body of 200 KB takes 10 us without that line, and 0.1 ms with it.
    """
    if _MARK not in body:
        return None
    try:
        request = _decode(body)
        for text in _told(request):
            found = _LINE.search(text)
            if found is not None:
                return folder_name(found[1])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    return None


def _told(request: _Request) -> Iterator[str]:
    """Yield the texts that Claude Code itself wrote."""
    for message in request.messages:
        if message.role == "system":
            yield from _read(message.content)
    yield from _read(request.system)
    for message in request.messages[:1]:
        yield from (text for text in _read(message.content) if text.startswith(_REMINDER))


def _read(content: msgspec.Raw) -> Iterator[str]:
    if _MARK not in bytes(content):
        return
    texts = _texts(content)
    if isinstance(texts, str):
        yield texts
    else:
        yield from (block.text for block in texts)


def folder_name(path: str) -> str | None:
    r"""Return the last part of a POSIX or Windows (`C:\...`, `\\host\...`) path; None for a root."""
    path = path.strip()
    if _WINDOWS.match(path):
        path = path.replace("\\", "/")
        path = path[2:] if path[1] == ":" else path
    return clean(path.rstrip("/").rpartition("/")[2], MAX_NAME) or None
