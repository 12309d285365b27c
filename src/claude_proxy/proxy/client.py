"""The client's side of an exchange: its request body, and its disconnect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from claude_proxy.errors import BadRequest, BodyTooLarge

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class ClientGone(Exception):
    """The client closed its connection. Not a failure; recorded as 499, as nginx and Caddy do."""


class ClientStalled(Exception):
    """The client stopped reading its answer."""


class Client:
    """Reads and counts the request body, and notices when the client disconnects.

    Args:
        receive: the ASGI channel.
        limit: largest body in bytes.

    Attributes:
        size: bytes read so far.
        done: whether the whole body has been read.
    """

    __slots__ = ("_announced", "_limit", "_receive", "done", "size")

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._announced: int | None = None
        self._limit = limit
        self.size = 0
        self.done = False

    def announce(self, length: bytes | None) -> None:
        """Note the Content-Length, and reject a body that is too large before reading any of it.

        Raises:
            BodyTooLarge: the announced length is over the limit.
            BadRequest: it is not a length.
        """
        if length is None:
            return
        if not length.isdigit() or len(length) > 18:
            raise BadRequest("The request's Content-Length is not a number. The client has to fix that.", code="body_length")
        self._announced = int(length)
        if self._announced > self._limit:
            raise self._too_large()

    async def part(self) -> bytes:
        """The next part of the body, possibly empty; sets `done` with the last.

        Raises:
            ClientGone: the client disconnected.
            BodyTooLarge: it sent more than the limit.
            BadRequest: it sent more or less than it announced.
        """
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        return self.took(message.get("body", b""), done=not message.get("more_body", False))

    def took(self, data: bytes, *, done: bool) -> bytes:
        """Count a part that has arrived.

        Raises:
            BodyTooLarge, BadRequest: as `part` does.
        """
        self.size += len(data)
        if self.size > self._limit:
            raise self._too_large()
        if self._announced is not None and (self.size > self._announced or (done and self.size != self._announced)):
            raise BadRequest(
                f"The request announced {self._announced} bytes of body and sent {self.size}. The client has to fix that.",
                code="body_length",
            )
        self.done = done
        return data

    async def gone(self) -> None:
        """Wait until the client has disconnected. The body must have been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"The request body is larger than the {self._limit:,} bytes this proxy accepts here. "
            "Send less, or raise MAX_BODY (MAX_BODY_BATCHES, MAX_BODY_FILES) at the proxy."
        )
