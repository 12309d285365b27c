"""Conversations for the page: bodies of a coding session, sent through a proxy that captures."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from claude_proxy.simulator import Scenario, Simulator
from tests.integration.messages import JSON, MESSAGES
from tests.integration.proxy import RunningProxy
from tests.integration.wire import Header, ask
from tests.ledger.waiting import until

Json = dict[str, Any]
SYSTEM = [{"type": "text", "text": "You are a coding agent. " * 40, "cache_control": {"type": "ephemeral"}}]


def tool(name: str, about: str = "Runs something and returns what it printed.") -> Json:
    """A tool's definition."""
    schema = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
    return {"name": name, "description": about, "input_schema": schema}


def user(*content: Json | str) -> Json:
    """A message of the user."""
    return {"role": "user", "content": [{"type": "text", "text": one} if isinstance(one, str) else one for one in content]}


def assistant(*content: Json | str) -> Json:
    """A message of the model."""
    return {**user(*content), "role": "assistant"}


def call(id: str, name: str = "Bash", **given: Any) -> Json:
    """A call of a tool."""
    return {"type": "tool_use", "id": id, "name": name, "input": given}


def result(id: str, content: Any, **more: Any) -> Json:
    """The result of a call."""
    return {"type": "tool_result", "tool_use_id": id, "content": content, **more}


def thinking(text: str) -> Json:
    """A block of thinking."""
    return {"type": "thinking", "thinking": text, "signature": "c2lnbmVk" * 20}


def image(data: bytes, media_type: str = "image/png") -> Json:
    """An image as base64."""
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()}}


def png(width: int = 40, height: int = 30, more: int = 0) -> bytes:
    """A grey PNG, made larger by so many bytes of a chunk that nobody reads."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + b"\x80" * width for _ in range(height))
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), chunk(b"IDAT", zlib.compress(rows))]
    return b"".join([b"\x89PNG\r\n\x1a\n", *parts, *([chunk(b"skIp", bytes(more))] if more else []), chunk(b"IEND", b"")])


def request(messages: Sequence[Json], **more: Any) -> Json:
    """A request's body."""
    fields = {"model": "glm-5.3", "max_tokens": 1000, "stream": True, "system": SYSTEM, "tools": [tool("Bash"), tool("Read")]}
    return {**fields, "messages": list(messages), **more}


def coding() -> list[Json]:
    """A short session with everything that a message can hold."""
    return [
        user("Fix the failing test in the parser, please."),
        assistant(thinking("I should run the tests first."), "I will run the tests.", call("t1", command="pytest -x")),
        user(result("t1", "FAILED tests/test_parser.py::test_empty\n" + "assert parse('') == []\n" * 400, is_error=True)),
        assistant("The parser fails on empty input.", call("t2", "Read", file_path="parser.py"), call("t3", command="ls")),
        user(
            result("t2", [{"type": "text", "text": "def parse(text):\n    return text[0]"}, image(png())]),
            result("t3", "parser.py"),
        ),
    ]


async def say(
    proxy: RunningProxy,
    simulator: Simulator,
    body: Json | str,
    *fields: Header,
    session: bytes = b"session-1",
    kept: bool = True,
    **scenario: Any,
) -> str:
    """Send a body through the proxy; returns its id once the books, and capture if it is `kept`, have it."""
    simulator.scenario = Scenario("text", **scenario)
    before, ledger, capture = len(proxy.recorder.ended), proxy.app.state.ledger, proxy.app.state.capture
    stored = 0 if capture is None else capture.worker.written
    headers = [JSON, (b"x-claude-code-session-id", session), *fields]
    sent = body if isinstance(body, str) else json.dumps(body)
    await ask(proxy.port, "POST", MESSAGES, headers, sent.encode())
    await proxy.recorder.wait_for(before + 1)
    if ledger is not None:
        await asyncio.to_thread(until, lambda: ledger.writer.written > before)
    if capture is not None and kept:
        await asyncio.to_thread(until, lambda: capture.worker.written > stored)
    return str(proxy.recorder.ended[-1].id)
