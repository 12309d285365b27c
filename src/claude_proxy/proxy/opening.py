"""How much of a response is read before its head is passed on: enough to recognise an error."""

from __future__ import annotations

from claude_proxy.errors import BadResponse, ConnectionLost
from claude_proxy.exchange import Kind
from claude_proxy.protocol.usage import is_json
from claude_proxy.proxy.answer import Answer
from claude_proxy.proxy.call import Call
from claude_proxy.proxy.response import Response

ENOUGH = 64 * 1024
_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n")  # of an event


async def opening(call: Call, response: Response, answer: Answer, first: bytes) -> bytes:
    """Return the first bytes of a body that has not ended, beginning with `first`, which have arrived already.

    A Messages stream is read up to its first whole event, an error up to its end, any other answer to a Messages call up to
    its first bytes, each for at most FIRST_EVENT_WAIT. Of anything else only what has arrived already is taken.
    """
    if not (answer.guarded or answer.status >= 400 or call.request.target.kind is Kind.MESSAGES):
        return first
    parts = [first] if first else []
    until = call.loop.time() + call.settings.first_event_wait
    while not (_enough(call, parts, answer) or response.finished or call.loop.time() >= until):
        call.deadline.arm_at(until, "silence")
        try:
            chunk = await response.read()
        except (ConnectionLost, BadResponse):
            break  # `response.broken` records it, and the relay meets it after the bytes that did arrive
        if chunk:
            parts.append(chunk)
    call.deadline.disarm()
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def whole(call: Call, response: Response, first: bytes, limit: int) -> tuple[bytes, bool]:
    """Return the body as far as it could be read, and whether that is all of it. Reads at most about `limit` bytes."""
    parts, size = [first], len(first)
    while not response.finished and size <= limit:
        call.deadline.arm("silence", call.settings.stream_idle_timeout)
        try:
            chunk = await response.read()
        except (ConnectionLost, BadResponse):
            break
        if chunk is None:
            break
        parts.append(chunk)
        size += len(chunk)
    call.deadline.disarm()
    return b"".join(parts), response.finished


def _enough(call: Call, parts: list[bytes], answer: Answer) -> bool:
    if sum(map(len, parts)) >= ENOUGH:
        return True
    if answer.status >= 400 or not parts:
        return False
    if not answer.guarded:
        return True
    so_far = b"".join(parts)
    try:
        return not is_json(so_far) and any(end in so_far for end in _ENDS)
    except Exception as error:  # any of them: it is our fault, not the client's
        call.listeners.contain("opening", error)
        return True
