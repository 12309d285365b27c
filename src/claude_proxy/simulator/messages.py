"""Answers of the Messages API: the content blocks for a request, as JSON or as a stream of events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from .answer import SERIAL, Answer, error_answer
from .dialogue import Message, Tool, call_of, last_request, tool_results, wanted_calls
from .scenario import Scenario, ToolCall, Usage

IMAGE_TOKENS = 1500
CHARACTERS_PER_TOKEN = 4
QUOTED = 2000
"""Characters of a tool's result or of the user's text that an answer quotes."""

HELD_ANSWERS = 256

Block = dict[str, Any]
Key = tuple[int, str, bool, int, str]
"""The scenario's identity, the model, whether it streams, input tokens, text."""
Made = tuple[Scenario, Answer]
"""Stored with its scenario, so that the id in the key is not reused."""


class MessagesRequest(msgspec.Struct):
    """The fields of a Messages request that an answer depends on; the long ones stay undecoded."""

    model: str
    messages: msgspec.Raw
    stream: bool | None = False
    system: msgspec.Raw = msgspec.Raw(b"")
    tools: msgspec.Raw = msgspec.Raw(b"")
    tool_choice: dict[str, Any] | None = None

    def conversation(self) -> list[Message]:
        """Decode the messages. Raises msgspec.ValidationError."""
        return msgspec.json.decode(self.messages, type=list[Message])

    def offered(self) -> list[Tool]:
        """Decode the tools that can be called. Raises msgspec.ValidationError."""
        offered = msgspec.json.decode(self.tools, type=list[Tool] | None) if self.tools else None
        return [tool for tool in offered or () if tool.name and tool.input_schema]


def parse(body: bytes) -> MessagesRequest:
    """Decode a request body. Raises msgspec.DecodeError (ValidationError is one)."""
    return msgspec.json.decode(body, type=MessagesRequest)


def input_tokens(request: MessagesRequest) -> int:
    """Count the tokens of a request deterministically: a quarter of its bytes, and a fixed number per image."""
    size = len(bytes(request.system)) + len(bytes(request.messages)) + len(bytes(request.tools))
    images = 0
    if b'"image"' in bytes(request.messages):
        for source in _images(request.conversation()):
            images += 1
            size -= len(str(source.get("data", "")))
    return max(1, size // CHARACTERS_PER_TOKEN) + images * IMAGE_TOKENS


def _images(messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
    for message in messages:
        for block in message.blocks:
            inner = block.get("content") if block.get("type") == "tool_result" else None
            for candidate in (block, *(inner if isinstance(inner, list) else ())):
                if isinstance(candidate, dict) and candidate.get("type") == "image":
                    yield candidate.get("source") or {}


def answer(request: MessagesRequest, scenario: Scenario, made: dict[Key, Made] | None = None) -> Answer:
    """Return the answer to a Messages request, streamed or not as it asks.

    ``made`` caches answers that depend only on their key.
    """
    try:
        calls = _calls(request, scenario) if scenario.kind in ("auto", "tool", "tools") else ()
        text = "" if calls else _text(request, scenario)
        tokens = 0 if scenario.usage else input_tokens(request)
    except msgspec.ValidationError as problem:
        return error_answer(400, f"messages: {problem}")
    if calls or made is None:
        return _made(request, scenario, _blocks(scenario, calls, text), tokens)
    key = (id(scenario), request.model, bool(request.stream), tokens, text)
    held = made.get(key)
    if held is None:
        if len(made) >= HELD_ANSWERS:
            made.clear()
        held = made[key] = (scenario, _made(request, scenario, _blocks(scenario, calls, text), tokens))
    return held[1]


def _made(request: MessagesRequest, scenario: Scenario, blocks: list[Block], tokens: int) -> Answer:
    usage = scenario.usage or Usage(tokens, _output_tokens(blocks))
    reason = scenario.stop_reason or ("tool_use" if blocks[-1]["type"] == "tool_use" else "end_turn")
    if request.stream:
        return _stream(request.model, blocks, reason, usage, scenario)
    message = _message(request.model, blocks, usage, reason)
    return Answer(200, (msgspec.json.encode(message),), reports=((0, usage),))


def count_tokens(request: MessagesRequest, scenario: Scenario) -> Answer:
    """Return the answer of ``count_tokens``: the same count that a message would report."""
    try:
        tokens = scenario.usage.input_tokens if scenario.usage else input_tokens(request)
    except msgspec.ValidationError as problem:
        return error_answer(400, f"messages: {problem}")
    return Answer(200, (msgspec.json.encode({"input_tokens": tokens}),))


def _blocks(scenario: Scenario, calls: Sequence[ToolCall], text: str) -> list[Block]:
    if calls:
        opening = [_text_block(scenario.text)] if scenario.text else []
        return opening + [_tool_block(call, number) for number, call in enumerate(calls)]
    thinking = {"type": "thinking", "thinking": scenario.thinking, "signature": "c2ltdWxhdGVk"}
    return [*([thinking] if scenario.kind == "thinking" else ()), _text_block(text)]


def _calls(request: MessagesRequest, scenario: Scenario) -> Sequence[ToolCall]:
    if not request.tools and not scenario.tools:
        return ()
    conversation, offered = request.conversation(), request.offered()
    if scenario.kind == "auto":
        return _forced(request, offered) or wanted_calls(conversation, offered)
    if tool_results(conversation):
        return ()
    calls = scenario.tools or [call_of(tool) for tool in offered]
    return calls[:1] if scenario.kind == "tool" else calls[: max(2, len(scenario.tools))]


def _forced(request: MessagesRequest, offered: Sequence[Tool]) -> list[ToolCall]:
    choice = request.tool_choice or {}
    if choice.get("type") not in ("tool", "any"):
        return []
    wanted = [tool for tool in offered if choice["type"] == "any" or tool.name == choice.get("name")]
    return [call_of(tool) for tool in wanted[:1]]


def _text(request: MessagesRequest, scenario: Scenario) -> str:
    if scenario.text is not None and scenario.kind not in ("tool", "tools"):
        return scenario.text
    conversation = request.conversation()
    if results := tool_results(conversation):
        return "Done. The tools said:\n" + "\n".join(result[:QUOTED] for result in results)
    asked = last_request(conversation)[0][:QUOTED]
    images = sum(1 for _ in _images(conversation[-1:]))
    seen = f" with {images} image{'s' * (images > 1)}" if images else ""
    return f"This is a simulated answer{seen}. You said: {asked}" if asked or seen else "This is a simulated answer."


def _text_block(text: str) -> Block:
    return {"type": "text", "text": text}


def _tool_block(call: ToolCall, number: int) -> Block:
    return {
        "type": "tool_use",
        "id": f"toolu_{SERIAL.decode()}_{number}",
        "name": call.name,
        "input": dict(call.input),
    }


def _output_tokens(blocks: list[Block]) -> int:
    size = 0
    for block in blocks:
        size += len(block.get("text", "")) + len(block.get("thinking", ""))
        size += len(msgspec.json.encode(block["input"])) if "input" in block else 0
    return max(1, size // CHARACTERS_PER_TOKEN)


def _message(model: str, blocks: list[Block], usage: Usage, stop_reason: str | None) -> dict[str, Any]:
    return {
        "id": "msg_" + SERIAL.decode(),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": blocks,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": usage.wire(),
    }


def event(name: str, data: dict[str, Any]) -> bytes:
    """Return one SSE frame; its data gets the name as ``type``, as every event of the API has it."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode({"type": name, **data}))


def _stream(model: str, blocks: list[Block], reason: str, usage: Usage, scenario: Scenario) -> Answer:
    first = Usage() if scenario.zero_start else replace(usage, output_tokens=1)
    parts = [event("message_start", {"message": _message(model, [], first, None)})]
    for index, block in enumerate(blocks):
        parts.extend(_block_events(index, block, scenario.deltas))
    parts.insert(2, event("ping", {}))
    final = usage.wire()
    final.pop("service_tier")
    delta = {"delta": {"stop_reason": reason, "stop_sequence": None}, "usage": final}
    parts.append(event("message_delta", delta))
    reports = ((0, first), (len(parts) - 1, usage))
    parts.append(event("message_stop", {}))
    return Answer(200, tuple(parts), "text/event-stream; charset=utf-8", stream=True, reports=reports)


def _block_events(index: int, block: Block, deltas: int) -> Iterator[bytes]:
    empty: Block
    pieces: list[dict[str, str]]
    if block["type"] == "tool_use":
        encoded = msgspec.json.encode(block["input"]).decode()
        empty = {**block, "input": {}}
        pieces = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *_pieces(encoded, 4))]
    elif block["type"] == "thinking":
        empty = {"type": "thinking", "thinking": "", "signature": ""}
        pieces = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block["thinking"], 4)]
        pieces.append({"type": "signature_delta", "signature": block["signature"]})
    else:
        empty = {"type": "text", "text": ""}
        pieces = [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"], deltas)]
    yield event("content_block_start", {"index": index, "content_block": empty})
    for piece in pieces:
        yield event("content_block_delta", {"index": index, "delta": piece})
    yield event("content_block_stop", {"index": index})


def _pieces(text: str, count: int) -> list[str]:
    """Cut a text into exactly this many pieces; the last ones of a short text are empty."""
    size = max(1, -(-len(text) // max(1, count)))
    return [text[at * size : (at + 1) * size] for at in range(max(1, count))]
