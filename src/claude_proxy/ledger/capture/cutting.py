"""Cuts a request body into raw slices (tools, system blocks, messages), and joins them again.

The slices come in the order in which the API builds the prompt (tools, system, messages) whatever the order in the body, so that
a conversation that grows is the same chain with a new tail. What is left of the body is its `Layout`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

PARTS = {"tools": "tool", "system": "system", "messages": "message"}
MAX_SLICES = 50_000
MAX_OBJECTS = 150_000  # in a body, by its closing braces: a list of millions would hold the interpreter's lock for a second
_BETWEEN = b" \t\r\n,"
_OPEN, _STRING = b'["'


class _Request(msgspec.Struct):
    tools: msgspec.Raw = msgspec.Raw()
    system: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()


class _Object(msgspec.Struct):
    """Any JSON object; its fields are not read."""


_fields = msgspec.json.Decoder(_Request).decode
_objects = msgspec.json.Decoder(list[_Object]).decode
_listed = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Slice(NamedTuple):
    """One tool, system block or message, as it was written."""

    kind: str
    data: bytes


class Hole(msgspec.Struct, array_like=True):
    """The place of a kind's slices in the body: the bytes before the first, between two, and after the last."""

    kind: str
    lead: bytes
    between: bytes
    trail: bytes


class Layout(msgspec.Struct, array_like=True):
    """A body without its slices: the bytes around the holes, one piece more than there are holes."""

    around: list[bytes]
    holes: list[Hole]

    def body(self, slices: Mapping[str, Sequence[bytes]]) -> bytes:
        """The body with these slices, by kind."""
        parts = [self.around[0]]
        for hole, after in zip(self.holes, self.around[1:], strict=True):
            parts += (hole.lead, hole.between.join(slices.get(hole.kind, ())), hole.trail, after)
        return b"".join(parts)

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)


def decode_layout(data: bytes) -> Layout:
    """The layout that `encode` wrote.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    layout = msgspec.msgpack.decode(data, type=Layout)
    if len(layout.around) != len(layout.holes) + 1:
        raise msgspec.ValidationError("a layout has one piece more than holes")
    return layout


def cut(body: bytes) -> tuple[list[Slice], Layout] | None:
    """Cut a body; None if joining the result would not give the same bytes. Such a body is stored whole."""
    try:
        found = _cut(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    if found is None:
        return None
    slices, layout = found
    by_kind: dict[str, list[bytes]] = {}
    for piece in slices:
        by_kind.setdefault(piece.kind, []).append(piece.data)
    return found if layout.body(by_kind) == body else None


def _cut(body: bytes) -> tuple[list[Slice], Layout] | None:
    if body.count(b"}") > MAX_OBJECTS:
        return None
    fields = _fields(body)
    slices: list[Slice] = []
    holes: list[tuple[int, int, Hole]] = []
    for name, kind in PARTS.items():
        value = bytes(getattr(fields, name))
        taken = _take(kind, value)
        if taken is None:
            continue
        at = body.find(value)
        hole, items = taken
        holes.append((at, at + len(value), hole))
        slices += [Slice(kind, item) for item in items]
    if not slices or len(slices) > MAX_SLICES:
        return None
    return slices, _layout(body, sorted(holes, key=lambda hole: hole[0]))


def _layout(body: bytes, holes: list[tuple[int, int, Hole]]) -> Layout:
    around, done = [], 0
    for start, end, _ in holes:
        around.append(body[done:start])
        done = end
    return Layout([*around, body[done:]], [hole for _, _, hole in holes])


def _take(kind: str, value: bytes) -> tuple[Hole, list[bytes]] | None:
    """The items of a part, if there are any, and the bytes between them."""
    if not value or value[0] not in (_OPEN, _STRING):
        return None
    if value[0] == _STRING:
        return Hole(kind, b"", b"", b""), [value]
    _objects(value)  # anything else is not a prompt, and could have very many items
    items = [bytes(item) for item in _listed(value)]
    if not items:
        return None
    start = value.find(items[0], 1)
    end = start + len(items[0])
    between = value[end : value.find(items[1], end)] if len(items) > 1 else b","  # as the next request will contain it
    trail = len(value.rstrip(b"]").rstrip(_BETWEEN))
    return Hole(kind, value[:start], between, value[trail:]), items
