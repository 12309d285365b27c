"""An ntfy server for tests: remembers what is published, answers as it is told, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass
class Reply:
    """One answer. `silent` never sends it; `raw` is sent as it is."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    silent: bool = False
    raw: bytes | None = None

    def encode(self, number: int, sequence: dict[str, str]) -> bytes:
        if self.raw is not None:
            return self.raw
        body = self.body if self.body is not None else {"id": f"msg{number}", "event": "message", **sequence}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {self.status} X", f"content-length: {len(data)}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + data


@dataclass
class Published:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


class FakeNtfy:
    """`async with FakeNtfy(Reply(500)) as ntfy`: the replies in order, then 200 from then on.

    It is of version 2.16, which repeats a message's sequence, unless it is `old`.
    """

    def __init__(self, *replies: Reply, old: bool = False) -> None:
        self.old = old
        self.replies = deque(replies)
        self.published: list[Published] = []
        self._changed = asyncio.Condition()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [request.json for request in self.published]

    async def until(self, count: int) -> list[dict[str, Any]]:
        """The messages, as soon as there are `count` of them."""
        async with self._changed, asyncio.timeout(20):
            await self._changed.wait_for(lambda: len(self.published) >= count)
        return self.messages

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.published.append(Published(method, path, headers, body))
            async with self._changed:
                self._changed.notify_all()
            reply = self.replies.popleft() if self.replies else Reply()
            if reply.silent:
                await reader.read()  # until the client gives up
            else:
                known = not self.old and body.startswith(b"{")
                sequence = {"sequence_id": json.loads(body).get("sequence_id", "")} if known else {}
                writer.write(reply.encode(len(self.published), sequence))
                await writer.drain()
        self._writers.discard(writer)
        writer.close()
