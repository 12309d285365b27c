"""What a request says about itself before it is sent on: its model, and whether it asks for a stream."""

from __future__ import annotations

import re

import msgspec

PREFIX = 64 * 1024  # bytes of a body that was not kept whole in which model and stream are looked for
_QUOTED = re.compile(rb'"(model|stream)"\s{0,16}:\s{0,16}("[^"\\]{1,200}"|true|false)')
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STEP = re.compile(rb'["{}\[\]]')


class _Request(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None


class Peek(msgspec.Struct, frozen=True):
    """The model a request names, and whether it asks for a stream; None and False where it does not say."""

    model: str | None = None
    stream: bool = False


_decode = msgspec.json.Decoder(_Request).decode
NOTHING = Peek()


def peek(body: bytes) -> Peek:
    """Read a whole request body. One that is not such JSON says nothing: to judge it is up to the upstream."""
    try:
        request = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # the last: nested a thousand deep
        return NOTHING
    return Peek(request.model and request.model[:200], bool(request.stream))


def peek_prefix(prefix: bytes) -> Peek:
    """Read the beginning of a body that is too large to be kept: of `model` and `stream`, what stands there.

    Only members of the outermost object count, so nesting and strings are followed, up to `PREFIX` bytes.
    """
    prefix = prefix[:PREFIX]
    found: dict[bytes, bytes] = {}
    depth, at = 0, 0
    while len(found) < 2 and (step := _STEP.search(prefix, at)) is not None:
        at = step.end()
        mark = step[0]
        if mark == b'"':
            member = _QUOTED.match(prefix, step.start()) if depth == 1 else None
            if member is not None:
                found.setdefault(member[1], member[2])
                at = member.end()
            elif (string := _STRING.match(prefix, at - 1)) is not None:
                at = string.end()
            else:
                break  # the prefix ends inside it
        else:
            depth += 1 if mark in b"{[" else -1
    model = found.get(b"model", b"")
    return Peek(model[1:-1].decode("utf-8", "replace") if model[:1] == b'"' else None, found.get(b"stream") == b"true")
