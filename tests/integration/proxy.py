"""The proxy as the tests run it: the real application under the real server protocol, on a free loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn

from claude_proxy.app import App, create_app
from claude_proxy.exchange import Exchange, Listener
from claude_proxy.settings import Loaded, load


class Recorder(Listener):
    """Keeps finished exchanges, and wakes who waits for them."""

    def __init__(self) -> None:
        self.started: list[Exchange] = []
        self.ended: list[Exchange] = []
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def on_exchange_start(self, exchange: Exchange) -> None:
        self.started.append(exchange)

    def on_exchange_end(self, exchange: Exchange) -> None:
        self.ended.append(exchange)
        task = asyncio.get_running_loop().create_task(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def wait_for(self, count: int, timeout: float = 10.0) -> list[Exchange]:
        """The finished exchanges, once there are `count`."""
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: len(self.ended) >= count)
        return self.ended


class RunningProxy:
    """A proxy that serves."""

    def __init__(self, app: App, recorder: Recorder, port: int, server: uvicorn.Server) -> None:
        self.app = app
        self.recorder = recorder
        self.port = port
        self.server = server

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.origin}/api/anthropic"

    @property
    def upstream_connections(self) -> int:
        return len(self.app.forward.config.upstreams[0].pool)

    async def reload(self) -> None:
        """Have the settings read again, and wait until they are in force or refused."""
        await asyncio.to_thread(self.app.state.reloader.look, asyncio.get_running_loop(), asked=True)

    async def last(self) -> Exchange:
        """The first exchange to finish."""
        return (await self.recorder.wait_for(1))[-1]


class _Server(uvicorn.Server):
    """Without uvicorn's signal handlers: pytest owns the process."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    def capture_signals(self) -> Any:
        return contextlib.nullcontext()


@asynccontextmanager
async def running_proxy(
    base_url: str | None = None,
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    http: str = "claude_proxy.server.protocol:HardenedProtocol",
    prepare: Callable[[App], None] | None = None,
    root_path: str = "",
    sock: socket.socket | None = None,
    trusted: str | None = None,
    listeners: Iterable[Listener] = (),
    **settings: Any,
) -> AsyncIterator[RunningProxy]:
    """Serve the application in front of `base_url`, on a free port or on a socket that listens already.

    `config`: a settings file instead, which is read again in a reload; `environ` holds the keys that it names.
    `trusted`: peers whose forwarded headers the server believes; None for a server that reads none.
    """
    recorder = Recorder()
    given = {"log_level": "error", "ledger": "off", "queue": "off", **settings}

    def read() -> Loaded:
        return load(environ or {}, base_url=base_url, config=config, **given)

    if config is None:
        app = create_app(read().settings, listeners=[recorder, *listeners])
    else:
        app = create_app(read(), listeners=[recorder, *listeners], read=read)
    if (ledger := getattr(app.state, "ledger", None)) is not None:
        ledger.writer.delay = 0.02  # readers of the books need not wait for a batch to fill
    if prepare is not None:
        prepare(app)
    sock = sock or socket.create_server(("127.0.0.1", 0))
    uvicorn_config = uvicorn.Config(
        app, http=http, ws="none", lifespan="on", log_config=None, access_log=False, root_path=root_path,
        proxy_headers=trusted is not None, forwarded_allow_ips=trusted,
    )  # fmt: skip
    server = _Server(uvicorn_config)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    await server.up.wait()
    try:
        yield RunningProxy(app, recorder, sock.getsockname()[1], server)
    finally:
        server.should_exit = True
        server.force_exit = True  # connections that a test left open are not waited for
        await serving
        await server.lifespan.shutdown()  # which uvicorn skips then: what waits is written, as when the process stops
