"""The demo's client: makes each streamed call on a new connection, without a library."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from claude_proxy.cli.demo.story import SESSION, Talk
from claude_proxy.protocol.sse import Splitter, parse
from claude_proxy.proxy.target import PREFIX

FIRST_PAUSE = 1.0  # seconds before the first retry, then doubled
MAX_TRIES = 4
RETRIED = (408, 429, 500, 502, 503, 504, 529)


@dataclass(frozen=True, slots=True)
class Refused(Exception):
    """The response was an error, not a stream.

    Attributes:
        kind: Anthropic's error type.
    """

    status: int
    kind: str


async def converse(url: str, talk: Talk) -> None:
    """Hold one conversation, retrying as clients do; record its progress in `talk`."""
    pause = FIRST_PAUSE
    for attempt in range(1, MAX_TRIES + 1):
        try:
            await once(url, talk)
        except Refused as refused:
            if refused.status not in RETRIED or attempt == MAX_TRIES:
                talk.state = f"{refused.status} {refused.kind}"
                return
            talk.state = f"{refused.status} {refused.kind}: trying again in {pause:g} s"
            await asyncio.sleep(pause)
            pause *= 2
        else:
            return


async def once(url: str, talk: Talk) -> None:
    """Make one call: stream its text into `talk`, or disconnect after `talk.leave_after` events.

    Raises:
        Refused: the proxy or the upstream answered with an error.
        OSError, asyncio.IncompleteReadError: the connection broke.
    """
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(request(parts.netloc, talk))
        talk.state = "waiting for the first byte"
        talk.calls += 1
        status = int((await reader.readuntil(b"\r\n")).split()[1])
        head = await reader.readuntil(b"\r\n\r\n")
        if status != 200:
            raise Refused(status, await error_type(reader, head))
        await follow(reader, talk)
    finally:
        writer.close()


async def follow(reader: asyncio.StreamReader, talk: Talk) -> None:
    """Read events until the end, or until it is time to disconnect."""
    talk.state, splitter, count = "streaming", Splitter(), 0
    async for chunk in chunks(reader):
        for event in parse(splitter.feed(chunk)):
            count += 1
            if event.name == "content_block_delta":
                talk.text += json.loads(event.data)["delta"].get("text", "")
            if count == talk.leave_after:
                talk.state = "left by its client"
                talk.left_at = asyncio.get_running_loop().time()
                return
    talk.state = "complete"


def request(host: str, talk: Talk) -> bytes:
    """Return the bytes of the request."""
    question = {"role": "user", "content": talk.prompt}
    body = json.dumps({"model": talk.model, "max_tokens": 1024, "stream": True, "messages": [question]}).encode()
    head = (
        f"POST {PREFIX}/v1/messages HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        f"anthropic-version: 2023-06-01\r\nauthorization: Bearer demo\r\nuser-agent: claude-proxy-demo\r\n"
        f"{SESSION}: {talk.name}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def error_type(reader: asyncio.StreamReader, head: bytes) -> str:
    """Return Anthropic's error type from an error response."""
    length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    body = json.loads(await reader.readexactly(length) or b"{}")
    return str(body.get("error", {}).get("type", "error"))


async def chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the data of a chunked body (RFC 9112 section 7.1) as it arrives."""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        yield (await reader.readexactly(size + 2))[:-2]
