"""Puts another model name into a request body and leaves every other byte as it is."""

from __future__ import annotations

import json
import re

import msgspec

MAX_MEMBERS = 1000  # of the outermost object; a Messages request has about twenty
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SPACE = re.compile(rb"[ \t\r\n]*")


class _Key:
    """A member's name. Unlike a str, two equal ones are two keys, so that a dict keeps both of two equal members."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


def remap(body: bytes, target: str) -> bytes:
    """Return `body` with `target` as the value of the outermost object's `model`.

    Parsers differ in which of several equal keys they use (RFC 8259 section 4), so every outermost `model` gets the new value.
    A body without one, or that is not a JSON object, is returned unchanged: judging it is up to the upstream.

    Args:
        body: a whole request body.
        target: the name to send.
    """
    value = json.dumps(target).encode()
    parts, at = list[bytes](), 0
    for start, end in model_spans(body):
        parts += body[at:start], value
        at = end
    return b"".join((*parts, body[at:])) if parts else body


def model_spans(body: bytes) -> list[tuple[int, int]]:
    """Return where the values of the outermost object's `model` are, as start and end in `body`, in order.

    msgspec checks the body and tells how long each value is, so that only the names are scanned here.
    """
    members = _members(body)
    spans, at = list[tuple[int, int]](), _after_space(body, 0) + 1  # behind the opening brace
    for key, value in members:
        name = _STRING.match(body, _after_space(body, at))
        assert name is not None
        start = _after_space(body, _after_space(body, name.end()) + 1)  # behind the colon
        end = start + memoryview(value).nbytes
        if key.name == "model":
            spans.append((start, end))
        at = _after_space(body, end) + 1  # behind the comma
    return spans


def _members(body: bytes) -> list[tuple[_Key, msgspec.Raw]]:
    count = 0

    def make_key(_: type[_Key], name: str) -> _Key:
        nonlocal count
        count += 1
        if count > MAX_MEMBERS:
            raise ValueError("too many members")
        return _Key(name)

    try:
        return list(msgspec.json.decode(body, type=dict[_Key, msgspec.Raw], dec_hook=make_key).items())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # the last: nested a thousand deep
        return []


def _after_space(body: bytes, at: int) -> int:
    space = _SPACE.match(body, at)
    assert space is not None
    return space.end()
