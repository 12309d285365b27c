"""Assembles a streamed answer to the message that an unstreamed call would have returned.

The events and their deltas are those of https://platform.claude.com/docs/en/build-with-claude/streaming. Streamed
pieces are joined before they are redacted, because a credential may be split between two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from claude_proxy.ledger.capture.options import MAX_BODY
from claude_proxy.protocol.sse import Event, Splitter, parse

_decode = msgspec.json.Decoder().decode
# By a delta's type: the field of the block that it adds text to, its own field with that text, and the type of such blocks.
_TEXTS = {
    "text_delta": ("text", "text", "text"),
    "thinking_delta": ("thinking", "thinking", "thinking"),
    "signature_delta": ("signature", "signature", "thinking"),
    "input_json_delta": ("input", "partial_json", "tool_use"),
}
_NO_TEXT = ("", "", "")
MAX_BLOCKS = 100_000


class Answer:
    """A message that grows with each event.

    Attributes:
        errors: the data of error events, as they came.
        stopped: whether `message_stop` came.
    """

    def __init__(self) -> None:
        self._message: dict[str, Any] | None = None
        self._blocks: dict[int, dict[str, Any]] = {}
        self._texts: dict[tuple[int, str], list[str]] = {}
        self.errors: list[bytes] = []
        self.stopped = False

    def feed(self, event: Event) -> None:
        """Take the next event. Anything but a JSON object of a known type is skipped."""
        try:
            data = _decode(event.data)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            if event.name == "error":
                self.errors.append(event.data)
            return
        if not isinstance(data, dict):
            return
        kind = event.name if event.name != "message" else data.get("type")
        if kind == "error" or (kind not in _KNOWN and ("error" in data or "code" in data)):
            self.errors.append(event.data)
        elif isinstance(kind, str) and kind in _KNOWN:
            _KNOWN[kind](self, data)

    def message(self) -> dict[str, Any] | None:
        """The message as far as it came; None if it did not begin."""
        if self._message is None and not self._blocks:
            return None
        for (index, field), texts in self._texts.items():
            block, text = self._blocks[index], "".join(texts)
            if field == "input":
                block[field] = _input(text)
            else:
                before = block.get(field)
                block[field] = (before if isinstance(before, str) else "") + text
        self._texts = {}
        blocks = [self._blocks[index] for index in sorted(self._blocks)]
        begun = self._message or {}
        given = begun.get("content")
        return {**begun, "content": blocks or (given if isinstance(given, list) else [])}

    def _start(self, data: dict[str, Any]) -> None:
        message = data.get("message")
        self._message = message if isinstance(message, dict) else {}

    def _block_start(self, data: dict[str, Any]) -> None:
        index, block = data.get("index"), data.get("content_block")
        if isinstance(index, int) and isinstance(block, dict) and len(self._blocks) < MAX_BLOCKS:
            self._blocks[index] = block

    def _block_delta(self, data: dict[str, Any]) -> None:
        index, delta = data.get("index"), data.get("delta")
        if not isinstance(index, int) or not isinstance(delta, dict) or len(self._blocks) >= MAX_BLOCKS:
            return
        kind = delta.get("type")
        field, source, block_type = _TEXTS.get(kind, _NO_TEXT) if isinstance(kind, str) else _NO_TEXT
        block = self._blocks.setdefault(index, {"type": block_type} if block_type else {})
        if field and isinstance(delta.get(source), str):
            self._texts.setdefault((index, field), []).append(delta[source])
        elif kind == "citations_delta":
            _append(block, "citations", delta.get("citation"))
        else:
            _append(block, "deltas", delta)

    def _delta(self, data: dict[str, Any]) -> None:
        message = self._message = self._message or {}
        delta, usage = data.get("delta"), data.get("usage")
        if isinstance(delta, dict):
            message.update(delta)
        if isinstance(usage, dict):
            before = message.get("usage")
            merged = message["usage"] = dict(before) if isinstance(before, dict) else {}
            merged.update({key: value for key, value in usage.items() if value or not merged.get(key)})

    def _stop(self, _: dict[str, Any]) -> None:
        self.stopped = True

    def _nothing(self, _: dict[str, Any]) -> None:
        pass


_KNOWN = {
    "message_start": Answer._start,
    "content_block_start": Answer._block_start,
    "content_block_delta": Answer._block_delta,
    "content_block_stop": Answer._nothing,
    "message_delta": Answer._delta,
    "message_stop": Answer._stop,
    "ping": Answer._nothing,
}


def events(pieces: Iterable[bytes]) -> Iterator[Event]:
    """The events of a stream that comes in pieces, including an unfinished last one."""
    splitter = Splitter(MAX_BODY)
    for piece in pieces:
        whole = splitter.feed(piece)
        if whole:
            yield from parse(whole)
    yield from parse(splitter.so_far())


def _append(block: dict[str, Any], field: str, value: object) -> None:
    if not isinstance(block.get(field), list):
        block[field] = []
    block[field].append(value)


def _input(text: str) -> object:
    """A tool's input from its pieces; as text if it is incomplete."""
    try:
        return _decode(text) if text else {}
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text
