"""A stored conversation as parts: tools, system blocks, texts, thinking, tool calls with their results, images, the answer. Pure.

The blocks come from `ledger.capture`, one per tool, system block and message; a message has one part per content block
(https://platform.claude.com/docs/en/api/messages). Whatever a client or a model wrote stays plain text here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from claude_proxy.ledger.capture.images import image_type

if TYPE_CHECKING:
    from claude_proxy.ledger.capture.reading import Block

MAX_DEPTH = 8  # of content inside content
_MODEL = ("assistant", "answer")  # roles of what the model said
_CALLS = ("tool_use", "server_tool_use", "mcp_tool_use")
_MARK = "cache_control"  # clients move it each turn; it is no part of what is said


class Kind(StrEnum):
    """What a part is; also the name of its share of the context."""

    TOOL = "tool"
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    THINKING = "thinking"
    CALL = "call"
    RESULT = "result"
    IMAGE = "image"
    DOCUMENT = "document"
    OTHER = "other"
    BODY = "body"  # of a request or an answer that has no blocks


_TEXTS = (Kind.USER, Kind.ASSISTANT, Kind.OTHER)  # of what a tool result contains


class Image(NamedTuple):
    """An image that came as base64.

    Attributes:
        media_type: by its first bytes; None for one that is not served.
        data: as it was sent.
    """

    media_type: str | None
    data: str

    @property
    def size(self) -> int:
        """Bytes of the image."""
        return len(self.data) * 3 // 4


@dataclass(slots=True, eq=False)
class Part:
    """One part of a conversation.

    Attributes:
        number: its place on the page, from 0; a result stands behind its call.
        message: index of the message, in the order they were sent; -1 for tools and system blocks.
        role: as the message names it; "answer" for what the model answered to this request.
        name: of the tool.
        text: all of it, readable.
        size: bytes of the text, or of the image as it was sent.
        key: equal for equal parts of two conversations, wherever their cache markers are.
        call: id that ties a call to its result.
        paired: whether a result stands behind its call.
        error: whether a result reports a failure.
    """

    kind: Kind
    role: str
    text: str
    size: int
    key: bytes
    number: int = 0
    message: int = -1
    name: str = ""
    call: str = ""
    image: Image | None = None
    paired: bool = False
    error: bool = False

    @property
    def asked(self) -> bool:
        """Whether it belongs to the request, and so fills the context."""
        return self.role != "answer"


def parts_of(blocks: Sequence[Block]) -> tuple[Part, ...]:
    """The parts of a transcript, in the order in which people read them."""
    found: list[Part] = []
    message = 0
    for block in blocks:
        found += _of_block(block, message)
        message += block.kind == "message"
    return tuple(_with(part, number=number) for number, part in enumerate(_paired(found)))


def _of_block(block: Block, message: int) -> Iterator[Part]:
    value = block.value() if block.kind in ("tool", "system", "message", "answer") else None
    if block.kind == "tool":
        yield _tool(value, block)
    elif block.kind == "system":
        text = _text(value) if isinstance(value, str | dict) else _decoded(block)
        yield _part(Kind.SYSTEM, "system", text, value)
    elif block.kind in ("message", "answer") and isinstance(value, dict):
        role = "answer" if block.kind == "answer" else str(value.get("role") or "?")
        for item in contents(value):
            yield from (_with(part, message=message) for part in _content(item, role))
    elif block.kind not in ("rest", "nothing"):
        role = "request" if block.kind in ("whole", "beginning", "message") else "answer"
        yield _with(_part(Kind.BODY, role, _decoded(block), None), message=message, name=block.kind)


def _tool(value: Any, block: Block) -> Part:
    value = value if isinstance(value, dict) else {}
    name = str(value.get("name") or value.get("type") or "?")
    part = _part(Kind.TOOL, "tools", _json(value) if value else _decoded(block), value)
    return _with(part, name=name, size=block.size)


def contents(value: Any) -> list[dict[str, Any]]:
    """The content of a message or a result as blocks; a string is one text block."""
    content = value.get("content") if isinstance(value, dict) else value
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        return []
    return [item if isinstance(item, dict) else {"type": "text", "text": str(item)} for item in content]


def _content(item: dict[str, Any], role: str, depth: int = 0) -> Iterator[Part]:
    kind = item.get("type")
    if kind == "text":
        yield _part(Kind.ASSISTANT if role in _MODEL else Kind.USER, role, _text(item), [role, _text(item)])
    elif kind == "thinking":
        yield _part(Kind.THINKING, role, str(item.get("thinking") or ""), item)
    elif kind in _CALLS:
        given = item.get("input")
        text = given if isinstance(given, str) else _json(given)
        size = len(text.encode("utf-8", "replace")) if isinstance(given, str) else len(_encoded(given))
        part = _part(Kind.CALL, role, text, item)
        yield _with(part, name=str(item.get("name") or "?"), call=str(item.get("id") or ""), size=size)
    elif isinstance(kind, str) and kind.endswith("tool_result") and depth < MAX_DEPTH:
        yield from _result(item, role, depth)
    elif kind == "image" or (isinstance(item.get("source"), dict) and kind == "document"):
        yield _source(item, role)
    else:
        yield _with(_part(Kind.OTHER, role, _json(item), item), name=str(kind or "?"))


def _result(item: dict[str, Any], role: str, depth: int) -> Iterator[Part]:
    """A result, and the images and documents in it."""
    inner = [part for one in contents(item) for part in _content(one, role, depth + 1)]
    texts = [part for part in inner if part.kind in _TEXTS]
    given = item.get("content")
    text = _json(given) if isinstance(given, dict) else "\n".join(one.text for one in texts)
    call = str(item.get("tool_use_id") or "")
    yield _with(_part(Kind.RESULT, role, text, item), call=call, error=item.get("is_error") is True)
    yield from (_with(part, call=call) for part in inner if part.kind not in _TEXTS)


def _source(item: dict[str, Any], role: str) -> Part:
    """An image or a document; its bytes stay as they came, and an address is shown and never followed."""
    kind = Kind.IMAGE if item.get("type") == "image" else Kind.DOCUMENT
    source = item.get("source")
    source = source if isinstance(source, dict) else {}
    data = source.get("data")
    if not isinstance(data, str):
        where = source.get("url") or source.get("file_id") or source.get("type") or "?"
        return _with(_part(kind, role, str(where), item), name=str(source.get("type") or "?"))
    if source.get("type") == "text":
        return _with(_part(kind, role, data, item), name=str(item.get("title") or "text"))
    image = Image(_image_type(data), data)
    part = _part(kind, role, "", item)
    return _with(part, name=image.media_type or str(source.get("media_type") or "?"), image=image, size=len(data))


def _image_type(data: str) -> str | None:
    try:
        return image_type(base64.b64decode(data[:32], validate=True))
    except (binascii.Error, ValueError):
        return None


def _paired(parts: list[Part]) -> Iterator[Part]:
    """The parts with each result, and what came with it, right behind its call."""
    results: dict[str, list[Part]] = {}
    calls = {part.call for part in parts if part.kind is Kind.CALL and part.call}
    for part in parts:
        if part.kind is not Kind.CALL and part.call in calls:
            results.setdefault(part.call, []).append(_with(part, paired=True))
    for part in parts:
        if part.kind is Kind.CALL:
            yield part
            found = results.pop(part.call, [])
            yield from (_with(one, name=one.name or part.name) for one in found)
        elif part.call not in calls:
            yield part


def _with(part: Part, **fields: Any) -> Part:
    """The part with other values; parts are changed only here, while they are made."""
    for name, value in fields.items():
        setattr(part, name, value)
    return part


def _part(kind: Kind, role: str, text: str, value: Any) -> Part:
    """A part whose size is that of its text.

    Args:
        value: what makes it equal to another one; by default its text.
    """
    said = _encoded(text if value is None else _unmarked(value))
    digest = hashlib.blake2b(said, digest_size=12, person=kind.value.encode()).digest()
    return Part(kind, role, text, len(text.encode("utf-8", "replace")), digest)


def _unmarked(value: Any, depth: int = 0) -> Any:
    """A block without its cache markers."""
    if isinstance(value, dict) and depth < MAX_DEPTH:
        deeper = {"content", "source"} & value.keys()
        return {key: _unmarked(one, depth + 1) if key in deeper else one for key, one in value.items() if key != _MARK}
    if isinstance(value, list) and depth < MAX_DEPTH:
        return [_unmarked(one, depth + 1) for one in value]
    return value


def _json(value: Any) -> str:
    """A value as readable JSON; in one line where it is nested too deeply to be laid out."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=2)
    except RecursionError:
        return _encoded(value).decode("utf-8", "replace")


def _encoded(value: Any) -> bytes:
    """A value as JSON; nothing for one that JSON decoders read and encoders do not write (nested too deeply, a huge number)."""
    try:
        return msgspec.json.encode(value)
    except (RecursionError, OverflowError, ValueError, TypeError):
        return b""


def _text(value: Any) -> str:
    return str(value.get("text") or "") if isinstance(value, dict) else str(value)


def _decoded(block: Block) -> str:
    return block.data.decode("utf-8", "replace")


# -- search

EXCERPT = 90  # characters on each side of a hit


class Hit(NamedTuple):
    """Where a text was found: the part, and what stands before, at and after its first place there.

    The three are empty where the text is not among what may be shown.
    """

    part: Part
    before: str
    found: str
    after: str


def search(parts: Sequence[Part], wanted: str, clean: Callable[[str], str], limit: int = 100) -> tuple[list[Hit], int]:
    """The parts that contain a text, whatever its case, and how many there are.

    Args:
        clean: makes what is shown safe. It is given whole texts: a credential is not recognised by a piece of it.
        limit: most hits that are returned.
    """
    hits: list[Hit] = []
    count = 0
    for part in parts:
        text = f"{part.name} {part.text}" if part.kind in (Kind.CALL, Kind.TOOL) else part.text
        if wanted.casefold() in text.casefold():
            count += 1
            if len(hits) < limit:
                hits.append(_hit(part, clean(text), wanted))
    return hits, count


def _hit(part: Part, text: str, wanted: str) -> Hit:
    folded = text.casefold()
    same = len(folded) == len(text)  # else a letter became two, and places differ
    at = folded.find(wanted.casefold()) if same else text.lower().find(wanted.lower())
    if at < 0:
        return Hit(part, "", "", "")
    end = at + len(wanted)
    pieces = (text[max(0, at - EXCERPT) : at], text[at:end], text[end : end + EXCERPT])
    before, found, after = (piece.replace("\n", " ") for piece in pieces)
    return Hit(part, before, found, after)
