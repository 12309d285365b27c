"""What the result of an attempt teaches the queue: that the account took the request, refused it, or failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_proxy.errors import Untrusted
from claude_proxy.protocol.decoding import decompressor
from claude_proxy.protocol.providers.base import Class
from claude_proxy.protocol.ruling import Ruling, rule
from claude_proxy.protocol.usage import ErrorBody, reader_of
from claude_proxy.routing.plan import Event
from claude_proxy.routing.retry import FAILED, NOT_SENT
from claude_proxy.routing.ticket import Refusal

if TYPE_CHECKING:
    from claude_proxy.proxy.attempt import Result
    from claude_proxy.proxy.call import Call

_EVENTS = {
    Class.CONCURRENCY: Event.CONCURRENCY,
    Class.RATE: Event.RATE,
    Class.OVERLOAD: Event.OVERLOAD,
    Class.STOP_UNTIL: Event.STOP,
    Class.ACCOUNT: Event.STOP,
    Class.AUTH: Event.STOP,
}


def is_good(result: Result) -> bool:
    """Whether it is an answer that is certainly no refusal."""
    response, answer = result.response, result.answer
    if response is None or answer is None or response.status >= 400:
        return False
    return not answer.guarded or b"error" not in result.first[:1024]


def failure_in(result: Result) -> Event | None:
    """How an attempt failed; None if it was answered."""
    if result.kind is NOT_SENT:
        assert result.error is not None
        return Event.CERTIFICATE if isinstance(result.error, Untrusted) else Event.UNREACHABLE
    if result.kind is FAILED or (result.response is not None and result.response.status >= 500):
        return Event.BROKEN
    return None


def refusal_in(call: Call, result: Result, wall: float) -> Refusal | None:
    """What the queue needs to know about a refusal; None for other answers and refusals that do not concern the account."""
    if result.response is None or result.answer is None:
        return None
    ruling = _ruling(call, result, wall)
    if ruling is None or (ruling.group is Class.AUTH and not call.account.held):
        return None
    event, now = _EVENTS.get(ruling.group), call.loop.time()
    if event is None:
        return None
    until = None if ruling.resets_at is None else now + ruling.resets_at - wall
    if event is Event.STOP and ruling.scope == "model":
        until = now  # another account may serve the model, but this one stays in rotation for other models
    return Refusal(event, ruling.retry_after, until, ruling.code or str(result.response.status))


def _ruling(call: Call, result: Result, wall: float) -> Ruling | None:
    response, answer = result.response, result.answer
    assert response is not None
    assert answer is not None
    try:
        error = None
        if response.status >= 400 or (answer.guarded and b"error" in result.first[:1024]):
            error = _error_in(result.first, response.fields.get(b"content-encoding"), is_stream=answer.is_stream)
        provider = call.upstream.provider
        return rule(response.status, error, provider=provider, headers=response.fields, now=wall)
    except Exception as failure:  # any of them: it is our fault, and the client gets the upstream's answer
        call.listeners.contain("ruling", failure)
        return None


def _error_in(first: bytes, coding: bytes | None, *, is_stream: bool) -> ErrorBody | None:
    """The error in an answer's first bytes; None if a message began before it: that is billed, and never asked for again."""
    if coding is not None:
        first = decompressor(coding.strip().lower()).feed(first)
    if is_stream and (b"message_start" in first or b"content_block" in first):
        return None
    reader = reader_of(first, labelled_stream=is_stream)
    reader.feed(first)
    reader.finish()
    return reader.error
