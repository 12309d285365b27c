"""`/live`: the event stream of one open page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from starlette.responses import StreamingResponse
from starlette.routing import Route

from claude_proxy.errors import Unavailable
from claude_proxy.observe.live import Full
from claude_proxy.web.admin import watched
from claude_proxy.web.negotiation import language_of, takes
from claude_proxy.web.pages.wire import GZIP_HEAD, Trailer

if TYPE_CHECKING:
    from starlette.requests import Request

    from claude_proxy.web.admin import Check
    from claude_proxy.web.pages.hub import Hub, Reader

HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no", "x-content-type-options": "nosniff"}


def stream(hub: Hub, admin: Check) -> Route:
    """The route. Who may not read it gets a 401, never a redirect: htmx would follow that to a page."""

    async def answer(request: Request) -> StreamingResponse:
        await admin(request)
        language = language_of(request.headers.get("accept-language", ""), request.query_params.get("lang", ""))
        try:
            reader = hub.join(language)
        except Full:
            raise Unavailable("Too many pages are open: close one.", code="too_many_readers") from None
        return _Stream(hub, reader, request, zipped=takes(request.headers.get("accept-encoding", ""), "gzip"))

    return Route("/live", answer, name="live")


class _Stream(StreamingResponse):
    """The stream of one reader, who leaves however it ends. It ends, too, when its viewer may no longer look."""

    def __init__(self, hub: Hub, reader: Reader, request: Request, *, zipped: bool) -> None:
        parts = _zipped(reader) if zipped else _plain(reader)
        super().__init__(parts, media_type="text/event-stream", headers=HEADERS)
        if zipped:
            self.headers["content-encoding"] = "gzip"
        self._hub = hub
        self._reader = reader
        self._request = request

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            with watched(self._request, self._reader.cut):
                await super().__call__(scope, receive, send)
        finally:
            self._hub.leave(self._reader)


async def _plain(reader: Reader) -> AsyncIterator[bytes]:
    while (chunk := await reader.next()) is not None:
        yield chunk.raw


async def _zipped(reader: Reader) -> AsyncIterator[bytes]:
    trailer = Trailer()
    yield GZIP_HEAD
    while (chunk := await reader.next()) is not None:
        trailer.add(chunk.raw)
        yield chunk.packed
    yield trailer.bytes()
