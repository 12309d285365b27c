"""One connection: records requests, sends planned answers, and injects the scenario's faults."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Coroutine
from hashlib import sha256
from typing import Any, Protocol, cast

import httptools

from .answer import Answer, Request, error_body, frame, plain, status_line
from .faults import Cut, End, Pause, Send, Silence, plan
from .recorded import Outcome, Recorded
from .scenario import Ending, Scenario, Until


class Host(Protocol):
    """What a connection needs from its simulator."""

    keep_body: int

    def connected(self, connection: Connection) -> int:
        """Register a new connection; return its number."""

    def disconnected(self, connection: Connection) -> None:
        """Unregister a closed connection."""

    def head_in(self, recorded: Recorded) -> Scenario | None:
        """Record a request's head; return its scenario if that is known already."""

    def body_in(self, recorded: Recorded) -> Scenario:
        """Record a request's body; return its scenario."""

    def answer(self, recorded: Recorded, scenario: Scenario) -> tuple[Answer, int]:
        """Return the answer and the request's number."""

    def ended(self, recorded: Recorded) -> None:
        """Record the end of a request."""

    def changed(self) -> None:
        """Signal that more of a request was received or more of an answer sent."""

    def refused(self, why: str) -> None:
        """Record bytes that were not a valid request."""

    async def silence(self, until: Until) -> None:
        """Wait like a stalled answer."""


class Connection(asyncio.Protocol):
    """The server's side of one TCP (or TLS) connection."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.loop = asyncio.get_running_loop()
        self.number = 0
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.task: asyncio.Task[None] | None = None
        self._parser: Any = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Recorded, Request]] = deque()
        self._answering: Recorded | None = None
        self._incoming: Recorded | None = None
        self._scenario: Scenario | None = None
        self._acted = self._begun = False
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._in_body = False
        self._chunks: list[bytes] = []
        self._drained: asyncio.Future[None] | None = None
        self._deaf = False
        self._close_on_next: Ending | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start; every write goes to the kernel at once or counts as not yet written."""
        self.transport = cast("asyncio.Transport", transport)
        tls = transport.get_extra_info("ssl_object") is not None
        self.transport.set_write_buffer_limits(high=int(tls))  # TLS transports pause at the limit, others above it
        self.number = self.host.connected(self)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless the connection no longer reads."""
        if self._close_on_next is not None:
            self._shut(self._close_on_next)
            return
        if self._deaf:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._deaf = True
        except httptools.HttpParserCallbackError:
            self._shut("rst")  # a bug of ours or of a scenario function: the loop reports it
            raise
        except httptools.HttpParserError as problem:
            self._refuse(problem)

    def eof_received(self) -> None:
        """Treat even a half-closed connection as a disconnect: a cancelling proxy looks like that."""
        self._left()

    def connection_lost(self, exc: Exception | None) -> None:
        """Record the disconnect and end what was running."""
        self._deaf = True
        self._left()
        self._parser = None
        self.host.disconnected(self)

    def pause_writing(self) -> None:
        """Pause the answer until the client has read what was written."""
        self._drained = self.loop.create_future()

    def resume_writing(self) -> None:
        """Continue the answer."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # httptools

    def on_message_begin(self) -> None:
        """Reset for a new request."""
        self._target, self._headers, self._in_body = b"", [], False
        self._scenario, self._chunks, self._acted, self._begun = None, [], False, False

    def on_url(self, url: bytes) -> None:
        """Collect the target; it may come in pieces."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header, or a trailer once the body has begun."""
        if self._in_body and self._incoming is not None:
            self._incoming.trailers.append((name, value))
        else:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Record the request and apply faults that need no body."""
        self._in_body = True
        method = self._parser.get_method().decode("latin-1")
        version = self._parser.get_http_version()
        now = self.loop.time()
        recorded = Recorded(method, self._target, self._headers, self.number, now, version)
        self._incoming = recorded
        self._scenario = self.host.head_in(recorded)
        if not self._act_on_body_fault(recorded) and b"100-continue" in _expectation(recorded):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Keep the body while it is small, its digest when it is large."""
        recorded = self._incoming
        if recorded is None or self._deaf:
            return
        recorded.body_size += len(body)
        if recorded.digest is not None:
            recorded.digest.update(body)
        else:
            self._chunks.append(body)
            if recorded.body_size > self.host.keep_body:
                recorded.digest = sha256(b"".join(self._chunks))
                self._chunks = []
        self._act_on_body_fault(recorded)
        self.host.changed()

    def on_message_complete(self) -> None:
        """Answer, or wait for earlier answers."""
        recorded, self._incoming = self._incoming, None
        if recorded is None or self._deaf:
            return
        recorded.body = b"".join(self._chunks)
        recorded.complete, recorded.completed_at = True, self.loop.time()
        scenario = self.host.body_in(recorded)
        if self._begun:
            return
        recorded.scenario = self._scenario = scenario
        self._act_on_body_fault(recorded, complete=True)
        if not self._begun:
            self._queue(recorded)

    # the order of answers

    def _request(self, recorded: Recorded) -> Request:
        return Request(recorded.method, recorded.http_version, self._parser.should_keep_alive())

    def _queue(self, recorded: Recorded) -> None:
        self._begun = True
        self._waiting.append((recorded, self._request(recorded)))
        self._next()

    def _act_on_body_fault(self, recorded: Recorded, complete: bool = False) -> bool:
        """Apply a fault that acts before the body is complete (or at its end); return whether there is one."""
        fault = self._scenario.fault if self._scenario is not None else None
        if fault is None or not fault.before_body or self._acted:
            return False
        if recorded.body_size < fault.n and not complete:
            return True
        self._acted = True
        recorded.scenario = self._scenario
        if fault.kind == "early":
            self._queue(recorded)
        elif fault.kind == "stall":
            self._start(self._not_reading(fault.until))
        else:
            self._begun = True
            recorded.body = recorded.body or b"".join(self._chunks)
            self._shut(fault.how)
            self._end(recorded, "cut")
        return True

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self.task = self.loop.create_task(work)
        self.task.add_done_callback(self._report)

    def _report(self, task: asyncio.Task[None]) -> None:
        problem = None if task.cancelled() else task.exception()
        if problem is not None:
            self._shut("rst")
            self.loop.call_exception_handler({"message": "an answer failed", "exception": problem})

    async def _not_reading(self, until: Until) -> None:
        self.transport.pause_reading()
        await self.host.silence(until)
        self.task = None
        self.transport.resume_reading()
        self._next()

    def _next(self) -> None:
        """Begin the next answer if none is running."""
        while self._waiting and self._answering is None and self.task is None and not self._deaf:
            recorded, request = self._waiting.popleft()
            self._answering = recorded
            scenario = recorded.scenario or Scenario()
            answer, number = self.host.answer(recorded, scenario)
            if scenario.plain:
                self._answer_plainly(recorded, request, answer, scenario, number)
            else:
                self._start(self._perform(recorded, request, answer, scenario, number))

    def _answer_plainly(self, recorded: Recorded, request: Request, answer: Answer, scenario: Scenario, number: int) -> None:
        data, close = plain(answer, scenario, request, number)
        recorded.status = answer.status
        if answer.reports and request.method != "HEAD":
            recorded.usage = answer.reports[-1][1]
        self._write(recorded, data)
        if self.transport.get_write_buffer_size() == 0:
            self._finish(recorded, End("close" if close else "keep"))
        else:
            self._start(self._flushed(recorded, End("close" if close else "keep")))

    async def _flushed(self, recorded: Recorded, end: End) -> None:
        await self._drain()
        self.task = None
        self._finish(recorded, end)

    async def _perform(self, recorded: Recorded, request: Request, answer: Answer, scenario: Scenario, number: int) -> None:
        framed = frame(answer, scenario, request, number)
        reports = dict(answer.reports)
        for step in plan(framed, scenario):
            match step:
                case Send():
                    if step.data is framed.head:
                        recorded.status = answer.status
                    await self._send(recorded, step)
                    if step.part in reports:
                        recorded.usage = reports[step.part]
                case Pause():
                    await asyncio.sleep(step.seconds)
                case Silence():
                    await self.host.silence(step.until)
                case _:
                    self.task = None
                    self._finish(recorded, step)
                    return

    async def _send(self, recorded: Recorded, step: Send) -> None:
        if not step.bytewise:
            self._write(recorded, step.data)
            await self._drain()
            await asyncio.sleep(0)
            return
        for at in range(len(step.data)):
            self._write(recorded, step.data[at : at + 1])
            await self._drain()
            await asyncio.sleep(step.pause)

    def _write(self, recorded: Recorded, data: bytes) -> None:
        recorded.sent += len(data)
        self.transport.write(data)
        self.host.changed()

    async def _drain(self) -> None:
        while self._drained is not None:
            await self._drained

    def _finish(self, recorded: Recorded, step: Cut | End) -> None:
        """End the answer and handle the connection as the step says."""
        self._answering = None
        if isinstance(step, Cut):
            self._shut(step.how)
            self._end(recorded, "cut")
            return
        match step.then:
            case "keep":
                pass
            case "close-on-next":
                self._close_on_next = step.how
            case "linger" if self.transport.can_write_eof():
                self._deaf = True
                self.transport.write_eof()
            case _:
                self._shut("rst" if step.then == "rst" else "fin")
        self._end(recorded, "answered")
        self._next()

    # closing

    def _end(self, recorded: Recorded, outcome: Outcome) -> None:
        recorded.outcome, recorded.ended_at = outcome, self.loop.time()
        self.host.ended(recorded)

    def _shut(self, how: Ending) -> None:
        """Close the connection; read and write nothing more on it."""
        self._deaf = True
        if how == "rst":
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()

    def _left(self) -> None:
        """The client has disconnected: end whatever was not finished."""
        if self.task is not None:
            self.task.cancel()
            self.task = None
        unfinished = [self._answering, *(recorded for recorded, _ in self._waiting), self._incoming]
        self._answering = self._incoming = None
        self._waiting.clear()
        for recorded in unfinished:
            if recorded is not None and recorded.outcome is None:
                recorded.body = recorded.body or b"".join(self._chunks)
                recorded.left_at = self.loop.time()
                self._end(recorded, "client-left")

    def _refuse(self, problem: Exception) -> None:
        """Answer invalid bytes with a 400 and close, as a strict server does."""
        self.host.refused(str(problem))
        if self._answering is None and not self.transport.is_closing():
            body = error_body("invalid_request_error", f"not HTTP: {problem}")
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(status_line(400) + head + body)
        self._shut("fin")


def _expectation(recorded: Recorded) -> bytes:
    for name, value in recorded.headers:
        if len(name) == 6 and name.lower() == b"expect":
            return value.lower()
    return b""
