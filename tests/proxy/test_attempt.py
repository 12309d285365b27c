"""An attempt alone, over scripted connections: what comes of it, and what the retry table makes of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from claude_proxy.access.gate import Gate
from claude_proxy.access.origin import OriginRules
from claude_proxy.errors import BadResponse, ConnectFailed, ConnectionLost, ProxyError, Unavailable
from claude_proxy.exchange import Attempt, Exchange, Failure, Listener, Listeners, Outcome
from claude_proxy.proxy.attempt import attempt
from claude_proxy.proxy.call import Call
from claude_proxy.proxy.config import Config, Upstream
from claude_proxy.proxy.deadline import Timers
from claude_proxy.proxy.forward import Forward
from claude_proxy.proxy.request import Shelf
from claude_proxy.proxy.target import parse
from claude_proxy.routing.retry import MAX_STALE, Kind
from claude_proxy.settings import load
from claude_proxy.upstream.dial import parse_origin

STALE = ConnectionLost("closed before anything was written", code="stale_connection")
STREAM = {b"content-type": b"text/event-stream"}


class FakeConnection:
    """A connection that answers as it is told."""

    peer = ("192.0.2.1", 443)
    unsent = 0

    def __init__(
        self, status: int = 200, fields: dict[bytes, bytes] | None = None, body: bytes = b"{}", *,
        on_send: ProxyError | None = None, on_head: ProxyError | None = None, broken: ProxyError | None = None,
    ) -> None:  # fmt: skip
        self.status = 0
        self.fields = fields or {b"content-type": b"application/json"}
        self.headers = list(self.fields.items())
        self.broken: ProxyError | None = None
        self.passing: Callable[[bytes], bool] | None = None
        self.sent = b""
        self.aborted = False
        self._status, self._body, self._breaks = status, body, broken
        self._on_send, self._on_head = on_send, on_head

    def send(self, head: bytes, body: bytes, *, is_head: bool = False) -> None:
        if self._on_send is not None:
            raise self._on_send
        self.sent = head + body

    async def head(self) -> int:
        if self._on_head is not None:
            raise self._on_head
        self.status = self._status
        self.broken = None if self._body else self._breaks
        return self.status

    @property
    def complete(self) -> bool:
        return self.status > 0 and self._breaks is None

    @property
    def finished(self) -> bool:
        return not self._body and self._breaks is None

    def take(self) -> bytes:
        body, self._body = self._body, b""
        self.broken = self._breaks
        return body

    async def read(self) -> bytes | None:
        if self._breaks is not None:
            raise self._breaks
        return b""

    def nudge(self) -> None: ...
    def release_headers(self) -> None: ...

    def abort(self) -> None:
        self.aborted = True


class FakePool:
    """Hands out what it is given: connections, as pooled or as new ones, or the reason why there is none."""

    def __init__(self, *given: FakeConnection | ProxyError, pooled: bool = False) -> None:
        self.origin = parse_origin("https://api.example/base", {})
        self.own: set[Any] = set()
        self.released: list[FakeConnection] = []
        self._given: Iterator[FakeConnection | ProxyError] = iter(given)
        self._pooled = pooled

    def take(self, _: float) -> FakeConnection | None:
        found = next(self._given) if self._pooled else None
        assert not isinstance(found, ProxyError)
        return found

    async def connect(self, _: Any) -> FakeConnection:
        found = next(self._given)
        if isinstance(found, ProxyError):
            raise found
        return found

    def release(self, connection: FakeConnection, _: float) -> None:
        self.released.append(connection)


class Told(Listener):
    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.ended: list[Exchange] = []

    def on_attempt(self, exchange: Exchange, attempt: Attempt) -> None:
        self.attempts.append(attempt)

    def on_exchange_end(self, exchange: Exchange) -> None:
        self.ended.append(exchange)


def scope() -> dict[str, Any]:
    return {
        "type": "http", "http_version": "1.1", "method": "POST", "query_string": b"", "scheme": "http",
        "client": ("127.0.0.1", 5000), "server": ("127.0.0.1", 3000), "headers": [(b"content-length", b"2")],
    }  # fmt: skip


def config_with(pool: FakePool) -> Config:
    settings = load({}).settings
    fake: Any = pool
    return Config(settings, Gate(settings, OriginRules(), lambda: False), (Upstream("default", fake, None),))


def call_with(config: Config, listeners: Listeners) -> Call:
    """A whole request that has been read."""

    async def nothing(*_: Any) -> Any:
        raise AssertionError("the body has been read, and nothing is answered here")

    exchange = Exchange("cp_1", "POST", "/v1/messages", "127.0.0.1", 0.0, 0.0)
    call = Call(config, listeners, exchange, scope(), nothing, nothing, Timers(), Shelf(1 << 20))
    call.request.target = parse("POST", b"/v1/messages", b"")
    call.request.keep(call.client.took(b"{}", done=True))
    return call


async def tried(pool: FakePool) -> tuple[Any, Call, Told]:
    """One attempt of a whole request: its result, the call, and what listeners were told."""
    told = Told()
    call = call_with(config_with(pool), Listeners([told]))
    call.account = call.config.choose(call)
    call.upstream = call.account.upstream
    try:
        return await attempt(call), call, told
    finally:
        call.close()


async def test_the_chosen_account_s_credential_is_sent_and_no_other() -> None:
    """Also where it is not the first of its upstream."""
    connection = FakeConnection()
    pool: Any = FakePool(connection)
    upstream = Upstream("work", pool)
    upstream.hold("first", (b"authorization", b"Bearer sk-first"))
    second = upstream.hold("second", (b"x-api-key", b"sk-second"))
    call = call_with(Config(load({}).settings, Gate(load({}).settings, OriginRules(), lambda: False), (upstream,)), Listeners())
    call.request.headers.append((b"authorization", b"Bearer sk-client"))
    call.account, call.upstream = second, upstream
    try:
        await attempt(call)
    finally:
        call.close()
    assert b"x-api-key: sk-second\r\n" in connection.sent
    assert not any(other in connection.sent for other in (b"sk-first", b"sk-client"))
    assert call.exchange.attempts[0].account == "second"


@pytest.mark.parametrize(
    ("pool", "kind"),
    [
        (FakePool(FakeConnection()), Kind.ANSWERED),
        (FakePool(FakeConnection(fields=STREAM, body=b"event: ping\ndata: {}\n\n")), Kind.ANSWERED),
        (FakePool(FakeConnection(404)), Kind.REFUSED),
        (FakePool(FakeConnection(529)), Kind.REFUSED),
        (FakePool(ConnectFailed("no route")), Kind.NOT_SENT),
        (FakePool(Unavailable("full")), Kind.NOT_SENT),
        (FakePool(FakeConnection(on_send=STALE), pooled=True), Kind.NOT_SENT),
        (FakePool(FakeConnection(on_head=STALE), pooled=True), Kind.NOT_SENT),
        (FakePool(FakeConnection(on_head=ConnectionLost("gone"))), Kind.FAILED),
        (FakePool(FakeConnection(on_head=BadResponse("no HTTP"))), Kind.FAILED),
        (FakePool(FakeConnection(body=b"", broken=BadResponse("a bad chunk"))), Kind.FAILED),
        (FakePool(FakeConnection(fields=STREAM, body=b"", broken=ConnectionLost("cut"))), Kind.BROKE_OFF),
    ],
)
async def test_what_comes_of_an_attempt(pool: FakePool, kind: Kind) -> None:
    result, call, told = await tried(pool)
    assert result.kind is kind
    assert (result.response is None) == (result.error is not None) == (kind in (Kind.NOT_SENT, Kind.FAILED))
    (record,) = call.exchange.attempts
    assert told.attempts == [record]
    assert (record.failure is None) == (result.error is None)


async def test_a_shortage_of_ours_is_not_held_against_the_upstream() -> None:
    _, call, _ = await tried(FakePool(Unavailable("no descriptors", code="out_of_descriptors")))
    assert call.exchange.attempts[0].failure == Failure("proxy", "out_of_descriptors", "no descriptors")


async def through(pool: FakePool) -> tuple[list[Any], Exchange]:
    """A whole request through the path: what went to the client, and the record."""
    told, sent = Told(), list[Any]()
    forward = Forward(config_with(pool), Listeners([told]))

    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await forward.serve(scope(), receive, send, b"/v1/messages")
    assert forward.running == 0
    forward.tell_ended()
    return sent, told.ended[0]


async def test_stale_connections_are_replaced_until_one_is_good() -> None:
    connections = [FakeConnection(on_head=STALE), FakeConnection(on_send=STALE), FakeConnection()]
    pool = FakePool(*connections, pooled=True)
    sent, exchange = await through(pool)
    assert [message.get("status") for message in sent] == [200, None]
    assert exchange.outcome is Outcome.COMPLETED
    assert [one.failure and one.failure.kind for one in exchange.attempts] == ["stale_connection", "stale_connection", None]
    assert pool.released == connections[2:]


async def test_but_not_for_ever() -> None:
    sent, exchange = await through(FakePool(*[FakeConnection(on_send=STALE)] * (MAX_STALE + 1), pooled=True))
    assert sent[0]["status"] == 502
    assert len(exchange.attempts) == MAX_STALE + 1


async def test_what_was_written_is_not_sent_again() -> None:
    lost = FakeConnection(on_head=ConnectionLost("gone"))
    sent, exchange = await through(FakePool(lost, FakeConnection()))
    assert sent[0]["status"] == 502
    assert len(exchange.attempts) == 1
    assert lost.aborted


async def test_a_reload_does_not_touch_an_exchange_that_runs() -> None:
    """One configuration is taken for the whole exchange."""
    first, second = FakePool(FakeConnection(body=b'{"from":"first"}')), FakePool(FakeConnection(body=b'{"from":"second"}'))
    forward = Forward(config_with(first), Listeners())
    bodies: list[bytes] = []

    async def receive() -> Any:
        forward.config = config_with(second)  # while the request is still being read
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Any) -> None:
        bodies.append(message.get("body", b""))

    for _ in range(2):
        await forward.serve(scope(), receive, send, b"/v1/messages")
    assert [body for body in bodies if body] == [b'{"from":"first"}', b'{"from":"second"}']
