"""The bytes of a run, built once: a request shaped like Claude Code's, and what the upstream answers.

A request tells the mock what it wants in the last four letters of its body (``KINDS``): the body is
the one thing that every proxy passes on unchanged.
"""

import json

KINDS = ("json", "fast", "pace", "hold")
MARK = b'"}}'  # what follows the kind at the end of a body
PREFIX = "/api/anthropic"

JSON_ANSWER_SIZE = 2048
FAST_EVENTS = 53
PACED_EVENTS = 100
HELD_EVENTS = 4  # message_start, content_block_start, ping and one delta, then silence

# Claude Code 2.1's own, in its order; the credential is a dummy.
_CLIENT_HEADERS = """\
accept: application/json
content-type: application/json
user-agent: claude-cli/2.1.330 (external, cli)
authorization: Bearer dummy-token-of-the-benchmark
anthropic-version: 2023-06-01
anthropic-beta: claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27
anthropic-dangerous-direct-browser-access: true
x-app: cli
x-claude-code-session-id: 5f0c2c6e-58c1-4a52-9a4b-0a7f6c1d2e3f
x-stainless-lang: js
x-stainless-package-version: 0.74.0
x-stainless-os: Linux
x-stainless-arch: x64
x-stainless-runtime: node
x-stainless-runtime-version: v24.3.0
x-stainless-retry-count: 0
x-stainless-timeout: 600
accept-encoding: gzip, deflate, br, zstd
connection: keep-alive"""

_ANSWER_HEADERS = """\
date: Sat, 21 Nov 2026 12:00:00 GMT
server: mock
request-id: req_011CTbenchbenchbenchbench
anthropic-organization-id: 00000000-0000-4000-8000-000000000000
anthropic-ratelimit-requests-limit: 4000
anthropic-ratelimit-requests-remaining: 3999
anthropic-ratelimit-requests-reset: 2026-11-21T12:00:00Z
anthropic-ratelimit-tokens-limit: 400000
anthropic-ratelimit-tokens-remaining: 399000
anthropic-ratelimit-tokens-reset: 2026-11-21T12:00:00Z"""

_USAGE = {
    "input_tokens": 512,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 18432,
    "output_tokens": 1,
    "service_tier": "standard",
}


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _lines(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode() + b"\r\n"


_WORDS = "Read the file and say what it does. "
_TOOLS = 24  # tools, of about 2 KB each, in a request that is large enough for them
_LARGE = 100 * 1024


def _filler(size: int) -> str:
    return (_WORDS * (size // len(_WORDS) + 1))[:size]


def _tools() -> list[dict[str, object]]:
    property_ = {"type": "string", "description": _filler(200)}
    schema = {
        "type": "object",
        "properties": {f"argument_{number}": property_ for number in range(5)},
        "required": ["argument_0"],
    }
    return [{"name": f"Tool{number}", "description": _filler(700), "input_schema": schema} for number in range(_TOOLS)]


def _turns(size: int) -> list[dict[str, object]]:
    """A tool's call and its result, again and again, in about `size` bytes."""
    turns: list[dict[str, object]] = []
    for number in range(size // 4096):
        call = {"type": "tool_use", "id": f"toolu_{number:020}", "name": "Tool0", "input": {"argument_0": _filler(300)}}
        result = {"type": "tool_result", "tool_use_id": f"toolu_{number:020}", "content": _filler(3300)}
        turns += [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    return turns


def request_body(kind: str, size: int = 2048) -> bytes:
    """A Messages body of exactly `size` bytes (at least 512) that asks the mock for `kind`.

    From 100 KB on it has the shape of a session that has gone on for a while: tools, and turns that used them.
    """
    last = {"type": "text", "text": ""}
    body: dict[str, object] = {
        "model": "glm-5.3",
        "max_tokens": 32000,
        "stream": kind != "json",
        "system": [{"type": "text", "text": "You are Claude Code, Anthropic's official CLI for Claude."}],
        "messages": [{"role": "user", "content": [last]}],
        "metadata": {"user_id": kind},
    }
    if size >= _LARGE:
        tools = _tools()
        body["messages"] = [*_turns(size - len(_compact(tools)) - 4096), {"role": "user", "content": [last]}]
        body = {"tools": tools, **body}  # the mock reads the end
    last["text"] = _filler(size - len(_compact(body)))
    return _compact(body)


def request(kind: str, port: int, size: int = 2048, **headers: str) -> bytes:
    """The whole request, head and body, for a server on the loopback `port`; `_` in a header's name stands for `-`."""
    body = request_body(kind, size)
    head = f"POST {PREFIX}/v1/messages?beta=true HTTP/1.1\nhost: 127.0.0.1:{port}\n{_CLIENT_HEADERS}\n"
    head += "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in headers.items())
    return _lines(head + f"content-length: {len(body)}\n") + body


def json_answer_body() -> bytes:
    """A finished message of exactly ``JSON_ANSWER_SIZE`` bytes."""
    message: dict[str, object] = {
        "id": "msg_01Bench",
        "type": "message",
        "role": "assistant",
        "model": "glm-5.3",
        "content": [{"type": "text", "text": ""}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {**_USAGE, "output_tokens": 420},
    }
    message["content"] = [{"type": "text", "text": "x" * (JSON_ANSWER_SIZE - len(_compact(message)))}]
    return _compact(message)


def _event(name: str, **data: object) -> bytes:
    return f"event: {name}\ndata: ".encode() + _compact({"type": name, **data}) + b"\n\n"


def sse_events(count: int) -> list[bytes]:
    """A streamed message of `count` events (at least 7), from ``message_start`` to ``message_stop``."""
    message = {
        "id": "msg_01Bench",
        "type": "message",
        "role": "assistant",
        "model": "glm-5.3",
        "content": [],
        "stop_reason": None,
        "usage": _USAGE,
    }
    delta = _event("content_block_delta", index=0, delta={"type": "text_delta", "text": " and then it reads the file"})
    return [
        _event("message_start", message=message),
        _event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        _event("ping"),
        *[delta] * (count - 6),
        _event("content_block_stop", index=0),
        _event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 420}),
        _event("message_stop"),
    ]


def json_answer() -> bytes:
    """The mock's unstreamed answer as it stands on the wire."""
    body = json_answer_body()
    head = f"HTTP/1.1 200 OK\n{_ANSWER_HEADERS}\ncontent-type: application/json\n"
    return _lines(head + f"content-length: {len(body)}\n") + body


def sse_answer(count: int) -> list[bytes]:
    """The mock's streamed answer: one piece per event, the head with the first, the last chunk with the last."""
    head = f"HTTP/1.1 200 OK\n{_ANSWER_HEADERS}\ncontent-type: text/event-stream; charset=utf-8\n"
    head += "cache-control: no-cache\ntransfer-encoding: chunked\n"
    pieces = [b"%x\r\n%b\r\n" % (len(event), event) for event in sse_events(count)]
    return [_lines(head) + pieces[0], *pieces[1:-1], pieces[-1] + b"0\r\n\r\n"]
