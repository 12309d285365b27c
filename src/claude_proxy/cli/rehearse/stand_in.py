"""A stand-in for the ntfy server on this machine: it shows what would have been pushed, and nothing leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from claude_proxy.cli.rehearse.wire import read_head

MAX_BODY = 64 * 1024
VERSION = "2.18.0"  # new enough to update a notification in place


@dataclass(frozen=True, slots=True)
class Push:
    """One notice as it reached the server.

    Attributes:
        minute: of the script.
        sequence: what an update in place refers to; empty if the notice has none.
        replaces: an earlier notice had the same sequence.
    """

    minute: float
    title: str
    message: str
    priority: int
    tags: tuple[str, ...] = ()
    sequence: str = ""
    replaces: bool = False


@dataclass
class StandIn:
    """`async with StandIn(minute, show) as ntfy:` listens at `ntfy.url`.

    Attributes:
        minute: tells the minute of the script.
        show: is called with each push.
    """

    minute: Callable[[], float]
    show: Callable[[Push], None]
    pushes: list[Push] = field(default_factory=list)
    url: str = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
                method, target, fields, body = await _request(reader)
                is_notice = method in ("POST", "PUT")
                answer = self._publish(target, fields, body) if is_notice else {"healthy": True, "version": VERSION}
                data = json.dumps(answer).encode()
                head = ["HTTP/1.1 200 OK", "content-type: application/json", f"content-length: {len(data)}", "connection: close"]
                writer.write("\r\n".join([*head, "", ""]).encode() + data)
                await writer.drain()
        finally:
            writer.close()

    def _publish(self, target: str, fields: dict[str, str], body: bytes) -> dict[str, Any]:
        """Take a notice: as JSON to the root, or as a body with headers to a topic (docs.ntfy.sh/publish)."""
        parts = urlsplit(target)
        path = [unquote(part) for part in parts.path.split("/") if part]
        found = _from_json(body) if not path else _from_headers(body, {**fields, **dict(parse_qsl(parts.query))})
        sequence = found["sequence"] or (path[1] if len(path) > 1 else "")
        known = any(push.sequence == sequence for push in self.pushes if sequence)
        push = Push(self.minute(), found["title"], found["message"], found["priority"], found["tags"], sequence, replaces=known)
        self.pushes.append(push)
        self.show(push)
        number = f"rehearsal{len(self.pushes)}"
        return {"id": number, "sequence_id": sequence or number, "event": "message", "topic": "rehearsal"}


async def _request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str], bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    method, target, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ")
    _, fields = read_head(b"HTTP/1.1 200 OK\r\n" + head.partition(b"\r\n")[2])
    length = int(fields.get("content-length", "0"))
    return method, target, fields, await reader.readexactly(min(length, MAX_BODY))


def _from_json(body: bytes) -> dict[str, Any]:
    value = json.loads(body)
    return {
        "title": str(value.get("title", "")),
        "message": str(value.get("message", "")),
        "priority": int(value.get("priority", 3)),
        "tags": tuple(map(str, value.get("tags", ()))),
        "sequence": str(value.get("sequence_id", value.get("sequence-id", ""))),
    }


def _from_headers(body: bytes, fields: dict[str, str]) -> dict[str, Any]:
    def first(*names: str) -> str:
        return next((fields[name] for name in names if name in fields), "")

    priority = first("x-priority", "priority", "prio", "p")
    return {
        "title": first("x-title", "title", "t"),
        "message": body.decode("utf-8", "replace"),
        "priority": int(priority) if priority.isdigit() else 3,
        "tags": tuple(filter(None, first("x-tags", "tags", "tag", "ta").split(","))),
        "sequence": first("x-sequence-id", "sequence-id", "sid"),
    }
