"""THE path of a request, from top to bottom: open, peek, choose, attempt, relay, finish.

Pure ASGI: nothing of FastAPI's stack runs here. Every exchange is opened once and finished once, whatever happens between.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import structlog

from claude_proxy.cleaning import Cleaned, clean
from claude_proxy.errors import NotFound, ProxyError, render
from claude_proxy.exchange import (
    ABORTED,
    BATCHES,
    CANCELLED,
    CLIENT_STALLED,
    COMPLETED,
    COUNT_TOKENS,
    ENDED,
    FAILED,
    MESSAGES,
    OTHER,
    REFUSED,
    WAITING,
    Exchange,
    Failure,
    Listeners,
)
from claude_proxy.ids import Ids, encode
from claude_proxy.protocol.judge import judge
from claude_proxy.protocol.peek import peek, peek_prefix
from claude_proxy.proxy import edits
from claude_proxy.proxy import headers as h
from claude_proxy.proxy.answer import Answer
from claude_proxy.proxy.attempt import Result, attempt, clear_the_way, own_address
from claude_proxy.proxy.call import Call
from claude_proxy.proxy.client import ClientGone, ClientStalled, Receive, Scope, Send
from claude_proxy.proxy.config import Config
from claude_proxy.proxy.deadline import Timers
from claude_proxy.proxy.mistaken import doubled
from claude_proxy.proxy.relay import Relay, StreamBroken
from claude_proxy.proxy.request import Shelf
from claude_proxy.proxy.results_url import own_base
from claude_proxy.proxy.target import is_probe, parse
from claude_proxy.proxy.turns import Turns
from claude_proxy.routing.retry import AGAIN, GIVE_UP, RELAY, decide

log = structlog.get_logger("proxy")


class Forward:
    """The ASGI application below `/api/anthropic`, which is its `serve`.

    Args:
        config: settings, gate and upstreams; another value may be assigned at any time, for later exchanges.
        listeners: notified of each exchange.
        make_id: makes the ids of exchanges.
        turns: the queue; without one every request is sent at once (QUEUE=off).

    Attributes:
        running: how many exchanges have been opened and not finished.
    """

    def __init__(
        self, config: Config, listeners: Listeners, make_id: Callable[[], int] | None = None, turns: Turns | None = None
    ) -> None:
        self.config = config
        self.turns = turns
        self.running = 0
        self._ended: list[Exchange] = []
        self._listeners = listeners
        self._timers = Timers()
        self._shelf = Shelf(config.settings.max_kept)
        self._make_id = make_id or Ids()

    async def serve(self, scope: Scope, receive: Receive, send: Send, path: bytes) -> None:
        """Serve one request; `path` is its raw path below the prefix."""
        if scope["method"] != "POST" and is_probe(scope["method"], path):
            await answer_probe(scope["method"], send)
            return
        call = self._open(scope, receive, send, path)
        try:
            await self._serve(call, path)
        except asyncio.CancelledError:
            reason = call.caught()
            if reason is None:
                call.exchange.outcome = ABORTED
                raise
            await self._end_badly(call, reason)
        except Exception as reason:  # any of them: `_end_badly` tells them apart
            await self._end_badly(call, reason)
            reason.__traceback__ = None  # whose frames hold the attempt's result, which holds the exception: a reference cycle
        finally:
            self._finish(call)

    async def _serve(self, call: Call, path: bytes) -> None:
        """The steps, in order. Returns once the answer has been relayed; everything else is an exception."""
        self._admit(call, path)
        await self._read(call)
        self._peek(call)
        call.tap = self._listeners.tap(call.exchange)
        kind = call.request.target.kind
        turns = self.turns if kind is MESSAGES else None
        if turns is None:  # else the account is chosen when the request's turn comes
            call.use(call.config.choose(call) if self.turns is None else self.turns.home(call))
        if kind is COUNT_TOKENS:
            result = await edits.counted(call, self._attempts)
        else:
            result = await self._attempts(call, turns)
        await self._respond(call, result)
        if call.exchange.outcome is None:
            call.exchange.outcome = COMPLETED

    def close(self) -> None:
        """Close the upstream connections."""
        if self.turns is not None:
            self.turns.close()
        self.config.close()

    # -- 1: open and admit

    def _open(self, scope: Scope, receive: Receive, send: Send, path: bytes) -> Call:
        client = scope.get("client")
        number = self._make_id()
        exchange = Exchange(
            encode(number),
            scope["method"],
            _path[path],
            client[0] if client else "",
            0.0,
            time.time(),
        )
        exchange.number = number
        self.running += 1
        call = Call(self.config, self._listeners, exchange, scope, receive, send, self._timers, self._shelf)
        exchange.started = call.loop.time()
        try:
            describe(exchange, call.request.fields)
        except Exception as error:  # it is for the record only, and must not cost the exchange
            self._listeners.contain("describe", error)
        self._listeners.exchange_start(exchange)
        return call

    def _admit(self, call: Call, path: bytes) -> None:
        scope, request = call.scope, call.request
        admission = call.config.gate.admit(scope)
        request.withheld, call.exchange.key = admission.withheld, admission.key
        request.target = target = parse(call.exchange.method, path, scope["query_string"])
        call.exchange.kind = target.kind
        if target.kind is OTHER and (sentence := doubled(target.path, own_base(scope).decode("latin-1"))) is not None:
            raise NotFound(sentence, code="path_doubled")
        client, server = scope.get("client"), scope.get("server")
        if client is not None and server is not None and call.config.owns(tuple(client), tuple(server)):
            raise own_address()

    # -- 2: read and peek

    async def _read(self, call: Call) -> None:
        """Read the body: of a Messages call as much as is kept, of any other its first part.

        One part is always read, because it tells whether there is a body at all.
        """
        client, request = call.client, call.request
        body = call.body_at_once()
        if body is not None:
            request.keep(client.took(body, done=True))
            return
        client.announce(request.fields.get(b"content-length"))
        wanted = request.target.kind in (MESSAGES, COUNT_TOKENS)
        while not client.done and (not client.size or (wanted and request.has_room)):
            call.deadline.arm("read", call.settings.client_read_timeout)
            request.keep(await client.part())
            call.deadline.disarm()

    def _peek(self, call: Call) -> None:
        """Read model and stream from the body, or from its beginning if it was not kept whole."""
        client, exchange, request = call.client, call.exchange, call.request
        exchange.bytes_in = client.size
        if client.done:
            call.watch_client()
        if request.target.kind in (MESSAGES, COUNT_TOKENS) and b"content-encoding" not in request.fields:
            try:
                seen = peek(request.whole()) if client.done else peek_prefix(request.whole())
                exchange.model, exchange.stream = seen.model and _model[seen.model], seen.stream
            except Exception as error:  # as in `_open`
                self._listeners.contain("peek", error)

    # -- 3: attempts

    async def _attempts(self, call: Call, turns: Turns | None = None) -> Result:
        """Try until there is an answer to pass on.

        Args:
            turns: the queue, for a request that takes turns.

        Raises:
            ProxyError: there is none; see the tree in errors.py.
        """
        exchange, tries = call.exchange, 0
        while True:
            exchange.state = WAITING
            if turns is not None:
                await turns.take(call)
            exchange.upstream, exchange.account = call.upstream.name, call.account.name
            result = await attempt(call)
            stale = result.stale
            tries += stale
            can_resend = call.request.kept == call.client.size
            verdict = decide(result.kind, stale=stale, tries=tries, can_resend=can_resend)
            if verdict is not AGAIN and turns is not None and turns.settle(call, result):
                drop_answer(call, result)
                verdict = AGAIN
            if verdict is RELAY:
                call.request.release_body()
                call.answer = result.answer
                return result
            if verdict is GIVE_UP:
                assert result.error is not None
                raise result.error
            await clear_the_way(call)

    # -- 4: edit and relay

    async def _respond(self, call: Call, result: Result) -> None:
        exchange, response, answer = call.exchange, result.response, result.answer
        assert response is not None
        assert answer is not None
        exchange.stream = answer.is_stream
        if b"request-id" in response.fields:
            exchange.upstream_request_id = clean(response.fields[b"request-id"], 100)
        if call.request.target.kind is BATCHES:
            headers, first = await edits.edited_batch(call, result)
        else:
            headers, first = edits.edited(call, result)
        self._listeners.response_start(exchange)
        if call.tap is not None:
            call.tap.on_response(response.status, response.headers)
        if response.finished and not answer.is_stream:
            answer.feed(first)
            answer.finish()
            call.give_back()
            if not call.reply.respond_at_once(response.status, headers, first):
                await call.reply.respond(response.status, headers, first)
            return
        await call.reply.start(response.status, headers)
        if answer.is_stream:  # it may last long: drop now what is no longer needed
            call.release_headers()
            response.release_headers()
        await Relay(call, response, answer).run(first)

    # -- 5: finish

    async def _end_badly(self, call: Call, reason: Exception) -> None:
        """Answer with an error if nothing has been sent yet; otherwise break the response off."""
        exchange = call.exchange
        if isinstance(reason, StreamBroken):
            return  # outcome and failure are set; leaving the response incomplete is the cut
        if isinstance(reason, ClientGone):
            exchange.outcome = CANCELLED
            exchange.status = 499  # also after the head, whose status is in the attempt
            return
        if isinstance(reason, ClientStalled):
            exchange.outcome = CLIENT_STALLED
            call.reply.drop()
            return
        if not isinstance(reason, ProxyError):
            log.error("bug", request=exchange.id, exc_info=reason)
            reason = ProxyError("The proxy made a mistake (its log says which). Try again, and please report it.")
        exchange.outcome = REFUSED if reason.side == "client" else FAILED
        exchange.failure = Failure(reason.side, reason.code, reason.message)
        if not call.reply.started:
            try:
                await self._answer_error(call, reason)
            except asyncio.CancelledError:
                if call.caught() is None:
                    raise  # else the client disconnected or stalled while the error was sent

    async def _answer_error(self, call: Call, error: ProxyError) -> None:
        answer = render(error, call.exchange.id, hints=call.settings.retry_hints)
        unread = not call.client.done  # then the connection cannot be used again
        if unread and call.scope["http_version"].startswith("1"):
            answer.headers.append((b"connection", b"close"))
        body = b"" if call.exchange.method == "HEAD" else answer.body
        if not call.reply.respond_at_once(answer.status, answer.headers, body):
            await call.reply.respond(answer.status, answer.headers, body)

    def _finish(self, call: Call) -> None:
        """Runs exactly once per exchange, and never awaits, so nothing can interrupt it."""
        exchange = call.exchange
        call.close()
        call.request.release_body()
        self.running -= 1
        if call.connection is not None:
            call.give_back()
            if call.connection is not None:
                call.connection.abort()
        call.upload = None  # a cancelled task keeps its frames alive, and with them the call
        try:
            self._report(call)
        except Exception as error:  # the record must be written all the same
            self._listeners.contain("report", error)
        if self.turns is not None:
            try:
                self.turns.end(call)
            except Exception as error:  # as above: a fault of the queue must not cost the record
                self._listeners.contain("queue", error)
        exchange.state = ENDED
        exchange.ended = call.loop.time()
        if call.tap is not None:
            call.tap.on_end(exchange)
        self._ended.append(exchange)
        if len(self._ended) == 1:
            call.loop.call_soon(self.tell_ended)

    def tell_ended(self) -> None:
        """Tell the listeners of the exchanges that have ended in this event loop iteration: code that runs several times in a row
        is in the processor's caches, which saves a twelfth of an exchange's CPU time under load.
        """
        ended, self._ended = self._ended, []
        self._listeners.exchange_end(*ended)

    def _report(self, call: Call) -> None:
        """Copy what the answer says into the exchange, and judge whose failure an error in it is."""
        exchange, answer = call.exchange, call.answer
        if answer is None:
            return
        answer.report(exchange)
        error = answer.error
        failed = error is not None or exchange.status >= 400
        if failed and exchange.failure is None and exchange.outcome is COMPLETED:
            exchange.failure = failure_in(call, answer, exchange.status)


def failure_in(call: Call, answer: Answer, status: int) -> Failure | None:
    """Judge an answer whose bytes have been read; None if it is not an error."""
    return judge(
        status,
        answer.error,
        provider=call.upstream.provider,
        credential_held=call.account.held,
        secrets=secrets(call),
        headers=answer.fields,
    )


def drop_answer(call: Call, result: Result) -> None:
    """Keep the upstream's answer from the client, because another attempt follows; the attempt's record says what it was."""
    if result.response is not None and result.answer is not None:
        result.answer.feed(result.first)
        result.answer.finish()
        call.exchange.attempts[-1].failure = failure_in(call, result.answer, result.response.status)
    call.give_back()
    if call.connection is not None:
        call.connection.abort()
        call.connection = None


def secrets(call: Call) -> list[str]:
    """The credentials of an exchange, which an upstream that refuses them may quote."""
    values = [call.request.fields[name] for name in h.CREDENTIALS if name in call.request.fields]
    if call.account.credential is not None:
        values.append(call.account.credential[1])
    words = [value.rpartition(b" ")[2].decode("latin-1") for value in values]
    return [word for word in words if len(word) >= 6]  # shorter ones occur by chance


_path, _model, _name = Cleaned(500), Cleaned(200), Cleaned(100)
_SAYING = (
    *(b"user-agent", b"x-claude-code-session-id", b"x-claude-code-request-class"),
    *(b"x-claude-code-agent-id", b"x-claude-code-parent-agent-id"),
)


def describe(exchange: Exchange, fields: Mapping[bytes, bytes]) -> None:
    """Note what the headers of Claude Code and the SDKs say about a request (docs/facts.md, "Claude Code")."""
    user_agent, session, class_, agent, parent = map(fields.get, _SAYING)
    if user_agent is not None:
        exchange.user_agent = _name[user_agent]
    if session is not None:
        exchange.session = _name[session]
    if class_ is not None:
        exchange.request_class = _name[class_]
    if agent is not None:
        exchange.agent = _name[agent]
    if parent is not None:
        exchange.parent_agent = _name[parent]


async def answer_probe(method: str, send: Send) -> None:
    """Answer Claude Code's `HEAD <base>` and `HEAD <base>/api/hello`, which ask whether anything is listening."""
    body = b'{"message":"claude-proxy is here"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body, "more_body": False})
