"""The pages on a real server of loopback, with or without a front that strips a prefix."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI

from claude_proxy.ledger.reader import Reader
from claude_proxy.observe.live import Live, Watcher
from claude_proxy.web import PageFacts, Upstream, install
from claude_proxy.web.admin import require_admin
from claude_proxy.web.api import Sources
from claude_proxy.web.pages import Site, Workers, install_pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ZAI = "https://api.z.ai/api/anthropic"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


class Pages:
    """An application of nothing but our pages; `ready` and `facts` may be changed while it serves."""

    def __init__(
        self, *, upstreams: tuple[str, ...] = (ZAI,), holds: bool = False, asks: bool = False, examine: Any = None
    ) -> None:
        named = tuple(Upstream(f"up{at}" if at else "default", url) for at, url in enumerate(upstreams))
        self.facts = PageFacts("1.2.3", "/api/anthropic", named, holds, asks, notices=True)
        self.ready = (True, "")
        self.app = FastAPI(title="claude-proxy", version="1.2.3", docs_url=None, redoc_url=None, redirect_slashes=False)
        site = Site(without_books(), lambda: self.facts, lambda: self.ready, examine)
        install(self.app, site.facts, site.ready, page=install_pages(self.app, site, require_admin(None), Workers(self.told)))

    def told(self, _: Watcher) -> dict[str, Any]:
        """What this process tells of itself: nothing runs."""
        upstreams = [
            {"name": one.name, "base_url": one.base_url, "provider": one.provider.label, "state": "up", "credential": "client"}
            | {"running": 0, "connections": 0}
            for one in self.facts.upstreams
        ]
        return {"states": {}, "running": [], "ended": [], "upstreams": upstreams}


def without_books() -> Sources:
    """What the API of a proxy reads that keeps no books."""

    def none() -> Any:
        raise AssertionError("there are no books to open")

    def nothing() -> list[dict[str, Any]]:
        return []

    reader = Reader(none, shut=lambda: "No books are kept here: LEDGER is off.")
    return Sources(reader, Live(), "UTC", upstreams=nothing, incidents=nothing, settings=nothing)


class Front:
    """A front proxy that serves the application under `prefix`, and strips it."""

    def __init__(self, app: Any, prefix: str) -> None:
        self.app = app
        self.prefix = prefix

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            assert scope["path"].startswith(f"{self.prefix}/"), scope["path"]
            path = scope["path"].removeprefix(self.prefix)
            # As uvicorn does it: a configured root path is prepended to the stripped path (docs/facts.md, "ASGI servers").
            scope = {**scope, "path": scope["root_path"] + path, "raw_path": (scope["root_path"] + path).encode()}
        await self.app(scope, receive, send)


class WithRootPath:
    """What a server does that was started with a root path."""

    def __init__(self, app: Any, root: str) -> None:
        self.app = app
        self.root = root

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await self.app({**scope, "root_path": self.root}, receive, send)


class _Server(uvicorn.Server):
    """Without signal handlers: pytest owns the process."""

    def capture_signals(self) -> Any:
        return nullcontext()


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Serve `app`; gives its origin. The socket listens from the start, so nobody has to wait for it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = _Server(uvicorn.Config(app, lifespan="off", log_config=None, proxy_headers=False))
        task = asyncio.create_task(server.serve([listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
