"""One client connection: pipelined requests, deadlines, refusals and closing, stricter than stock uvicorn.

It has the constructor and the `shutdown` that uvicorn's server expects of a protocol class, so it also runs
under stock uvicorn (`--http claude_proxy.server.protocol:HardenedProtocol`). It does not derive from uvicorn's
HttpToolsProtocol, because it would override every method: pipelining, upgrades, deadlines, trailers and early
responses are all part of that class's control flow.
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
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, with a timeout of 0


class HardenedProtocol(asyncio.Protocol):
    """One connection. `running` is the request the app is handling, `waiting` holds the ones pipelined behind it."""

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
        if isinstance(self.app, ProxyHeadersMiddleware):  # it does nothing without an X-Forwarded-* header
            self.direct_app = self.app.app
        if not inspect.isroutine(self.direct_app):
            self.direct_app = self.direct_app.__call__  # calling a bound method is faster than calling an instance
        self.root_path = config.root_path
        self.limits: Limits = getattr(config, "limits", None) or Limits(keep_alive=config.timeout_keep_alive)
        self.loop = _loop or asyncio.get_running_loop()
        self.server_state = server_state
        self.app_state = app_state
        self.reader = RequestReader(self.limits, self._take)

        self.running: Cycle | None = None
        self.waiting: deque[Cycle] = deque()
        self._receiving: Cycle | None = None
        self._fresh: Cycle | None = None  # `running`, but not started: its packet is still being parsed
        self._waiting_size = 0
        self._refusal: RefusedError | None = None  # sent after the responses to earlier requests
        self._scope_base: dict[str, Any] = {}
        # Seconds allowed for a client that has not sent anything yet or does not read, even if `keep_alive` is shorter.
        self._patience = max(self.limits.keep_alive, self.limits.head_seconds)
        self._idle_since = 0.0
        self._idle_allowed = self._patience
        self._idle_uncovered = self._patience > self.limits.keep_alive  # restart the idle timer after the next response
        self._head_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's has the methods but not the base class
        self.flow = FlowControl(self.transport)
        # In some asyncio versions (3.13.0) `writelines` never pauses the writer.
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
            **dict.fromkeys(_OF_REQUEST),  # so that copies need not grow
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
        self._scope_base = {}  # breaks a reference cycle

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
        """Enforce the limits on an incomplete request and on pipelined ones."""
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

    # Running requests

    def _take(self) -> Cycle:
        """The reader has parsed a head: run the request, or queue it behind the running one."""
        reader = self.reader
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        fields = reader.fields
        forwarded = b"x-forwarded-for" in fields or b"x-forwarded-proto" in fields  # sent by a front proxy
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
        # Whether or not the front proxy strips the prefix, an ASGI path starts with root_path exactly once.
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
        """Call the app; with `at_once` (Python 3.12 or newer) it runs in this loop iteration until it first waits."""
        if sys.version_info >= (3, 12) and at_once:
            task = asyncio.Task(cycle.run(), loop=self.loop, name=_EXCHANGE, eager_start=True)
        else:
            task = asyncio.Task(cycle.run(), loop=self.loop, name=_EXCHANGE)  # a given name costs less than a generated one
        if not task.done():
            cycle.task = task
            self.server_state.tasks.add(task)

    def on_task_end(self, task: asyncio.Task[None] | None) -> None:
        """The app has returned."""
        if task is not None:
            self.server_state.tasks.discard(task)

    def _running_exchange(self) -> Cycle | None:
        """Used by the ASGI extension: the app asks for its exchange when it is called."""
        return self.running

    def on_response_complete(self, cycle: Cycle) -> None:
        """The app has sent the last byte: start the next request or the idle timer."""
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
        """Too much is pipelined: finish the running response, then close. The client must retry unanswered requests
        (RFC 9112 section 9.3.2). Reading continues, so that a disconnect is noticed."""
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
        else:  # already answered, but its body is malformed
            self._close(linger=False)

    def _say(self, error: ProxyError, method: str) -> None:
        if not self.transport.is_closing():
            self.transport.write(as_response(error, self.default_block(), with_body=method != "HEAD"))
            self._close(linger=True)

    def give_up(self, cycle: Cycle, error: ProxyError) -> None:
        """The app failed before its response began: send `error` and close."""
        self._say(error, cycle.scope["method"])

    def cut(self, *, hard: bool) -> None:
        """Close in the middle of a response; with `hard` by a reset, for a body that is delimited by the close."""
        if hard:
            raw: socket.socket | None = self.transport.get_extra_info("socket")
            if raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()
        else:
            self._close(linger=False)

    def abort(self) -> None:
        """Drop the connection at once."""
        self.transport.abort()

    def _close(self, *, linger: bool) -> None:
        """Close after flushing; with `linger`, keep reading for a while, so that a reset does not destroy what was written."""
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
        """The grace time is over: drop the connection, without reporting it as a client disconnect."""
        if self.running is not None:
            self.running.watch(None)
        self.transport.abort()

    def shutdown(self) -> None:
        """The server drains: close an idle connection now, a busy one after its response."""
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
        """One timer per connection that checks whether it fired too early; cheaper than two timers per request."""
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
        """Return the `date` and `server` lines, rendered once a second."""
        global _last_block, _last_headers
        headers = self.server_state.default_headers
        if headers is not _last_headers:
            _last_block = b"".join([b"%b: %b\r\n" % header for header in headers])
            _last_headers = headers
        return _last_block


_last_headers: list[tuple[bytes, bytes]] = []
_last_block = b""
