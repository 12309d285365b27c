"""Prints a captured conversation: for people, as the request's JSON, or as a curl command.

Its content is not trusted: it is redacted again after the JSON has been decoded, and control characters are escaped.
"""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import typer

from claude_proxy import ids
from claude_proxy.cleaning import visible
from claude_proxy.cli.figures import size
from claude_proxy.cli.output import say
from claude_proxy.ledger.capture.images import image_type
from claude_proxy.ledger.capture.preparing import ANSWER, WHOLE
from claude_proxy.ledger.capture.reading import Block, Conversations, NoConversations, Transcript
from claude_proxy.ledger.capture.redacting import Redactor
from claude_proxy.ledger.capture.repeating import curl_command, json_visible, request_text

FOLDED = 100  # most characters of a system block that are printed
_redact = Redactor().text


def print_conversation(
    exchange: str | int, data_dir: Path, *, raw: bool = False, curl: bool = False, where: tzinfo = UTC
) -> None:
    """Print the conversation that an exchange sent, and the answer.

    Args:
        exchange: its id, as people type it or as a number.
        data_dir: where the proxy keeps its files.
        raw: print the request's JSON instead, so that `jq` can read it.
        curl: print a curl command instead that repeats the request, with the credential from the environment.
        where: the time zone of the time that is shown.

    Raises:
        typer.Exit: with 1, after a sentence that says why there is nothing to print.
    """
    try:
        number = ids.decode(exchange) if isinstance(exchange, str) else exchange
        with Conversations.open(data_dir) as conversations:
            found = conversations.transcript(number)
    except (ValueError, NoConversations) as error:
        say(str(error), err=True)
        raise typer.Exit(1) from None
    if found is None:
        say(f"No conversation is stored for {ids.encode(number)}: CAPTURE was off, or it has been deleted since.", err=True)
        raise typer.Exit(1)
    if raw or curl:
        _print_request(found, curl=curl)
        return
    for line in lines(found, where):
        say(line)


def _print_request(found: Transcript, *, curl: bool) -> None:
    text = request_text(found)
    if text is None:
        say("The request's body cannot be decoded: its content coding is not supported.", err=True)
        raise typer.Exit(1)
    typer.echo(curl_command(found, text) if curl else json_visible(text))


# -- for people


def lines(found: Transcript, where: tzinfo = UTC) -> Iterator[str]:
    """Yield the lines of the readable form."""
    yield from _head(found, where)
    yield from _folded("Tools", found.of("tool"), _tool)
    yield from _folded("System", found.of("system"), _system)
    for block in found.of("whole", "beginning"):
        what = "The request (not valid JSON)" if block.kind == WHOLE else "The beginning of the request"
        yield from ("", f"── {what}, {size(block.size)} ──", _text(block.data.decode("utf-8", "replace")))
    messages = [block.value() for block in found.of("message")]
    answers = [block for block in found.answer if block.kind == ANSWER]
    values = [*messages, *(block.value() for block in answers)]
    yield from _Messages(values, answered=len(answers), complete=found.note.complete).lines()
    for block in found.answer:
        if block.kind != ANSWER:
            yield from ("", f"── {block.kind}, {size(block.size)} ──", _text(block.data.decode("utf-8", "replace")))
    if not found.answer:
        yield from ("", "── no answer ──")


def _head(found: Transcript, where: tzinfo) -> Iterator[str]:
    note = found.note
    started = datetime.fromtimestamp(ids.milliseconds(found.number) // 1000, where)
    parts = [found.id, started.isoformat(" "), note.model, str(note.status or "no status"), note.outcome]
    yield _text("  ".join(part for part in parts if part))
    if note.failure:
        yield _text(f"failed: {note.failure}")
    if not found.sound:
        yield "The stored conversation is damaged: parts of it may be missing or wrong."


def _folded(title: str, blocks: tuple[Block, ...], describe: Any) -> Iterator[str]:
    if not blocks:
        return
    yield from ("", f"── {title}: {len(blocks)}, {size(sum(block.size for block in blocks))} ──")
    for block in blocks:
        yield f"  {_text(describe(block.value()))} ({size(block.size)})"


def _tool(value: Any) -> str:
    return str(value.get("name") or value.get("type") or "?") if isinstance(value, dict) else "?"


def _system(value: Any) -> str:
    text = value.get("text") if isinstance(value, dict) else value
    text = " ".join(str(text).split())
    return text if len(text) <= FOLDED else text[:FOLDED] + "…"


class _Messages:
    """Prints messages, with the result of each tool call below the call.

    Args:
        values: the messages in order, the answer last.
        answered: how many of them belong to the answer.
        complete: whether the answer is complete.
    """

    def __init__(self, values: list[Any], *, answered: int, complete: bool) -> None:
        self._values = values
        self._first_answer = len(values) - answered
        self._complete = complete
        self._results: dict[str, Any] = {}
        self._calls: set[str] = set()
        for value in values:
            for block in _blocks(value):
                if block.get("type") == "tool_result" and isinstance(block.get("tool_use_id"), str):
                    self._results.setdefault(block["tool_use_id"], block)
                elif isinstance(block.get("id"), str):
                    self._calls.add(block["id"])

    def lines(self) -> Iterator[str]:
        for index, value in enumerate(self._values):
            body = [line for block in _blocks(value) for line in self._block(block)]
            role = value.get("role") if isinstance(value, dict) else None
            if index >= self._first_answer:
                role = "answer" if self._complete else "answer, incomplete"
            elif not body:
                continue  # it has only results, which are printed below their calls
            yield from ("", f"── {_text(str(role or '?'))} ──", *(body or ["(empty)"]))
            if index >= self._first_answer and isinstance(value, dict) and value.get("stop_reason"):
                yield _text(f"[{value['stop_reason']}]")

    def _block(self, block: dict[str, Any]) -> Iterator[str]:
        kind = block.get("type")
        if kind == "text":
            yield _text(str(block.get("text", "")))
        elif kind == "thinking":
            yield _indented("thinking: ", str(block.get("thinking", "")))
        elif kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
            yield _indented(f"→ {block.get('name')} ", _compact(block.get("input")))
            result = self._results.get(str(block.get("id")))
            if result is not None:
                yield from self._result(result)
        elif kind == "tool_result":
            if block.get("tool_use_id") not in self._calls:
                yield from self._result(block)
        else:
            yield f"[{_text(str(kind or 'block'))}{_described(block)}]"

    def _result(self, block: dict[str, Any]) -> Iterator[str]:
        mark = "← error: " if block.get("is_error") else "← "
        inner = [line for part in _blocks(block) for line in self._plain(part)]
        yield _indented(mark, "\n".join(inner), clean=True)

    def _plain(self, block: dict[str, Any]) -> Iterator[str]:
        """A block of a result, which cannot contain calls."""
        if block.get("type") == "text":
            yield _text(str(block.get("text", "")))
        else:
            yield f"[{_text(str(block.get('type') or 'block'))}{_described(block)}]"


def _blocks(value: Any) -> list[dict[str, Any]]:
    """Return the content of a message or a result as blocks; a string becomes one text block."""
    content = value.get("content") if isinstance(value, dict) else value
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        return []
    return [block if isinstance(block, dict) else {"type": "text", "text": str(block)} for block in content]


def _described(block: dict[str, Any]) -> str:
    """Describe a block that is not printed by type and size. The type of an image is read from its data."""
    source = block.get("source")
    if not isinstance(source, dict):
        return f", {size(len(json.dumps(block)))}"
    data = source.get("data")
    if not isinstance(data, str):
        return f" from {_text(str(source.get('url') or source.get('file_id') or source.get('type')))}"
    known = _image_type(data) if source.get("type") == "base64" else None
    return f" {known or _text(str(source.get('media_type')))}, {size(len(data) * 3 // 4)}"


def _image_type(data: str) -> str | None:
    try:
        return image_type(base64.b64decode(data[:32], validate=True))
    except (binascii.Error, ValueError):
        return None


def _indented(mark: str, text: str, *, clean: bool = False) -> str:
    inner = text if clean else _text(text)
    return _text(mark) + inner.replace("\n", "\n    ")


def _compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(text: str) -> str:
    return visible(_redact(text), keep="\n\t")


if __name__ == "__main__":
    print_conversation(sys.argv[1], Path(sys.argv[2]), raw="--raw" in sys.argv, curl="--curl" in sys.argv)
