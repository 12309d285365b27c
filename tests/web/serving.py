"""The pages on a real server of loopback, with or without a front that strips a prefix."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import Depends, FastAPI

from claude_proxy.access.viewers import Viewers
from claude_proxy.ledger.options import NotReadable
from claude_proxy.ledger.reader import Reader
from claude_proxy.notify.advice import advise
from claude_proxy.observe.live import Live
from claude_proxy.observe.machine import Machine
from claude_proxy.observe.seen import Together
from claude_proxy.observe.siblings import Siblings
from claude_proxy.web import PageFacts, Upstream, install
from claude_proxy.web.admin import require_viewer
from claude_proxy.web.api import Sources
from claude_proxy.web.pages import Site, install_pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

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
        examine: Any = None,
        reader: Reader | None = None,
    ) -> None:
        named = tuple(Upstream(f"up{at}" if at else "default", url) for at, url in enumerate(upstreams))
        self.facts = PageFacts("1.2.3", "/api/anthropic", named, holds, asks, notices=True)
        self.ready = (True, "")
        self.app = FastAPI(title="claude-proxy", version="1.2.3", docs_url=None, redoc_url=None, redirect_slashes=False)
        viewers = viewers or Viewers()
        admin = self.admin = require_viewer(viewers)
        live, alone = Live(), Siblings(Path("nowhere"), group=lambda: None)
        self.sources = without_books(live, alone, self.upstreams)
        if reader is not None:
            self.sources = replace(self.sources, reader=reader)
        site = Site(self.sources, lambda: self.facts, lambda: self.ready, advise, examine)
        page = install_pages(self.app, site, admin, Together(live, alone, lambda _: None, self.upstreams))
        install(self.app, site.facts, site.ready, viewers=viewers, page=page)
        if guarded:
            self.app.add_api_route("/guarded", lambda: "seen", dependencies=[Depends(admin)])
            self.app.add_api_route("/guarded/by/depth", lambda: "seen", dependencies=[Depends(admin)])

    def upstreams(self) -> list[dict[str, Any]]:
        """The upstreams as the API shows them."""
        return [
            {"name": one.name, "base_url": one.base_url, "provider": one.provider.label, "state": "up", "credential": "client"}
            | {"running": 0, "connections": 0}
            for one in self.facts.upstreams
        ]


def nothing() -> list[dict[str, Any]]:
    """An empty list."""
    return []


async def no_incidents() -> list[dict[str, Any]]:
    """An empty list."""
    return []


def without_books(live: Live, siblings: Siblings, upstreams: Callable[[], list[dict[str, Any]]] = nothing) -> Sources:
    """What the API of a proxy reads that keeps no books."""

    def none() -> Any:
        raise AssertionError("there are no books to open")

    async def no_incidents() -> list[dict[str, Any]]:
        return []

    reader = Reader(none, shut=lambda: NotReadable("No books are kept here: LEDGER is off."))
    return Sources(reader, live, Machine(live, siblings, upstreams), "UTC", incidents=no_incidents, settings=nothing)


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
            server.force_exit = True  # a page that is still open keeps its event stream
            await task
