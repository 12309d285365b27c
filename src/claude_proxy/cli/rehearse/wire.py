"""One HTTP call of a scripted client, and what it saw. It talks to the proxy on this machine only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import urlsplit

from claude_proxy.cli.rehearse.patience import Seen
from claude_proxy.protocol.usage import StreamReader, read_answer

Headers = Mapping[str, str]
CHUNK = 65_536


class Deadlines(NamedTuple):
    """Seconds of silence that a client bears: before the head of an answer, and inside it."""

    head: float
    idle: float


async def call(url: str, headers: Headers, body: bytes, deadlines: Deadlines, begun: Callable[[], None] = lambda: None) -> Seen:
    """Make one call and read its answer to the end.

    Args:
        begun: called once the head of a good answer has come.
    """
    parts = urlsplit(url)
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except OSError:
        return Seen("refused")
    try:
        lines = [f"POST {parts.path} HTTP/1.1", f"host: {parts.netloc}", f"content-length: {len(body)}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        return await _answer(reader, deadlines, begun)
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader, deadlines: Deadlines, begun: Callable[[], None]) -> Seen:
    try:
        async with asyncio.timeout(deadlines.head):
            head = await reader.readuntil(b"\r\n\r\n")
    except TimeoutError:
        return Seen("silent")
    except (OSError, asyncio.IncompleteReadError):
        return Seen("refused")
    status, fields = read_head(head)
    if status >= 400:
        return await _refused(reader, status, fields, deadlines)
    begun()
    if not fields.get("content-type", "").startswith("text/event-stream"):
        return await _message(reader, fields, deadlines)
    return await _stream(reader, fields, deadlines)


async def _refused(reader: asyncio.StreamReader, status: int, fields: Headers, deadlines: Deadlines) -> Seen:
    body = await _whole(reader, fields, deadlines)
    found = None if body is None else read_answer(body).error
    delay, hint = fields.get("retry-after", ""), fields.get("x-should-retry")
    return Seen(
        "error",
        status,
        "" if found is None else found.type,
        "" if found is None else found.message,
        float(delay) if delay.isdigit() else None,
        None if hint is None else hint == "true",
        ours="x-claude-proxy-error" in fields,
    )


async def _message(reader: asyncio.StreamReader, fields: Headers, deadlines: Deadlines) -> Seen:
    return Seen("cut" if await _whole(reader, fields, deadlines) is None else "answered", 200)


async def _stream(reader: asyncio.StreamReader, fields: Headers, deadlines: Deadlines) -> Seen:
    reading = StreamReader()
    seen = Seen("unfinished", 200)
    try:
        async for data in body_of(reader, fields, deadlines.idle):
            reading.feed(data)
    except TimeoutError:
        return replace(seen, how="silent")
    except (OSError, asyncio.IncompleteReadError):
        seen = replace(seen, how="cut")
    if reading.error is not None:
        return replace(seen, how="error-event", kind=reading.error.type, message=reading.error.message)
    return replace(seen, how="answered") if reading.complete else seen


async def _whole(reader: asyncio.StreamReader, fields: Headers, deadlines: Deadlines) -> bytes | None:
    """The whole body; None if it broke off."""
    try:
        return b"".join([data async for data in body_of(reader, fields, deadlines.idle)])
    except (TimeoutError, OSError, asyncio.IncompleteReadError):
        return None


async def body_of(reader: asyncio.StreamReader, fields: Headers, idle: float) -> AsyncIterator[bytes]:
    """Yield a body as it arrives (RFC 9112 section 6).

    Raises:
        TimeoutError: nothing came for `idle` seconds.
        OSError, asyncio.IncompleteReadError: the connection broke.
    """
    if fields.get("transfer-encoding") == "chunked":
        while size := int((await asyncio.wait_for(reader.readuntil(b"\r\n"), idle)).split(b";")[0], 16):
            yield (await asyncio.wait_for(reader.readexactly(size + 2), idle))[:-2]
        return
    left = int(fields["content-length"]) if "content-length" in fields else None
    while left is None or left > 0:
        data = await asyncio.wait_for(reader.read(CHUNK if left is None else min(left, CHUNK)), idle)
        if not data:
            if left is not None:
                raise asyncio.IncompleteReadError(b"", left)
            return
        left = None if left is None else left - len(data)
        yield data


def read_head(head: bytes) -> tuple[int, dict[str, str]]:
    """The status and the fields of a response head, names in lower case."""
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}
