"""Requests of the Messages API as bytes, and the proxied paths that the tests use."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tests.integration.wire import Header, request

PREFIX = "/api/anthropic"
MESSAGES = PREFIX + "/v1/messages"
COUNT = MESSAGES + "/count_tokens"
BATCHES = MESSAGES + "/batches"
FILES = PREFIX + "/v1/files"
MODELS = PREFIX + "/v1/models"
JSON: Header = (b"content-type", b"application/json")


def body(*, stream: bool = True, model: str = "glm-5.3", text: str = "hello there", **more: Any) -> bytes:
    """The body of a Messages request."""
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": model, "stream": stream, "max_tokens": 100, "messages": messages, **more}).encode()


def post(path: str = MESSAGES, headers: Iterable[Header] = (), **fields: Any) -> bytes:
    """A whole Messages request as bytes."""
    return request("POST", path, [JSON, *headers], body(**fields))


def head(method: str, path: str, *headers: Header) -> bytes:
    """The head of a request; its body, if any, is the caller's."""
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: localhost", *(name + b": " + value for name, value in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def length(size: int) -> Header:
    """A Content-Length."""
    return (b"Content-Length", b"%d" % size)
