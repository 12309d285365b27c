"""`/api/v1/live`, `/events`, `/upstreams`, `/incidents`, `/settings`: what all workers are doing, and their settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from fastapi import APIRouter

# FastAPI reads this from an annotation, at runtime
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from claude_proxy.errors import Unavailable
from claude_proxy.observe.live import Event, Full, Live, Watcher
from claude_proxy.web.admin import watched
from claude_proxy.web.api import models
from claude_proxy.web.api.asking import COMMON, Responses, Sources, error, get, listed, of_all

HEARTBEAT = 15.0  # seconds; fronts drop connections that are silent for 30 or 60
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


def add_running(router: APIRouter, sources: Sources, heartbeat: float = HEARTBEAT) -> None:
    """Add the routes.

    Args:
        heartbeat: seconds of silence after which a reader of events gets one.
    """
    _events(router, sources.live, heartbeat)

    async def live() -> Response:
        """The exchanges that run now in all workers of this server, the oldest first, with the usage reported so far."""
        return of_all(await sources.machine.running())

    async def upstreams() -> Response:
        """Where requests go, with the counts of all workers of this server."""
        return of_all(await sources.machine.upstreams())

    async def incidents() -> Response:
        """What notices are about: error classes that are open or were lately, the last failure first."""
        return listed(await sources.incidents())

    async def settings() -> Response:
        """The settings in force and where each comes from; no secrets."""
        return listed(sources.settings())

    get(router, "/live", live, models.Running, "What runs now")
    get(router, "/upstreams", upstreams, models.Upstreams, "Upstreams")
    get(router, "/incidents", incidents, models.Incidents, "Incidents")
    get(router, "/settings", settings, models.SettingsList, "Settings")


def _events(router: APIRouter, live: Live, heartbeat: float) -> None:
    async def events(request: Request) -> Response:
        """Server-sent events of all workers: `started` and `ended` with an exchange, `heartbeat` in silence, `lost` with a count
        when the reader was too slow. The stream ends when the proxy stops, and when the reader's login does. Nothing is sent
        again after a reconnect."""
        try:
            watcher = live.watch()
        except Full:
            raise Unavailable("Too many readers of events are connected: close one.", code="too_many_readers") from None
        return _Events(live, watcher, request, heartbeat)

    described: Responses = {
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}}},
        401: COMMON[401],
        503: error("Too many readers"),
    }
    router.add_api_route(
        "/events", events, response_class=StreamingResponse, response_model=None, responses=described, summary="Events"
    )


class _Events(StreamingResponse):
    """The stream of one watcher, which is let go however the stream ends. It ends, too, when its viewer may no longer look."""

    def __init__(self, live: Live, watcher: Watcher, request: Request, heartbeat: float) -> None:
        super().__init__(self._written(watcher, heartbeat), media_type="text/event-stream", headers=HEADERS)
        self._live = live
        self._watcher = watcher
        self._request = request

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            with watched(self._request, self._watcher.cut):
                await super().__call__(scope, receive, send)
        finally:
            self._live.unwatch(self._watcher)

    async def _written(self, watcher: Watcher, heartbeat: float) -> AsyncIterator[bytes]:
        yield b": claude-proxy\n\n"  # the head goes out now, not with the first event
        while (event := await watcher.next(heartbeat)) is not None:
            yield written(event)


def written(event: Event) -> bytes:
    """An event on the wire (WHATWG HTML section 9.2)."""
    return b"event: %b\ndata: %b\n\n" % (event.what.encode(), msgspec.json.encode(event.data))


_EXAMPLE = 'event: heartbeat\ndata: {"at":"2026-11-28T09:31:07.214Z"}\n\n'
