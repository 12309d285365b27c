"""What one exchange holds while it runs, and the one way to interrupt it.

Timers and the watcher for a leaving client never act themselves: they give a reason to `interrupt`, which cancels the
exchange's task wherever it waits; `Forward` turns that back into the reason. So no rung of the ladder has to think of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from claude_proxy.errors import BodyTimeout, UpstreamTimeout
from claude_proxy.exchange import Exchange
from claude_proxy.proxy.answer import Answer
from claude_proxy.proxy.client import Client, ClientGone, ClientStalled, Message, Scope, Send
from claude_proxy.proxy.deadline import Deadline, Far
from claude_proxy.proxy.headers import CREDENTIALS
from claude_proxy.settings import Settings
from claude_proxy.upstream.connection import Connection

EXTENSION = "claude_proxy"  # what our server has beyond ASGI: docs/serve.md, "ASGI extension"
NONE: Mapping[str, Any] = {}
NOTHING: frozenset[bytes] = frozenset()
WATCH_AFTER = 0.03  # seconds after which an exchange is worth a task that watches for the client's leaving


class Direct(Protocol):
    """What our server offers for the exchange that it runs, beyond ASGI (docs/serve.md, "ASGI extension").

    `body` gives the request's whole body, if it is there already. `respond` sends a whole response, `write` a piece of a body
    that is not the last, both at once and without a task: or they return False and send nothing, while the client reads
    slowly and after it has left. `watch` names what is to be called when the client leaves. `fields` are `headers` by name.
    """

    loop: asyncio.AbstractEventLoop
    headers: list[tuple[bytes, bytes]]
    fields: dict[bytes, bytes]

    def watch(self, leaving: Callable[[], None] | None, /) -> None: ...
    def body(self) -> bytes | None: ...
    def respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool: ...
    def write(self, body: bytes) -> bool: ...
    def abort(self) -> None: ...


def direct_of(scope: Scope) -> Direct | None:
    """What our server offers for a request; None under another server."""
    extension = scope.get("extensions", NONE).get(EXTENSION)
    if extension is None:
        return None
    direct: Direct = extension["exchange"]()
    return direct


class Call:
    """One running exchange.

    Attributes:
        answer: what is known of the response, once there is one.
        body: the parts of the request body that have been read, until the upstream answers.
        fields: the request's headers by name, the last of several.
        fields_checked: whether the server has refused line breaks in them (FACTS section 7 says which let them pass).
        kept: bytes in `body`, as counted against what all exchanges together may keep.
        connection: the upstream connection of the running attempt.
        responded: whether the response's head has gone to the client: the point of no return.
        reason: why the exchange was interrupted, if it was.
        upload: the task that sends the rest of a body; `uploaded` once it has sent all of it.
    """

    __slots__ = (
        "_direct", "_lasting", "_live", "_patience", "_send", "_task", "_unsent", "_watch", "answer",
         "body", "client", "connection", "deadline", "exchange", "fields",
        "fields_checked", "headers", "kept", "loop", "reason", "responded", "scope", "settings", "upload", "uploaded", "withheld",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        exchange: Exchange,
        scope: Scope,
        client: Client,
        send: Send,
        settings: Settings,
        direct: Direct | None,
        far: Far,
    ) -> None:
        self.exchange = exchange
        self.scope = scope
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.client = client
        self.settings = settings
        self.loop = loop
        self._direct = direct
        # Ours has refused what no field may hold; what stands between may have put other headers in place of those.
        self.fields_checked = direct is not None and direct.headers is self.headers
        self.fields = direct.fields if direct is not None and self.fields_checked else dict(self.headers)
        self.deadline = Deadline(loop, self._expired, None if direct else self._lasts, WATCH_AFTER, far)
        self.body: list[bytes] = []
        self.answer: Answer | None = None
        self.connection: Connection | None = None
        self.responded = False
        self.kept = 0
        self.reason: Exception | None = None
        self.withheld = NOTHING
        self._send = send
        self._task = asyncio.current_task(loop)
        self._live = True
        self._unsent = 0
        self.upload: asyncio.Task[None] | None = None
        self.uploaded = False
        self._watch: asyncio.Task[None] | None = None
        self._lasting = False
        self._patience = settings.client_write_timeout
        if direct is not None:
            direct.watch(self._client_left)

    def body_at_once(self) -> bytes | None:
        """The request's whole body, if it has come already and the server can give it without being awaited."""
        return self._direct.body() if self._direct is not None else None

    # -- towards the client

    async def respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a whole response; waits as `send_body` does."""
        await self.start_response(status, headers)
        await self.send_body(body, more=False)

    def respond_at_once(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """The same without waiting; False, and nothing is sent, where that cannot be."""
        if self._direct is None or not self._direct.respond(status, headers, body):
            return False
        exchange = self.exchange
        self.responded = True
        exchange.status = status
        exchange.bytes_out = len(body)
        exchange.first_byte = self.loop.time() - exchange.started if body else None
        return True

    async def start_response(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send status and headers: from here on there is no other answer. Waits as `send_body` does."""
        self.responded = True
        self.deadline.arm("send", self._patience)
        self.exchange.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send_body(self, data: bytes, *, more: bool) -> None:
        """Send bytes to the client; waits while it is slow, at most CLIENT_WRITE_TIMEOUT."""
        now = self.loop.time()
        exchange = self.exchange
        exchange.bytes_out += len(data)
        if exchange.first_byte is None and data:
            exchange.first_byte = now - exchange.started
        self.deadline.arm_at(now + self._patience, "send")
        message: Message = {"type": "http.response.body", "body": data, "more_body": more}
        await self._send(message)

    def way(self) -> Callable[[bytes], bool] | None:
        """What sends bytes that are not the last without waiting, where the server has it; it returns False and sends nothing
        while the client reads slowly, and after it has left."""
        return None if self._direct is None else self._direct.write

    def release_headers(self) -> None:
        """Let go of the request's headers, but for the credentials: an error in the answer may quote them."""
        self.fields = {name: self.fields[name] for name in CREDENTIALS if name in self.fields}
        if self._direct is not None:
            self.headers.clear()
            self._direct.fields = {}

    def drop_client(self) -> None:
        """Close the client's connection without waiting until it has read what was sent."""
        if self._direct is not None:
            self._direct.abort()

    # -- interruption

    def interrupt(self, reason: Exception) -> None:
        """End the exchange with `reason`, wherever it waits."""
        if self._live and self.reason is None and self._task is not None:
            self.reason = reason
            self._task.cancel()

    def caught(self) -> Exception | None:
        """Called where the cancellation arrived: the reason if it was ours, None if somebody else cancelled us."""
        reason, self.reason = self.reason, None
        if reason is not None and self._task is not None:
            self._task.uncancel()
        return reason

    def watch_client(self) -> None:
        """Notice when the client leaves, once the exchange has lasted a little; what comes of the body is thrown away."""
        if self._direct is None and self._lasting and self._watch is None and self._live:
            self._watch = self.loop.create_task(self._await_leaving())

    def await_head(self, connection: Connection) -> None:
        """The request has been handed over: bound the time until it is written, then until the answer's head."""
        self._unsent = connection.unsent
        if self._unsent:
            self.deadline.arm("write", self.settings.write_timeout)
        else:
            self.deadline.arm("head", self.settings.response_head_timeout)

    @property
    def body_sent(self) -> bool:
        """Whether the whole body has been handed to the upstream connection."""
        return self.client.done if self.upload is None else self.uploaded

    def close(self) -> None:
        """Nothing interrupts any more; timers and tasks beside the exchange end."""
        self._live = False
        self.deadline.close()
        if self._direct is not None:
            self._direct.watch(None)
        if self.upload is not None:
            self.upload.cancel()
        if self._watch is not None:
            self._watch.cancel()

    def _lasts(self) -> None:
        """The exchange has lasted WATCH_AFTER: now a task that watches for the client's leaving is worth its price."""
        self._lasting = True
        if self.client.done:
            self.watch_client()

    async def _await_leaving(self) -> None:
        await self.client.gone()
        self._client_left()

    def _client_left(self) -> None:
        self.interrupt(ClientGone())

    def _expired(self, name: str) -> None:
        if name == "silence" and self.connection is not None:
            self.connection.nudge()
        elif name == "send":
            self.interrupt(ClientStalled())
        elif name == "read":
            self.interrupt(read_timeout(self.settings))
        elif name == "write" and self.connection is not None:
            if self.connection.unsent >= self._unsent:
                self.interrupt(write_timeout(self.settings))
            else:
                self.await_head(self.connection)
        elif name == "head":
            self.interrupt(head_timeout(self.settings))


def read_timeout(settings: Settings) -> BodyTimeout:
    """The client's body stopped coming."""
    return BodyTimeout(
        f"The request body stopped coming for {settings.client_read_timeout:g} s. Send it again "
        "(CLIENT_READ_TIMEOUT at the proxy sets the limit)."
    )


def write_timeout(settings: Settings) -> UpstreamTimeout:
    """The upstream stopped taking the request."""
    return UpstreamTimeout(
        f"The upstream stopped taking the request for {settings.write_timeout:g} s. It may be overloaded; try again "
        "(WRITE_TIMEOUT at the proxy sets the limit).",
        code="write_timeout",
    )


def head_timeout(settings: Settings) -> UpstreamTimeout:
    """The upstream took the request and did not answer."""
    return UpstreamTimeout(
        f"The upstream took the request and sent no answer within {settings.response_head_timeout:g} s. It may be "
        "overloaded; try again (RESPONSE_HEAD_TIMEOUT at the proxy sets the limit).",
        code="response_head_timeout",
    )
