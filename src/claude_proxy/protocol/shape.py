"""What the body of a Messages request shows of its purpose: how many tools it offers, whether a subagent sends it.

Read only for requests of Claude Code that carry no hint headers; see `routing/classes.py`.
"""

from __future__ import annotations

from typing import Any

import msgspec

_SUBAGENT = b"cc_is_subagent=true"  # in the first system block (docs/facts.md, "Claude Code")


class _OutputConfig(msgspec.Struct):
    format: Any = None


class _Body(msgspec.Struct):
    stream: bool | None = None
    max_tokens: int | None = None
    tools: list[msgspec.Raw] | None = None
    system: list[msgspec.Raw] | str | None = None
    output_config: _OutputConfig | None = None
    output_format: Any = None


class Shape(msgspec.Struct, frozen=True):
    """What a body shows.

    Attributes:
        tools: how many are offered.
        schema: whether the answer has to follow a JSON schema.
        subagent: whether Claude Code's attribution block says that a subagent asks.
    """

    stream: bool = False
    max_tokens: int | None = None
    tools: int = 0
    schema: bool = False
    subagent: bool = False


_decode = msgspec.json.Decoder(_Body).decode


def read_shape(body: bytes) -> Shape | None:
    """Read a whole request body; None if it is not such JSON."""
    try:
        seen = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # the last: nested a thousand deep
        return None
    first = bytes(seen.system[0]) if isinstance(seen.system, list) and seen.system else b""
    schema = seen.output_format is not None or (seen.output_config is not None and seen.output_config.format is not None)
    return Shape(bool(seen.stream), seen.max_tokens, len(seen.tools or ()), schema, _SUBAGENT in first)
