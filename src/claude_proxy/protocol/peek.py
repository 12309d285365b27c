"""Reads the model of a request, and whether it asks for a stream, before it is forwarded."""

from __future__ import annotations

import re

import msgspec

PREFIX = 64 * 1024  # bytes searched for model and stream if the body is not kept completely
_QUOTED = re.compile(rb'"(model|stream)"\s{0,16}:\s{0,16}("[^"\\]{1,200}"|true|false)')
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STEP = re.compile(rb'["{}\[\]]')


class _Request(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None


class Peek(msgspec.Struct, frozen=True):
    """The model that a request names, or None, and whether it asks for a stream."""

    model: str | None = None
    stream: bool = False


_decode = msgspec.json.Decoder(_Request).decode
NOTHING = Peek()


def peek(body: bytes) -> Peek:
    """Read a complete request body. Invalid JSON gives `NOTHING`; rejecting it is up to the upstream."""
    try:
        request = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # RecursionError: nested a thousand levels deep
        return NOTHING
    return Peek(request.model and request.model[:200], bool(request.stream))


def peek_prefix(prefix: bytes) -> Peek:
    """Read `model` and `stream` if they are in the first `PREFIX` bytes of a body that is too large to be kept.

    Only members of the outermost object count, so this keeps track of nesting and strings.
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
                break  # the prefix ends within this string
        else:
            depth += 1 if mark in b"{[" else -1
    model = found.get(b"model", b"")
    return Peek(model[1:-1].decode("utf-8", "replace") if model[:1] == b'"' else None, found.get(b"stream") == b"true")
