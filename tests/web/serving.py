"""The pages on a real server of loopback, with or without a front that strips a prefix."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import Depends, FastAPI

from claude_proxy.access.viewers import Viewers
from claude_proxy.web import PageFacts, Upstream, install
from claude_proxy.web.admin import require_viewer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ZAI = "https://api.z.ai/api/anthropic"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


class Pages:
    """An application of nothing but our pages; `ready` and `facts` may be changed while it serves.

    `guarded`: with `/guarded`, which those may see who may look.
    """

    def __init__(
        self,
        *,
        upstreams: tuple[str, ...] = (ZAI,),
        holds: bool = False,
        asks: bool = False,
        viewers: Viewers | None = None,
        guarded: bool = False,
    ) -> None:
        named = tuple(Upstream(f"up{at}" if at else "default", url) for at, url in enumerate(upstreams))
        self.facts = PageFacts("1.2.3", "/api/anthropic", named, holds, asks, notices=True)
        self.ready = (True, "")
        self.app = FastAPI(title="claude-proxy", version="1.2.3", docs_url=None, redoc_url=None, redirect_slashes=False)
        install(self.app, lambda: self.facts, lambda: self.ready, viewers=viewers)
        if guarded:
            admin = Depends(require_viewer(viewers or Viewers()))
            self.app.add_api_route("/guarded", lambda: "seen", dependencies=[admin])
            self.app.add_api_route("/guarded/by/depth", lambda: "seen", dependencies=[admin])


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
