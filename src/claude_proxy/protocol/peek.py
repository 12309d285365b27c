"""What a request says about itself before it is sent on: model, and whether it asks for a stream."""

from __future__ import annotations

import msgspec


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
    """Read a whole request body. A body that is not such JSON says nothing: judging it is the upstream's office."""
    try:
        request = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # the last: nested a thousand deep
        return NOTHING
    return Peek(request.model and request.model[:200], bool(request.stream))
