"""One attempt at one upstream: connect, send the request, await head and opening of the answer. The outcome is a `Result`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from claude_proxy.errors import BadRequest, BadResponse, ProxyError, RequestError, UpstreamIsSelf
from claude_proxy.exchange import SENT, Attempt, Failure
from claude_proxy.proxy import headers as h
from claude_proxy.proxy.answer import Answer
from claude_proxy.proxy.call import Call
from claude_proxy.proxy.mapping import remapped
from claude_proxy.proxy.opening import opening
from claude_proxy.proxy.response import Response
from claude_proxy.proxy.upload import Upload
from claude_proxy.routing.retry import ANSWERED, BROKE_OFF, FAILED, NOT_SENT, REFUSED, Kind
from claude_proxy.upstream.connection import Connection

CHUNKED = b"transfer-encoding: chunked\r\n"


@dataclass(slots=True)
class Result:
    """The outcome of an attempt.

    Attributes:
        error: why there is no answer to pass on; if None, `response`, `answer` and the `first` bytes of the body are set.
    """

    kind: Kind
    error: ProxyError | None = None
    response: Response | None = None
    answer: Answer | None = None
    first: bytes = b""

    @property
    def stale(self) -> bool:
        """Whether a pooled connection turned out to be closed before a byte was written."""
        return self.error is not None and self.error.code == "stale_connection"


async def attempt(call: Call) -> Result:
    """Try once to get an answer from `call.upstream`. The connection stays in `call.connection`, also after a failure.

    Raises:
        RequestError: the request cannot be forwarded at all.
    """
    exchange, upstream = call.exchange, call.upstream
    mapped = remapped(call) if upstream.model_map else None
    record = Attempt(upstream.name, call.loop.time(), call.account.name)
    exchange.attempts.append(record)
    try:
        connection = upstream.pool.take(record.started)
        record.reused = connection is not None
        if connection is None:
            connection = await upstream.pool.connect(call.loop)
            refuse_self(call, connection)
        call.connection = connection
        send_request(call, connection, mapped)
        record.status = await connection.head()
        call.deadline.disarm()
        record.head_at = call.loop.time()
        result = _whole_answer(call, connection) if connection.complete else await _open_answer(call, connection)
    except RequestError:
        raise
    except ProxyError as error:
        result = _failed(call, record, error)
    except asyncio.CancelledError:
        too_slow = call.caught_upstream()
        if too_slow is None:
            raise
        result = _failed(call, record, too_slow)
    call.listeners.attempt(exchange, record)
    return result


def _failed(call: Call, record: Attempt, error: ProxyError) -> Result:
    """End the wait for an answer, and return the result of an attempt that has none to pass on."""
    call.deadline.disarm()
    record.failure = Failure("proxy" if error.side == "proxy" else "upstream", error.code, error.message)
    written = call.exchange.state is SENT and error.code != "stale_connection"
    # Without the traceback: its frames hold the result, which would be a reference cycle.
    return Result(FAILED if written else NOT_SENT, error.with_traceback(None))


def _whole_answer(call: Call, response: Connection) -> Result:
    """The answer that has come whole together with its head."""
    kind = REFUSED if response.status >= 400 else ANSWERED
    return Result(kind, response=response, answer=_answer(call, response), first=response.take())


def _answer(call: Call, response: Connection) -> Answer:
    reader = call.tap if call.tap is not None and call.tap.wants_data else None
    return Answer(call.request.target, response.status, response.fields, reader, call.listeners.contain)


async def _open_answer(call: Call, response: Connection) -> Result:
    """Read enough of the answer to know what it is.

    Raises:
        BadResponse: it cannot be parsed, and none of it has gone to the client.
    """
    answer = _answer(call, response)
    first = await opening(call, response, answer, response.take())
    broken = response.broken
    if isinstance(broken, BadResponse) and not first:
        raise broken
    kind = REFUSED if response.status >= 400 else BROKE_OFF if broken is not None else ANSWERED
    return Result(kind, response=response, answer=answer, first=first)


async def clear_the_way(call: Call) -> None:
    """Before another attempt: stop the upload of the previous one and wait until it has ended."""
    upload, call.upload = call.upload, None
    if upload is not None:
        upload.cancel()
        await asyncio.wait((upload,))


def send_request(call: Call, connection: Connection, mapped: bytes | None = None) -> None:
    """Write a request's head and what has been read of its body; a task sends the rest (`Upload`).

    Args:
        mapped: the whole body to send instead of the client's.

    Raises:
        ConnectionLost: the connection turned out to be closed before anything was written.
        BadRequest: the request cannot be forwarded.
    """
    request = call.request
    body = request.whole()
    length = request.fields.get(b"content-length")
    if mapped is not None:
        body, length = mapped, b"%d" % len(mapped)
    chunked = length is None and (b"transfer-encoding" in request.fields or not call.client.done)
    head = _head(call, _framing(length, len(body), chunked=chunked))
    data = body
    if chunked:
        data = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        data += b"0\r\n\r\n" if call.client.done else b""
    connection.send(head, data, is_head=call.exchange.method == "HEAD")
    call.exchange.state = SENT
    if call.client.done:
        call.await_head(connection)
    else:
        call.upload = call.loop.create_task(Upload(call, connection, chunked=chunked).run())
    if call.tap is not None:  # after the write, which the outbox does at the end of this event loop iteration
        call.loop.call_soon(_show, call, body, call.client.done)


def _show(call: Call, body: bytes, whole: bool) -> None:
    if call.tap is not None:
        call.tap.on_request(call.request.headers, body, whole=whole)


def _head(call: Call, framing: bytes) -> bytes:
    request, upstream, account = call.request, call.upstream, call.account
    try:
        if not request.checked:
            h.refuse_breaks(request.headers)
        head = h.request_head(
            call.exchange.method.encode(),
            upstream.prefix + request.target.path_and_query,
            upstream.host,
            request.headers,
            request.fields,
            credential=account.credential,
            withheld=account.withheld | request.withheld if request.withheld else account.withheld,
            framing=framing,
        )
    except ValueError as error:
        raise BadRequest(f"The request's headers cannot be passed on: {error}. The client has to fix that.") from None
    if upstream.proxy_authorization:
        head = head[:-2] + b"proxy-authorization: %b\r\n\r\n" % upstream.proxy_authorization
    return head


def _framing(length: bytes | None, size: int, *, chunked: bool) -> bytes:
    if length is not None:
        return b"content-length: %b\r\n" % length
    if chunked:
        return CHUNKED
    return b"content-length: %d\r\n" % size if size else b""


def refuse_self(call: Call, connection: Connection) -> None:
    """Refuse an upstream address that is the one on which this request came in: it is this proxy.

    Raises:
        UpstreamIsSelf: the addresses are the same.
    """
    server = call.scope.get("server")
    if server is not None and connection.peer == tuple(server)[:2]:
        connection.abort()
        raise own_address()


def own_address() -> UpstreamIsSelf:
    """508: BASE_URL leads back to this proxy."""
    return UpstreamIsSelf(
        "BASE_URL points back at this proxy, so the request would go in a circle. Set BASE_URL to the real API, such as "
        "https://api.z.ai/api/anthropic. (ANTHROPIC_BASE_URL is for clients, not for the proxy.)"
    )
