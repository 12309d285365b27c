"""THE path of a request, from top to bottom: peek, choose, attempt, relay, finish.

Pure ASGI: nothing of FastAPI's stack runs here. Every exchange is opened once and finished once, whatever happens between.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from typing import Protocol

import structlog

from claude_proxy.admission import Admission
from claude_proxy.errors import ProxyError, render
from claude_proxy.exchange import Attempt, Exchange, Failure, Listeners, Outcome
from claude_proxy.protocol.peek import peek
from claude_proxy.protocol.provider import judge, retry_hint
from claude_proxy.protocol.usage import read_answer
from claude_proxy.proxy import headers as h
from claude_proxy.proxy import results_url
from claude_proxy.proxy.answer import Answer
from claude_proxy.proxy.attempt import Upstream, own_address, refuse_self, send_request
from claude_proxy.proxy.call import Call, direct_of
from claude_proxy.proxy.client import Client, ClientGone, ClientStalled, Receive, Scope, Send
from claude_proxy.proxy.count_tokens import CountTokens, looks_missing, missing
from claude_proxy.proxy.deadline import Far
from claude_proxy.proxy.opening import opening, whole
from claude_proxy.proxy.relay import Relay, StreamBroken
from claude_proxy.proxy.target import Target, is_probe, parse
from claude_proxy.routing.retry import Verdict, decide
from claude_proxy.settings import Settings
from claude_proxy.upstream.connection import Connection

KEEP = 1024 * 1024  # bytes of a request body that are kept for the peek and for sending again
KEEP_ALL = 64 * 1024 * 1024  # the same, summed over all exchanges of this process

log = structlog.get_logger("proxy")


class Gate(Protocol):
    """Who may pass, and with how much (`access/`)."""

    def admit(self, scope: Scope) -> Admission:
        """The terms on which a request passes. Raises ProxyError."""

    def body_limit(self, path: str) -> int:
        """Bytes a request body may have at this path (below the prefix)."""


class Forward:
    """The ASGI application below `/api/anthropic`: `serve` is it.

    Args:
        settings: time-outs, switches.
        upstream: where requests go.
        gate: who may pass.
        listeners: who is told.
    """

    def __init__(self, settings: Settings, upstream: Upstream, gate: Gate, listeners: Listeners) -> None:
        self._settings = settings
        self._upstream = upstream
        self._gate = gate
        self._listeners = listeners
        self._count_tokens = CountTokens(settings.count_tokens_memory)
        self._far = Far()
        self._kept = 0
        self._id_base = "cp_" + os.urandom(6).hex()
        self._ids = itertools.count(1)
        self.running = 0

    async def serve(self, scope: Scope, receive: Receive, send: Send, path: bytes) -> None:
        """Serve one request; `path` is its raw path below the prefix."""
        if is_probe(scope["method"], path):
            await answer_probe(scope["method"], send)
            return
        call = self._open(scope, receive, send, path)
        try:
            await self._serve(call, path)
        except asyncio.CancelledError:
            reason = call.caught()
            if reason is None:
                call.exchange.outcome = Outcome.ABORTED
                raise
            await self._end_badly(call, reason)
        except Exception as reason:  # sorted out there
            await self._end_badly(call, reason)
        finally:
            self._finish(call)

    async def _serve(self, call: Call, path: bytes) -> None:
        """The ladder. Leaves through an exception, or with the response relayed whole."""
        exchange = call.exchange
        call.withheld = self._gate.admit(call.scope).withheld
        target = parse(exchange.method, path, call.scope["query_string"])
        if self._is_own(call.scope):
            raise own_address()
        if not self._read_at_once(call):
            await self._read_ahead(call, target)
        self._peek(call, target)
        probing = target.count_tokens and await self._count_tokens.enter(call.loop)
        try:
            connection = await self._attempts(call, target)
            self._release_body(call)
            answer = call.answer = Answer(target, connection.status, connection.fields, self._listeners.taps(exchange))
            first = connection.take() if connection.complete else await opening(call, connection, answer)
            if probing:
                is_missing = looks_missing(connection.status, first, connection.fields.get(b"content-encoding"))
                self._count_tokens.learn(call.loop.time(), is_missing=is_missing)
                probing = False
                if is_missing and connection.status == 400:
                    raise missing()
        finally:
            if probing:
                self._count_tokens.gave_up()
        await self._respond(call, target, connection, answer, first)
        exchange.outcome = Outcome.COMPLETED

    def _is_own(self, scope: Scope) -> bool:
        """Whether a request comes over one of our own upstream connections: then BASE_URL leads in a circle.

        Both ends are compared: a local port alone serves several connections, to different destinations.
        """
        client, server = scope.get("client"), scope.get("server")
        return client is not None and server is not None and (tuple(client), tuple(server)) in self._upstream.pool.own

    def close(self) -> None:
        """Close the upstream connections."""
        self._upstream.pool.close()

    # -- 1: open and peek

    def _open(self, scope: Scope, receive: Receive, send: Send, path: bytes) -> Call:
        direct = direct_of(scope)
        loop = asyncio.get_running_loop() if direct is None else direct.loop
        client = scope.get("client")
        exchange = Exchange(
            f"{self._id_base}{next(self._ids):08x}",
            scope["method"],
            path.decode("latin-1")[:500],
            client[0] if client else "",
            loop.time(),
            time.time(),
        )
        limit = self._gate.body_limit(exchange.path)
        self.running += 1
        call = Call(loop, exchange, scope, Client(receive, limit), send, self._settings, direct, self._far)
        describe(exchange, call.fields)
        self._listeners.exchange_start(exchange)
        return call

    def _read_at_once(self, call: Call) -> bool:
        """Take a body that has come whole already, if the server can give it without being awaited."""
        body = call.body_at_once()
        if body is None:
            return False
        self._keep(call, call.client.took(body, done=True))
        return True

    async def _read_ahead(self, call: Call, target: Target) -> None:
        """Read the body of a Messages call as far as it is kept, of any other its first part.

        One part is read in any case: it tells whether there is a body at all.
        """
        client = call.client
        client.announce(call.fields.get(b"content-length"))
        wanted = KEEP if target.messages or target.count_tokens else 1
        while not client.done and client.size < wanted and (self._kept < KEEP_ALL or not client.size):
            call.deadline.arm("read", self._settings.client_read_timeout)
            self._keep(call, await client.part())
            call.deadline.disarm()

    def _peek(self, call: Call, target: Target) -> None:
        """What the request says of itself, if its body has been read whole."""
        client, exchange = call.client, call.exchange
        exchange.bytes_in = client.size
        if not client.done:
            return
        call.watch_client()
        if (target.messages or target.count_tokens) and b"content-encoding" not in call.fields:
            seen = peek(call.body[0] if len(call.body) == 1 else b"".join(call.body))
            exchange.model, exchange.stream = seen.model, seen.stream

    def _keep(self, call: Call, data: bytes) -> None:
        if data:
            call.body.append(data)
            self._kept += len(data)
            call.kept += len(data)

    # -- 2 and 3: choose and attempt

    async def _attempts(self, call: Call, target: Target) -> Connection:
        """Send the request and await status and headers. The connection is in `call.connection`, also on a failure.

        Raises:
            ProxyError: no answer came; see the tree in errors.py.
        """
        exchange, upstream = call.exchange, self._upstream
        while True:
            attempt = Attempt(upstream.name, call.loop.time())
            exchange.upstream = upstream.name
            exchange.attempts.append(attempt)
            try:
                connection = upstream.pool.take(attempt.started)
                attempt.reused = connection is not None
                if connection is None:
                    connection = await upstream.pool.connect(call.loop)
                    refuse_self(call, connection)
                call.connection = connection
                send_request(call, connection, upstream, target)
                attempt.status = await connection.head()
            except ProxyError as error:
                attempt.failure = Failure("proxy" if error.side == "proxy" else "upstream", error.code, error.message)
                self._listeners.attempt(exchange, attempt)
                if decide(error, tries=len(exchange.attempts), can_resend=bool(call.body) or call.client.done) is Verdict.GIVE_UP:
                    raise
            else:
                call.deadline.disarm()
                attempt.head_at = call.loop.time()
                self._listeners.attempt(exchange, attempt)
                return connection

    def _release_body(self, call: Call) -> None:
        call.body = []
        self._kept -= call.kept
        call.kept = 0

    # -- 4: relay

    async def _respond(self, call: Call, target: Target, connection: Connection, answer: Answer, first: bytes) -> None:
        exchange = call.exchange
        headers = h.response_headers(connection.headers, connection.fields)
        exchange.stream = answer.is_stream
        if b"request-id" in connection.fields:
            exchange.upstream_request_id = _text(connection.fields[b"request-id"])
        if target.batches and self._upstream.credential is not None and self._settings.rewrite_results_url:
            headers, first = await self._rewrite(call, target, connection, headers, first)
        if answer.is_stream and self._settings.accel_buffering and b"x-accel-buffering" not in connection.fields:
            headers.append((b"x-accel-buffering", b"no"))
        if connection.status >= 400 and self._settings.retry_hints:
            headers += _hints(connection.status, headers, first)
        self._listeners.response_start(exchange)
        complete = connection.finished and not answer.guarded
        if complete:
            answer.feed(first)
            self._give_back(call)
            if not call.respond_at_once(connection.status, headers, first):
                await call.respond(connection.status, headers, first)
            return
        await call.start_response(connection.status, headers)
        if answer.is_stream:  # it may last: what is not needed any more does not wait for its end
            call.release_headers()
            connection.release_headers()
        await Relay(call, connection, answer, self._give_back).run(first)

    async def _rewrite(
        self, call: Call, target: Target, connection: Connection, headers: list[h.Header], first: bytes
    ) -> tuple[list[h.Header], bytes]:
        """Point a batch's results_url back at us, where the whole answer is at hand and readable."""
        if not results_url.may_hold(call.exchange.method, target.path, connection.fields):
            return headers, first
        body = await whole(call, connection, first, results_url.LIMIT)
        if body is None:
            return headers, b""
        body = results_url.rewrite(body, results_url.own_base(call.scope))
        headers = [pair for pair in headers if pair[0] != b"content-length"]
        headers.append((b"content-length", b"%d" % len(body)))
        return headers, body

    # -- 5: finish

    async def _end_badly(self, call: Call, reason: Exception) -> None:
        """Answer with an error if there is still time for one; else break the response off."""
        exchange = call.exchange
        if isinstance(reason, StreamBroken):
            return  # outcome and failure are written; not completing the response is the cut
        if isinstance(reason, ClientGone):
            exchange.outcome = Outcome.CANCELLED
            exchange.status = 499  # also after the head: what was sent is in the attempt
            return
        if isinstance(reason, ClientStalled):
            exchange.outcome = Outcome.CLIENT_STALLED
            call.drop_client()
            return
        if not isinstance(reason, ProxyError):
            log.error("bug", request=exchange.id, exc_info=reason)
            reason = ProxyError("The proxy made a mistake (its log says which). Try again, and please report it.")
        exchange.outcome = Outcome.REFUSED if reason.side == "client" else Outcome.FAILED
        exchange.failure = Failure(reason.side, reason.code, reason.message)
        if not call.responded:
            try:
                await self._answer_error(call, reason)
            except asyncio.CancelledError:
                if call.caught() is None:
                    raise  # else the client left, or read nothing, while it was told

    async def _answer_error(self, call: Call, error: ProxyError) -> None:
        answer = render(error, call.exchange.id, hints=self._settings.retry_hints)
        unread = not call.client.done  # then the connection cannot be used again
        if unread and call.scope["http_version"].startswith("1"):
            answer.headers.append((b"connection", b"close"))
        await call.respond(answer.status, answer.headers, b"" if call.exchange.method == "HEAD" else answer.body)

    def _finish(self, call: Call) -> None:
        """Exactly once per exchange, and never awaiting: nothing can interrupt it."""
        exchange = call.exchange
        call.close()
        if call.body:
            self._release_body(call)
        self.running -= 1
        if call.connection is not None:
            self._give_back(call)
        if call.connection is not None:
            call.connection.abort()
        if call.answer is not None:
            error = call.answer.report(exchange).error
            failed = error is not None or exchange.status >= 400
            if failed and exchange.failure is None and exchange.outcome is Outcome.COMPLETED:
                held = self._upstream.credential is not None
                exchange.failure = judge(exchange.status, error, credential_held=held, secrets=self._secrets(call))
        exchange.ended = call.loop.time()
        self._listeners.exchange_end(exchange)

    def _give_back(self, call: Call) -> None:
        """Let others use the upstream connection, or close it: its answer is complete, and the client may be slow to take it."""
        connection = call.connection
        if connection is not None and connection.finished and call.body_sent:
            call.connection = None
            self._upstream.pool.release(connection, call.loop.time())

    def _secrets(self, call: Call) -> list[str]:
        """The credentials of this exchange: an upstream that refuses one may quote it."""
        values = [call.fields[name] for name in h.CREDENTIALS if name in call.fields]
        if self._upstream.credential is not None:
            values.append(self._upstream.credential[1])
        words = [value.rpartition(b" ")[2].decode("latin-1") for value in values]
        return [word for word in words if len(word) >= 6]  # shorter ones occur by chance


def describe(exchange: Exchange, fields: dict[bytes, bytes]) -> None:
    """What Claude Code's headers say of a request (FACTS section 1)."""
    if b"x-claude-code-session-id" in fields:
        exchange.session = _text(fields[b"x-claude-code-session-id"])
    if b"x-claude-code-agent-id" in fields:
        exchange.agent = _text(fields[b"x-claude-code-agent-id"])
    if b"x-claude-code-request-class" in fields:
        exchange.request_class = _text(fields[b"x-claude-code-request-class"])


async def answer_probe(method: str, send: Send) -> None:
    """Claude Code's `HEAD <base>` and `HEAD <base>/api/hello`: somebody is there."""
    body = b'{"message":"claude-proxy is here"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body, "more_body": False})


def _hints(status: int, headers: list[h.Header], body: bytes) -> list[h.Header]:
    """`x-should-retry: false` for an error that we know lasts, where the upstream gave no hint of its own."""
    if h.get(headers, b"x-should-retry") is not None or h.get(headers, b"retry-after") is not None:
        return []
    if h.get(headers, b"content-encoding") is not None:
        return []
    hint = retry_hint(judge(status, read_answer(body).error, credential_held=False))
    return [] if hint is None else [(b"x-should-retry", b"true" if hint else b"false")]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")[:100]
