"""A captured request as JSON and as a command that sends it again: safe to print, without a credential."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from claude_proxy.cleaning import is_unseen, visible
from claude_proxy.ledger.capture.redacting import Redactor

if TYPE_CHECKING:
    from claude_proxy.ledger.capture.reading import Transcript

DEFAULT_URL = "http://127.0.0.1:3000/api/anthropic"
_redact = Redactor().text


def json_visible(text: str) -> str:
    """Escape invisible and control characters as JSON does, so that the value stays the same and the terminal is safe."""
    if text.isprintable():
        return text
    unseen = {char for char in set(text) if char not in "\n\t" and is_unseen(char)}
    return text.translate({ord(char): _escaped(char) for char in unseen}) if unseen else text


def _escaped(char: str) -> str:
    return "".join(f"\\u{unit:04x}" for unit in _utf16(char))


def _utf16(char: str) -> Iterable[int]:
    data = char.encode("utf-16-be", "surrogatepass")
    return (int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2))


def request_text(found: Transcript) -> str | None:
    """Return the request's JSON, redacted again after decoding; None where no request can be decoded."""
    request = found.request
    return None if request is None else _redact(request.decode("utf-8", "replace"))


def curl_command(found: Transcript, body: str) -> str:
    """Return a shell command that repeats the request. The body is its standard input, because an argument has a size limit."""
    bearer = found.note.credential == "authorization"
    credential = "authorization: Bearer $ANTHROPIC_AUTH_TOKEN" if bearer else "x-api-key: $ANTHROPIC_API_KEY"
    mark = "BODY"
    while mark in body:
        mark += "_"
    options = [f'-H "{credential}"', *(f"-H {_quoted(f'{name}: {value}')}" for name, value in found.note.headers)]
    command = [f'curl -N "${{ANTHROPIC_BASE_URL:-{DEFAULT_URL}}}/v1/messages"', *options, f"--data-binary @- <<'{mark}'"]
    return " \\\n  ".join(command) + f"\n{json_visible(body)}\n{mark}"


def _quoted(text: str) -> str:
    return "'" + visible(_redact(text)).replace("'", "'\\''") + "'"
