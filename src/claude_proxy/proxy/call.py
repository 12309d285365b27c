"""The state of one exchange while it runs, and the one way to interrupt it.

Timers and the watcher for client disconnects never act themselves: they pass a reason to `interrupt`, which cancels the
exchange's task wherever it is waiting, and `Forward` turns the cancellation back into the reason. So the steps of the path
need no checks of their own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from claude_proxy.errors import BodyTimeout, UpstreamError, UpstreamTimeout
from claude_proxy.exchange import Exchange, Listeners, Tap
from claude_proxy.proxy.answer import Answer
from claude_proxy.proxy.client import Client, ClientGone, ClientStalled, Receive, Scope, Send
from claude_proxy.proxy.config import Account, Config, Upstream
from claude_proxy.proxy.deadline import Deadline, Timers
from claude_proxy.proxy.direct import direct_of
from claude_proxy.proxy.reply import Reply
from claude_proxy.proxy.request import Request, Shelf
from claude_proxy.settings import Settings
from claude_proxy.upstream.connection import Connection

if TYPE_CHECKING:
    from claude_proxy.proxy.turns import Choice, Turn
    from claude_proxy.routing.passing import Passed

WATCH_AFTER = 0.03  # seconds after which an exchange gets a task that watches for a disconnect


class Call:
    """One running exchange.

    Attributes:
        config: the configuration it began with, whatever is reloaded meanwhile; `settings` are its settings.
        listeners: notified of what happens in it.
        client: reads the request body and notices a disconnect.
        request, reply: the client's request, and the response to it.
        deadline: the wait that is running, if any.
        account, upstream: where the request goes, once chosen; `connection` is the running attempt's.
        answer: what is known about the response, once there is one.
        tap: sees the bytes, if there is one.
        turn: its place in the queue, if it needs one; `passed` while it has none, because nothing held it back.
        upload: the task that sends the rest of a body; `uploaded` once it has sent all of it.
    """

    __slots__ = (
        "_direct",
        "_lasts_timer",
        "_live",
        "_reason",
        "_task",
        "_unsent",
        "_watch",
        "account",
        "answer",
        "client",
        "config",
        "connection",
        "deadline",
        "exchange",
        "listeners",
        "loop",
        "passed",
        "reply",
        "request",
        "scope",
        "settings",
        "tap",
        "turn",
        "upload",
        "uploaded",
        "upstream",
    )  # fmt: skip

    account: Account
    upstream: Upstream

    def __init__(
        self,
        config: Config,
        listeners: Listeners,
        exchange: Exchange,
        scope: Scope,
        receive: Receive,
        send: Send,
        timers: Timers,
        shelf: Shelf,
    ) -> None:
        self._direct = direct = direct_of(scope)
        self.loop = loop = asyncio.get_running_loop() if direct is None else direct.loop
        self.config = config
        self.settings = config.settings
        self.listeners = listeners
        self.exchange = exchange
        self.scope = scope
        self.deadline = Deadline(loop, timers, self._expired)
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        # Our server has rejected forbidden characters already, but a middleware may have replaced the headers.
        if direct is not None and direct.headers is headers:
            self.request = Request(headers, direct.fields, shelf, checked=True)
        else:
            self.request = Request(headers, dict(headers), shelf, checked=False)
        self.client = Client(receive, config.gate.body_limit(exchange.path))
        self.reply = Reply(exchange, send, direct, self.deadline, self.settings.client_write_timeout)
        self.tap: Tap | None = None
        self.answer: Answer | None = None
        self.connection: Connection | None = None
        self.upload: asyncio.Task[None] | None = None
        self.uploaded = False
        self.turn: Turn | None = None
        self.passed: tuple[Choice, Passed] | None = None
        self._task = asyncio.current_task(loop)
        self._live = True
        self._reason: Exception | None = None
        self._unsent = 0
        self._watch: asyncio.Task[None] | None = None
        self._lasts_timer: asyncio.TimerHandle | None = None
        if direct is not None:
            direct.watch(self._client_left)
        else:
            self._lasts_timer = loop.call_later(WATCH_AFTER, self._lasts)

    def use(self, account: Account) -> None:
        """Send the next attempt to this account."""
        self.account = account
        self.upstream = account.upstream

    def body_at_once(self) -> bytes | None:
        """The request's whole body, if it has arrived and the server can return it without an await."""
        return self._direct.body() if self._direct is not None else None

    @property
    def body_sent(self) -> bool:
        """Whether the whole body has been handed to the upstream connection."""
        return self.client.done if self.upload is None else self.uploaded

    def release_headers(self) -> None:
        """Drop the request's headers, which an open stream does not need."""
        if self._direct is not None:
            self.request.headers.clear()
            self._direct.fields = {}
        self.request.release_headers()

    def await_head(self, connection: Connection) -> None:
        """The connection has the request: limit the time until it is written, then until the head of the answer."""
        self._unsent = connection.unsent
        if self._unsent:
            self.deadline.arm("write", self.settings.write_timeout)
        else:
            self.deadline.arm("head", self.settings.response_head_timeout)

    def give_back(self) -> None:
        """Return the upstream connection to the pool if its answer is complete: the client may be slow to read it."""
        connection = self.connection
        if connection is not None and connection.finished and self.body_sent:
            self.connection = None
            self.upstream.pool.release(connection, self.loop.time())

    # -- interruption

    def interrupt(self, reason: Exception) -> None:
        """End the exchange with `reason`, wherever it is waiting."""
        if self._live and self._reason is None and self._task is not None:
            self._reason = reason
            self._task.cancel()

    def caught(self) -> Exception | None:
        """Called where the cancellation arrived: returns the reason if it was ours, None if the task was cancelled by others."""
        reason, self._reason = self._reason, None
        if reason is not None and self._task is not None:
            self._task.uncancel()
        return reason

    def caught_upstream(self) -> UpstreamError | None:
        """Like `caught`, but only for a reason on the upstream's side; `Forward` handles all others."""
        reason = self._reason
        if not isinstance(reason, UpstreamError):
            return None
        self.caught()
        return reason

    def watch_client(self) -> None:
        """Start to watch for a disconnect, once the exchange has lasted WATCH_AFTER. Any further body is discarded."""
        if self._direct is None and self._lasts_timer is None and self._watch is None and self._live:
            self._watch = self.loop.create_task(self._await_leaving())

    def close(self) -> None:
        """End its timers and tasks; nothing interrupts the exchange from now on."""
        self._live = False
        self.deadline.close()
        if self._direct is not None:
            self._direct.watch(None)
        if self._lasts_timer is not None:
            self._lasts_timer.cancel()
        if self.upload is not None:
            self.upload.cancel()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None  # a cancelled task keeps its frames alive, and with them this object

    def _lasts(self) -> None:
        """The exchange has lasted WATCH_AFTER: a task that watches for a disconnect is now worth its cost."""
        self._lasts_timer = None
        if self.client.done:
            self.watch_client()

    async def _await_leaving(self) -> None:
        await self.client.gone()
        self._client_left()

    def _client_left(self) -> None:
        self.interrupt(ClientGone())

    def _expired(self, name: str) -> None:
        connection = self.connection
        if name == "silence" and connection is not None:
            connection.nudge()
        elif name == "send":
            self.interrupt(ClientStalled())
        elif name == "read":
            self.interrupt(read_timeout(self.settings))
        elif name == "write" and connection is not None:
            if connection.unsent >= self._unsent:
                self.interrupt(write_timeout(self.settings))
            else:
                self.await_head(connection)
        elif name == "head":
            self.interrupt(head_timeout(self.settings))


def read_timeout(settings: Settings) -> BodyTimeout:
    """The request body stopped arriving."""
    return BodyTimeout(
        f"The request body stopped coming for {settings.client_read_timeout:g} s. Send it again "
        "(CLIENT_READ_TIMEOUT at the proxy sets the limit)."
    )


def write_timeout(settings: Settings) -> UpstreamTimeout:
    """The upstream stopped reading the request."""
    return UpstreamTimeout(
        f"The upstream stopped taking the request for {settings.write_timeout:g} s. It may be overloaded; try again "
        "(WRITE_TIMEOUT at the proxy sets the limit).",
        code="write_timeout",
    )


def head_timeout(settings: Settings) -> UpstreamTimeout:
    """The upstream got the request and did not answer."""
    return UpstreamTimeout(
        f"The upstream took the request and sent no answer within {settings.response_head_timeout:g} s. It may be "
        "overloaded; try again (RESPONSE_HEAD_TIMEOUT at the proxy sets the limit).",
        code="response_head_timeout",
    )
