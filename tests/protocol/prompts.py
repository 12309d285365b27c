"""Request bodies as Claude Code writes them, for tests of blocks and cache verdicts."""

import copy
import json
from typing import Any

Json = dict[str, Any]
MARK = {"type": "ephemeral"}


def tool(name: str) -> Json:
    return {
        "name": name,
        "description": f"does {name}",
        "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}},
    }


def text(words: str) -> Json:
    return {"type": "text", "text": words}


def request(**changes: Any) -> Json:
    """A first turn: three tools, three system blocks, a prompt and the client's own system message."""
    body: Json = {
        "model": "claude-opus-5-5",
        "messages": [
            {"role": "user", "content": [text("CLAUDE.md"), text("git status: clean"), text("say hi")]},
            {"role": "system", "content": "# Environment\nPrimary working directory: /w"},
        ],
        "system": [text("attribution"), text("identity"), text("prompt")],
        "tools": [tool("Bash"), tool("Read"), tool("Edit")],
        "metadata": {"user_id": "u"},
        "max_tokens": 32000,
        "thinking": {"type": "adaptive"},
        "safeguards": [{"classifier_context": {"live_cwd": "/w"}}],
        "stream": True,
    }
    return marked({**body, **changes})


def marked(body: Json, mark: Json = MARK) -> Json:
    """The body with markers where Claude Code puts them: on two system blocks and on the last block of the last message."""
    body = unmarked(body)
    for block in body["system"][1:] if isinstance(body["system"], list) else ():
        block["cache_control"] = mark
    last = body["messages"][-1]
    if isinstance(last["content"], str):
        last["content"] = [text(last["content"])]
    last["content"][-1]["cache_control"] = mark
    return body


def unmarked(body: Json) -> Json:
    body = copy.deepcopy(body)
    messages = [block for message in body["messages"] if isinstance(message["content"], list) for block in message["content"]]
    for block in [*(body["system"] if isinstance(body["system"], list) else ()), *body.get("tools", ()), *messages]:
        block.pop("cache_control", None)
    return body


def turn(body: Json, number: int) -> Json:
    """The request of the next turn: a tool call and its result are appended, and the last marker moves."""
    call = {"type": "tool_use", "id": f"toolu_{number}", "name": "Read", "input": {"path": f"{number}.txt"}}
    result = {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": f"the text of file {number}"}
    grown = [
        *body["messages"],
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, call]},
        {"role": "user", "content": [result]},
    ]
    return marked({**body, "messages": grown, "safeguards": [{"turn": number}]})


def encode(body: Json) -> bytes:
    """As JavaScript writes it."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
