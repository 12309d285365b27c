"""One process that serves: uvicorn's server with our protocol, our signals and an end that loses nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from types import FrameType
from typing import Any

import structlog
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.importer import import_from_string

from claude_proxy import logs
from claude_proxy.signals import HANGUP, STOPPING, stop_signals

from .acceptor import Acceptor
from .limits import Limits
from .protocol import HardenedProtocol

log = structlog.get_logger("server")

# After the grace time: how long a cancelled exchange may take to write itself down (seconds).
_LAST_WORDS = 1.0
# How long a second signal waits for the log's reader (seconds).
_LAST_LINES = 0.2


class WorkerConfig(uvicorn.Config):
    """uvicorn's Config with our protocol. `bare_app` is the app without uvicorn's wrapping, once loaded."""

    def __init__(self, app: Any, *, factory: bool, limits: Limits, grace: float, root_path: str, trusted: str) -> None:
        super().__init__(
            app,
            http=HardenedProtocol,
            ws="none",
            lifespan="on",
            loop="auto",
            log_config=None,
            access_log=False,
            server_header=False,
            headers=[("server", "claude-proxy")],
            proxy_headers=bool(trusted),
            forwarded_allow_ips=trusted,
            root_path=root_path,
        )
        self.is_factory = factory
        self.limits = limits
        self.grace = grace
        self.bare_app: Any = None

    def load_app(self) -> Any:
        """Import the app, or call its factory. What either raises is the caller's to explain."""
        app: Any = import_from_string(self.app) if isinstance(self.app, str) else self.app
        self.bare_app = app() if self.is_factory else app
        return self.bare_app


class Worker(uvicorn.Server):
    """Serves until told to stop, then drains. The first signal drains, a second one ends the process at once.

    on_ready: called once the sockets are listening.
    lifeline: a pipe from the supervisor above us, which has stopped or died when it ends. With it, Ctrl-C and a
        second SIGTERM change nothing here: they reach a whole process group, and the supervisor has SIGKILL.
    """

    config: WorkerConfig

    def __init__(self, config: WorkerConfig, *, on_ready: Callable[[], None] = lambda: None, lifeline: int | None = None) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._lifeline = lifeline
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._acceptor: Acceptor | None = None

    def stop(self) -> None:
        """Begin to drain. May be called from a signal handler or from another thread; repeating it is harmless."""
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)

    def _orphaned(self, lifeline: int) -> None:
        assert self._loop is not None
        self._loop.remove_reader(lifeline)
        self.stop()

    # uvicorn's hooks

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Hold the stop signals while serving. `signal.signal`, so that an app can chain a handler of its own."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are the main thread's; `stop` works from anywhere
            return
        stopping = stop_signals() if self._lifeline is None else STOPPING  # a closed terminal is the supervisor's affair
        before = {number: signal.signal(number, self.handle_exit) for number in stopping}
        if self._lifeline is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            self.stop()
        elif self._lifeline is None and sig not in HANGUP:  # a closed terminal may say so more than once
            logs.say("claude-proxy: ended at once by a second signal")
            logs.drain(_LAST_LINES)
            os._exit(128 + sig)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        if self._lifeline is not None:
            self._loop.add_reader(self._lifeline, self._orphaned, self._lifeline)
        if sys.platform == "win32":  # its event loop has no add_reader
            await super().startup(sockets)
        else:
            await self._start_accepting(sockets or ())
        self._refresh_date()
        self._on_ready()

    async def _start_accepting(self, sockets: Sequence[socket.socket]) -> None:
        """What uvicorn's startup does, with our acceptor in place of the event loop's server."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        self._acceptor = Acceptor(sockets, self._make_protocol)
        self.servers = []
        self.started = True

    def _make_protocol(self) -> HardenedProtocol:
        return HardenedProtocol(self.config, self.server_state, self.lifespan.state)

    def _refresh_date(self) -> None:
        """Keep the `date` header right: rendered at each full second, not for each response."""
        now = time.time()
        date = formatdate(now, usegmt=True).encode("ascii")
        self.server_state.default_headers = [(b"date", date), *self.config.encoded_headers]
        if self._loop is not None:
            self._loop.call_later(1 - now % 1, self._refresh_date)

    async def main_loop(self) -> None:
        if not self.should_exit:
            await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let running exchanges end within the grace time, abort the rest, close the app."""
        state = self.server_state
        began = time.monotonic()
        if (app_state := getattr(self.config.bare_app, "state", None)) is not None:
            app_state.draining = True
        for server in self.servers:
            server.close()
        if self._acceptor is not None:
            await self._acceptor.close()
        for listener in sockets or ():
            listener.close()
        for connection in list(state.connections):
            connection.shutdown()
        log.info("draining", exchanges=len(state.tasks), connections=len(state.connections), grace=self.config.grace)
        if not await self._emptied(self.config.grace):
            await self._abort_rest()
        await self.lifespan.shutdown()
        log.info("drained", seconds=round(time.monotonic() - began, 3))

    async def _emptied(self, seconds: float) -> bool:
        """Whether all connections and exchanges have come to their end in time."""
        state = self.server_state
        deadline = time.monotonic() + seconds
        while state.connections or state.tasks:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(0.02)
        return True

    async def _abort_rest(self) -> None:
        state = self.server_state
        log.warning("grace_over", aborted=len(state.tasks), connections=len(state.connections))
        for task in list(state.tasks):
            task.cancel()
        for connection in list(state.connections):
            connection.end()  # type: ignore[union-attr]  # they are all HardenedProtocol
        await self._emptied(_LAST_WORDS)
