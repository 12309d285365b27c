"""What of a response is read before its head goes on: enough to know an error when it comes as one."""

from __future__ import annotations

from claude_proxy.errors import BadResponse, ConnectionLost
from claude_proxy.proxy.answer import Answer
from claude_proxy.proxy.call import Call
from claude_proxy.upstream.connection import Connection

ENOUGH = 64 * 1024


async def opening(call: Call, connection: Connection, answer: Answer) -> bytes:
    """The first bytes of the body.

    A Messages stream is awaited up to its first whole event, an error up to its end, both at most FIRST_EVENT_WAIT; of
    anything else only what has come already is taken.
    """
    wait = call.settings.first_event_wait
    if not connection.has_bytes and not (answer.guarded or answer.status >= 400):
        return b""
    parts: list[bytes] = []
    until = call.loop.time() + wait
    while not connection.finished:
        left = until - call.loop.time()
        if not connection.has_bytes and left <= 0:
            break
        call.deadline.arm("silence", left)
        try:
            chunk = await connection.read()
        except (ConnectionLost, BadResponse):
            break  # the relay meets it again, after what did come
        if chunk:
            parts.append(chunk)
            if _enough(parts, answer):
                break
    call.deadline.disarm()
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def whole(call: Call, connection: Connection, first: bytes, limit: int) -> bytes | None:
    """The whole body if it is not larger than `limit` bytes and does not break off; else None.

    What was read of it is then in `connection` again, in front.
    """
    parts, size = [first], len(first)
    while not connection.finished and size <= limit:
        call.deadline.arm("silence", call.settings.stream_idle_timeout)
        try:
            chunk = await connection.read()
        except (ConnectionLost, BadResponse):
            chunk = None
        if chunk is None:
            break
        parts.append(chunk)
        size += len(chunk)
    call.deadline.disarm()
    body = b"".join(parts)
    if connection.finished:
        return body
    connection.push_back(body)
    return None


def _enough(parts: list[bytes], answer: Answer) -> bool:
    if sum(map(len, parts)) >= ENOUGH:
        return True
    if answer.status >= 400:
        return False
    if not answer.guarded:
        return True
    so_far = b"".join(parts)
    return b"\n\n" in so_far or b"\r\n\r\n" in so_far
