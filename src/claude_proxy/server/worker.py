"""A serving process: uvicorn's server with our protocol, signal handling and graceful shutdown."""

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

# How long a cancelled exchange may take to write its record after the grace time (seconds).
_LAST_WORDS = 1.0
# How long a second signal waits for pending log lines to be written (seconds).
_LAST_LINES = 0.2


class WorkerConfig(uvicorn.Config):
    """uvicorn's Config with our protocol. `bare_app` is the loaded app, without uvicorn's wrappers."""

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
        """Import the app or call its factory. Exceptions propagate; the caller reports them."""
        app: Any = import_from_string(self.app) if isinstance(self.app, str) else self.app
        self.bare_app = app() if self.is_factory else app
        return self.bare_app


class Worker(uvicorn.Server):
    """Serves until stopped, then drains. The first signal drains, a second one ends the process at once.

    on_ready: called once the sockets are listening.
    lifeline: a pipe held open by the supervisor; when it closes, the supervisor has exited and the worker stops. With a
        lifeline, Ctrl-C and a second SIGTERM are ignored: they go to the whole process group, and the supervisor sends SIGKILL.
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
        """Start draining. Safe to call from a signal handler or another thread, and more than once."""
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
        """Handle the stop signals while serving. Uses `signal.signal`, so that an app can chain its own handler."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread can handle signals; `stop` works from any thread
            return
        stopping = stop_signals() if self._lifeline is None else STOPPING  # the supervisor handles a closed terminal
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
        elif self._lifeline is None and sig not in HANGUP:  # a closed terminal may send several
            logs.say("claude-proxy: stopped at once by a second signal")
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
        """Do what uvicorn's startup does, but with our acceptor instead of the event loop's server."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        self._acceptor = Acceptor(sockets, self._make_protocol)
        self.servers = []
        self.started = True

    def _make_protocol(self) -> HardenedProtocol:
        return HardenedProtocol(self.config, self.server_state, self.lifespan.state)

    def _refresh_date(self) -> None:
        """Render the `date` header once a second instead of for each response."""
        now = time.time()
        date = formatdate(now, usegmt=True).encode("ascii")
        self.server_state.default_headers = [(b"date", date), *self.config.encoded_headers]
        if self._loop is not None:
            self._loop.call_later(1 - now % 1, self._refresh_date)

    async def main_loop(self) -> None:
        if not self.should_exit:
            await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let running exchanges finish within the grace time, abort the rest, shut down the app."""
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
        """Wait until all connections and exchanges have ended; return False if `seconds` pass first."""
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
            connection.end()  # type: ignore[union-attr]  # always a HardenedProtocol
        await self._emptied(_LAST_WORDS)
