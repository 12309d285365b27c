"""Interprets a conversation: what the user asks for, which tool calls that means, what the tools returned."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from .scenario import ToolCall

REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
USE = re.compile(r"use (?P<tool>[\w-]+)(?: (?:on|with|for) (?P<argument>.+))?", re.IGNORECASE)
RUN = re.compile(r"run (?P<tool>[\w-]+): ?(?P<argument>.+)", re.IGNORECASE)
SUBAGENT = re.compile(r"ask a subagent: ?(?P<argument>.+)", re.IGNORECASE)
PARALLEL = re.compile(r"in parallel: ?(?P<rest>.+)", re.IGNORECASE)
SEPARATOR = re.compile(r"\s*;\s*(?=(?:use|run|ask) )", re.IGNORECASE)

MAIN_PROPERTIES = ("file_path", "command", "prompt", "path", "pattern", "query", "url", "text")
"""Where the argument of a command goes, if the tool has such a property."""
FIXED_VALUES = {"subagent_type": "general-purpose", "description": "a simulated step"}
DEFAULTS: dict[str, Any] = {"integer": 1, "number": 1, "boolean": False, "array": [], "object": {}}


class Tool(msgspec.Struct):
    """A tool of the request; server tools have no ``input_schema``."""

    name: str = ""
    input_schema: dict[str, Any] = {}


class Message(msgspec.Struct):
    """A message of the request."""

    role: str
    content: str | list[dict[str, Any]] = ""

    @property
    def blocks(self) -> list[dict[str, Any]]:
        """The content as blocks; text alone is one text block."""
        return [{"type": "text", "text": self.content}] if isinstance(self.content, str) else self.content

    def has(self, block_type: str) -> bool:
        """Whether a block of this type is in it."""
        return any(block.get("type") == block_type for block in self.blocks)

    @property
    def text(self) -> str:
        """Its text blocks joined, without what Claude Code adds as reminders."""
        texts = [str(block.get("text", "")) for block in self.blocks if block.get("type") == "text"]
        return REMINDER.sub("", "\n".join(texts)).strip()


def last_request(messages: Sequence[Message]) -> tuple[str, int]:
    """Return the last text of the user's that is not a tool's result, and how many tool turns followed it."""
    turns = 0
    for message in reversed(messages):
        if message.role == "assistant":
            turns += message.has("tool_use")
        elif message.role == "user" and not message.has("tool_result") and message.text:
            return message.text, turns
    return "", turns


def tool_results(messages: Sequence[Message]) -> list[str]:
    """Return the tool results in the user's last message, if any.

    Claude Code puts messages of the role ``system`` after it (measured, 2.1.330).
    """
    last = next((message for message in reversed(messages) if message.role == "user"), None)
    found = [block for block in last.blocks if block.get("type") == "tool_result"] if last else []
    return [_result_text(block.get("content", "")) for block in found]


def _result_text(content: object) -> str:
    if isinstance(content, str):
        return REMINDER.sub("", content).strip()
    if not isinstance(content, list):
        return ""
    pieces = [
        str(block.get("text", "")) if block.get("type") == "text" else f"[{block.get('type')}]"
        for block in content
        if isinstance(block, dict)
    ]
    return REMINDER.sub("", "\n".join(pieces)).strip()


def wanted_calls(messages: Sequence[Message], tools: Sequence[Tool]) -> list[ToolCall]:
    """Return the tool calls that the user's text asks for next; each such line is one turn."""
    text, done = last_request(messages)
    turns = [calls for line in text.splitlines() if (calls := _calls_of(line.strip(), tools))]
    return turns[done] if done < len(turns) else []


def _calls_of(line: str, tools: Sequence[Tool]) -> list[ToolCall]:
    parallel = PARALLEL.match(line)
    pieces = SEPARATOR.split(parallel["rest"]) if parallel else [line]
    return [call for piece in pieces if (call := _call_of(piece.strip(), tools)) is not None]


def _call_of(piece: str, tools: Sequence[Tool]) -> ToolCall | None:
    if found := SUBAGENT.match(piece):
        return _named("Agent", found["argument"], tools) or _named("Task", found["argument"], tools)
    found = RUN.match(piece) or USE.match(piece)
    return _named(found["tool"], found["argument"] or "", tools) if found else None


def _named(name: str, argument: str, tools: Sequence[Tool]) -> ToolCall | None:
    tool = next((tool for tool in tools if tool.name.lower() == name.lower()), None)
    return None if tool is None else call_of(tool, argument)


def call_of(tool: Tool, argument: str = "") -> ToolCall:
    """Return a call of the tool with every required property filled, the argument in the main one."""
    if argument.startswith("{"):
        try:
            return ToolCall(tool.name, msgspec.json.decode(argument, type=dict[str, Any]))
        except msgspec.DecodeError:
            pass
    properties: dict[str, Any] = tool.input_schema.get("properties", {})
    required: list[str] = tool.input_schema.get("required", [])
    filled = {name: _value_of(name, properties.get(name, {})) for name in required}
    main = next((name for name in MAIN_PROPERTIES if name in properties), next(iter(required or properties), None))
    if argument and main is not None:
        filled[main] = argument
    if "run_in_background" in properties:
        filled["run_in_background"] = False  # the result in this turn, not as a notice later
    return ToolCall(tool.name, filled)


def _value_of(name: str, schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    return FIXED_VALUES.get(name) or DEFAULTS.get(schema.get("type", "string"), "simulated")
