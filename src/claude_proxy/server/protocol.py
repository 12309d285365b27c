"""One client connection: requests in turn, deadlines, refusals, closing; what stock uvicorn lets through ends here.

It has the constructor and the `shutdown` that uvicorn's server expects of a protocol class, so it also runs
under stock uvicorn (`--http claude_proxy.server.protocol:HardenedProtocol`). It is not derived from uvicorn's
HttpToolsProtocol, since no method of that would stay: pipelining, upgrades, deadlines, trailers and early
answers all sit in its control flow.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import struct
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import structlog
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from .cycle import Cycle
from .head import refuse
from .limits import Limits
from .reader import BETWEEN, BODY, DEAF, HEAD, RequestReader
from .refusal import RefusedError, as_response

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from claude_proxy.errors import ProxyError

log = structlog.get_logger("server")

EXTENSION = "claude_proxy"  # docs/serve.md, "ASGI extension"
_ASGI = {"version": "3.0", "spec_version": "2.3"}
_OF_REQUEST = ("http_version", "method", "path", "raw_path", "query_string", "headers", "state")
_EXCHANGE = "exchange"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time


class HardenedProtocol(asyncio.Protocol):
    """One connection. `running` is the request an app works on, `waiting` are those pipelined behind it."""

    transport: asyncio.Transport
    flow: FlowControl

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self.app = self.direct_app = config.loaded_app
        if isinstance(self.app, ProxyHeadersMiddleware):  # does nothing without a forwarded header
            self.direct_app = self.app.app
        if not inspect.isroutine(self.direct_app):
            self.direct_app = self.direct_app.__call__  # a method is quicker to call than an object that has one
        self.root_path = config.root_path
        self.limits: Limits = getattr(config, "limits", None) or Limits(keep_alive=config.timeout_keep_alive)
        self.loop = _loop or asyncio.get_running_loop()
        self.server_state = server_state
        self.app_state = app_state
        self.reader = RequestReader(self.limits, self._take)

        self.running: Cycle | None = None
        self.waiting: deque[Cycle] = deque()
        self._receiving: Cycle | None = None
        self._fresh: Cycle | None = None  # running, but not begun: the packet that brought it is still being read
        self._waiting_size = 0
        self._refusal: RefusedError | None = None  # to be said after the answers that come before it
        self._scope_base: dict[str, Any] = {}
        # A client that has sent nothing yet, or does not read, gets this long (seconds), however short `keep_alive` is.
        self._patience = max(self.limits.keep_alive, self.limits.head_seconds)
        self._idle_since = 0.0
        self._idle_allowed = self._patience
        self._idle_uncovered = self._patience > self.limits.keep_alive  # the idle timer is to be set after the next response
        self._head_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None

    # What the transport tells us

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its bases
        self.flow = FlowControl(self.transport)
        # That of some asyncio versions (3.13.0) never pauses the writer.
        self.vectored = type(transport).__module__.startswith("uvloop")
        self.server_state.connections.add(self)  # type: ignore[arg-type]  # uvicorn's union of its own protocols
        self._scope_base = {
            "type": "http",
            "asgi": _ASGI,
            "server": get_local_addr(self.transport),
            "client": get_remote_addr(self.transport),
            "scheme": "https" if is_ssl(self.transport) else "http",
            "root_path": self.root_path,
            "extensions": {EXTENSION: {"exchange": self._running_exchange}},
            **dict.fromkeys(_OF_REQUEST),  # so that a copy has room for them
        }
        self._idle_since = self.loop.time()
        self._rearm(self._patience)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.connections.discard(self)
        for timer in (self._head_timer, self._idle_timer):
            if timer is not None:
                timer.cancel()
        if self.running is not None:
            self.running.disconnect()
        self._receiving = None
        self.waiting.clear()
        self.reader.close()
        self.flow.resume_writing()
        self._scope_base = {}  # holds a way back to us

    def pause_writing(self) -> None:
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        self.flow.resume_writing()

    def data_received(self, data: bytes) -> None:
        reader = self.reader
        if reader.phase == DEAF:
            return
        try:
            reader.feed(data)
            if reader.phase != BETWEEN or self.waiting:
                self._watch(len(data))
        except RefusedError as refused:
            self._refuse(refused)
        cycle, self._fresh = self._fresh, None
        if cycle is not None and not cycle.gone:
            self._run(cycle, at_once=True)

    def _watch(self, size: int) -> None:
        """A packet did not end a request, or requests wait: keep both within bounds."""
        reader = self.reader
        if self.waiting or (reader.phase == HEAD and self.running is not None):
            self._waiting_size += size
            too_many = len(self.waiting) > self.limits.pipeline_depth
            if too_many or self._waiting_size > self.limits.pipeline_bytes:
                self._hang_up_after_running()
                return
        if reader.phase != BETWEEN:
            if reader.phase == HEAD and self._head_timer is None:
                self._head_timer = self.loop.call_later(self.limits.head_seconds, self._on_head_timer)
            reader.unfinished(size)

    # Requests in turn

    def _take(self) -> Cycle:
        """The reader has a request: run it, or let it wait for the one before."""
        reader = self.reader
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        fields = reader.fields
        forwarded = b"x-forwarded-for" in fields or b"x-forwarded-proto" in fields  # a front says for whom it asks
        app = self.app if forwarded else self.direct_app
        keep_alive = reader.keep_alive and self.limits.keep_alive > 0
        cycle = self._receiving = Cycle(self, app, self._scope(reader), fields, keep_alive=keep_alive)
        if self.running is None:
            self.running = self._fresh = cycle
        else:
            self.waiting.append(cycle)
        return cycle

    def _scope(self, reader: RequestReader) -> dict[str, Any]:
        raw_path = reader.target.path
        path = raw_path.decode("ascii")
        if "%" in path:
            path = unquote(path)
        root = self.root_path
        # A front proxy may strip the prefix or not: in ASGI the path begins with it either way, and once.
        if root and not (path == root or path.startswith(root + "/")):
            path = root + path
            raw_path = root.encode("ascii") + raw_path
        scope = self._scope_base.copy()
        scope["http_version"] = reader.version
        scope["method"] = reader.method
        scope["path"] = path
        scope["raw_path"] = raw_path
        scope["query_string"] = reader.target.query
        scope["headers"] = reader.headers
        scope["state"] = self.app_state.copy()
        return scope

    def _run(self, cycle: Cycle, *, at_once: bool) -> None:
        """Call the app; `at_once`, as far as it comes without waiting, in this turn of the loop (from Python 3.12 on)."""
        if sys.version_info >= (3, 12) and at_once:
            task = asyncio.Task(cycle.run(), loop=self.loop, name=_EXCHANGE, eager_start=True)
        else:
            task = asyncio.Task(cycle.run(), loop=self.loop, name=_EXCHANGE)  # to number it costs more than to name it
        if not task.done():
            cycle.task = task
            self.server_state.tasks.add(task)

    def on_task_end(self, task: asyncio.Task[None] | None) -> None:
        """The app has returned."""
        if task is not None:
            self.server_state.tasks.discard(task)

    def _running_exchange(self) -> Cycle | None:
        """For the ASGI extension, by which an app asks for it when it is called."""
        return self.running

    def on_response_complete(self, cycle: Cycle) -> None:
        """The app has sent the last byte: the next request's turn, or the idle clock."""
        self.server_state.total_requests += 1
        self.running = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        deaf = self.reader.phase == DEAF
        if cycle.keep_alive and self.waiting:
            self._waiting_size = 0
            self.running = self.waiting.popleft()
            self._run(self.running, at_once=False)
        elif cycle.keep_alive and self._refusal is not None:
            self._say(self._refusal, self.reader.method)
        elif deaf or not cycle.keep_alive:
            self._close(linger=deaf or not cycle.body_complete)
        else:
            self._idle_since = self.loop.time()
            if not cycle.body_complete:
                self._rearm(self.limits.linger_seconds)
            elif self._idle_uncovered:
                self._idle_uncovered = False
                self._idle_allowed = self.limits.keep_alive
                self._rearm(self._idle_allowed)

    def _hang_up_after_running(self) -> None:
        """Too much is waiting: finish the running answer, then close. Unanswered requests are the client's again
        (RFC 9112 section 9.3.2); reading goes on, so that its leaving is seen."""
        self.reader.phase = DEAF
        self.waiting.clear()
        self._refusal = None

    # Refusing and closing

    def _refuse(self, refusal: RefusedError) -> None:
        log.info("refused", status=refusal.status, code=refusal.code, client=self._scope_base["client"])
        broken = self._receiving if self.reader.phase == BODY else None
        self.reader.phase = DEAF
        if broken is None:
            if self.running is None:
                self._say(refusal, self.reader.method)
            else:
                self._refusal = refusal
        elif broken is self.running:
            broken.disconnect()
            if broken.started:
                self.cut(hard=False)
            else:
                self._say(refusal, broken.scope["method"])
        elif self.waiting and broken is self.waiting[-1]:
            self.waiting.pop()
            self._refusal = refusal
        else:  # answered early, and now its body turns out to be broken
            self._close(linger=False)

    def _say(self, error: ProxyError, method: str) -> None:
        if not self.transport.is_closing():
            self.transport.write(as_response(error, self.default_block(), with_body=method != "HEAD"))
            self._close(linger=True)

    def give_up(self, cycle: Cycle, error: ProxyError) -> None:
        """The app failed before it began to answer: say so and close."""
        self._say(error, cycle.scope["method"])

    def cut(self, *, hard: bool) -> None:
        """Close in the middle of a response; `hard` (a body that only the close ends) makes it a reset."""
        if hard:
            raw: socket.socket | None = self.transport.get_extra_info("socket")
            if raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()
        else:
            self._close(linger=False)

    def abort(self) -> None:
        """Drop the connection, whatever is on it."""
        self.transport.abort()

    def _close(self, *, linger: bool) -> None:
        """Close once the written bytes are out; with `linger`, read on a while, lest a reset destroy them."""
        self.reader.phase = DEAF
        self.running = None
        self.waiting.clear()
        if self.transport.is_closing():
            return
        if linger and self.transport.can_write_eof():
            self.flow.resume_reading()
            self.transport.write_eof()
            self._rearm(self.limits.linger_seconds)
            return
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._rearm(self._patience)

    def end(self) -> None:
        """The grace time is over: drop the connection. That is not the client's leaving."""
        if self.running is not None:
            self.running.watch(None)
        self.transport.abort()

    def shutdown(self) -> None:
        """The server drains: an idle connection closes now, a busy one after its answer."""
        if self.running is None:
            self._close(linger=False)
        else:
            self.running.keep_alive = False

    # Time

    def _rearm(self, seconds: float) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._idle_timer = self.loop.call_later(seconds, self._on_idle_timer)

    def _on_idle_timer(self) -> None:
        """One timer for a connection, which looks whether it fired too early, instead of two for a request."""
        limits, phase = self.limits, self.reader.phase
        if self.running is not None or phase == HEAD:
            self._idle_uncovered = True
        elif phase == DEAF:
            self.transport.abort()
        else:
            allowed = limits.linger_seconds if phase == BODY else self._idle_allowed
            left = self._idle_since + allowed - self.loop.time()
            if left > 0:
                self._rearm(left)
            else:
                self._close(linger=False)

    def _on_head_timer(self) -> None:
        self._head_timer = None
        if self.reader.phase == HEAD:
            what = f"The request's headers did not arrive within {self.limits.head_seconds:g} seconds."
            self._refuse(refuse(408, "slow_headers", what))

    def default_block(self) -> bytes:
        """The `date` and `server` lines, rendered once a second."""
        global _last_block, _last_headers
        headers = self.server_state.default_headers
        if headers is not _last_headers:
            _last_block = b"".join([b"%b: %b\r\n" % header for header in headers])
            _last_headers = headers
        return _last_block


_last_headers: list[tuple[bytes, bytes]] = []
_last_block = b""
