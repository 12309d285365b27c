"""Sends an exchange's response to the client, and counts its bytes."""

from __future__ import annotations

from collections.abc import Callable

from claude_proxy.exchange import ANSWERING, Exchange
from claude_proxy.proxy.client import Message, Send
from claude_proxy.proxy.deadline import Deadline
from claude_proxy.proxy.direct import Direct
from claude_proxy.proxy.headers import Header


class Reply:
    """The response of one exchange. Each wait for a slow client lasts at most CLIENT_WRITE_TIMEOUT (deadline `send`).

    Args:
        patience: CLIENT_WRITE_TIMEOUT in seconds.

    Attributes:
        started: whether the head has been sent to the client: the point of no return.
    """

    __slots__ = ("_deadline", "_direct", "_exchange", "_patience", "_send", "started")

    def __init__(self, exchange: Exchange, send: Send, direct: Direct | None, deadline: Deadline, patience: float) -> None:
        self.started = False
        self._exchange = exchange
        self._send = send
        self._direct = direct
        self._deadline = deadline
        self._patience = patience

    async def respond(self, status: int, headers: list[Header], body: bytes) -> None:
        """Send a whole response."""
        await self.start(status, headers)
        await self.send(body, more=False)

    def respond_at_once(self, status: int, headers: list[Header], body: bytes) -> bool:
        """Send a whole response without waiting. Returns False and sends nothing if the server cannot do that now."""
        if self._direct is None or not self._direct.respond(status, headers, body):
            return False
        exchange = self._exchange
        self.started = True
        exchange.state = ANSWERING
        exchange.status = status
        exchange.bytes_out = len(body)
        exchange.first_byte = self._deadline.loop.time() - exchange.started if body else None
        return True

    async def start(self, status: int, headers: list[Header]) -> None:
        """Send status and headers. After this there can be no other response."""
        self.started = True
        self._exchange.state = ANSWERING
        self._exchange.status = status
        self._deadline.arm("send", self._patience)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send(self, data: bytes, *, more: bool) -> None:
        """Send the next bytes of the body, waiting while the client is slow."""
        now = self._deadline.loop.time()
        exchange = self._exchange
        exchange.bytes_out += len(data)
        if exchange.first_byte is None and data:
            exchange.first_byte = now - exchange.started
        self._deadline.arm_at(now + self._patience, "send")
        message: Message = {"type": "http.response.body", "body": data, "more_body": more}
        await self._send(message)

    def writer(self) -> Callable[[bytes], bool] | None:
        """A function that sends bytes that are not the last, without waiting; None if the server has none.

        It returns False and sends nothing while the client reads slowly and after it has disconnected. The caller counts
        `bytes_out`.
        """
        return None if self._direct is None else self._direct.write

    def drop(self) -> None:
        """Close the client's connection without waiting until it has read what was sent."""
        if self._direct is not None:
            self._direct.abort()
