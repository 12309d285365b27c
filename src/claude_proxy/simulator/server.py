"""The simulator as a server: start, stop, recorded requests, and waiting for events."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Self

from .answer import Answer
from .api import Api, peek
from .presets import ScriptError, from_header, from_model
from .recorded import Recorded
from .scenario import Scenario, Until, Usage, error
from .script import Script
from .stage import Stage
from .wire import Connection

Chooser = Callable[[Recorded], Scenario | None]
PREFIX = "/api/anthropic"


class CallableEvent(asyncio.Event):
    """An event that calls a function when it is itself called."""

    def __init__(self, on_call: Callable[[], None]) -> None:
        super().__init__()
        self._on_call = on_call

    def __call__(self) -> None:
        """Call that function."""
        self._on_call()


class Simulator:
    """A scripted Anthropic API on a real socket.

    ``scenario`` is a ``Scenario`` for every request, or a callable that gets each ``Recorded`` once its body has arrived
    (a ``Script`` that does not need the body, and a ``Stage``, are called after the head); None means the default. A
    request's header ``x-simulate`` and a model named ``sim-...`` override it.

    ``hold()`` closes the gate at which stalled answers wait, ``release()`` opens it; it is initially closed.
    ``await sim.hold.wait()`` returns when at least one answer is stalled.
    """

    def __init__(
        self,
        scenario: Scenario | Chooser | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        *,
        keys: Collection[str] = (),
        keep_body: int = 1 << 20,
        history: int | None = None,
        on_end: Callable[[Recorded], None] | None = None,
    ) -> None:
        """``keep_body``: bytes of a request's body to keep; ``history``: how many requests (None: all);
        ``keys``: credentials to accept (none: any); ``on_end`` is called when a request is over.
        """
        self.scenario = scenario
        self.host = host
        self.port = port
        self.tls = tls
        self.keep_body = keep_body
        self.requests: list[Recorded] = []
        self.refusals: list[str] = []
        """Why bytes on a connection were not a valid request."""
        self.reported = Usage()
        """The sum of what all ended answers have reported."""
        self.release = CallableEvent(self._open_gate)
        self.hold = CallableEvent(self._close_gate)
        self.connections = 0
        """TCP connections accepted so far."""
        self._open: set[Connection] = set()
        self._held = 0
        self._api = Api(keys)
        self._answers = 0
        self._history = history
        self._on_end = on_end
        self._server: asyncio.Server | None = None
        self._placeholder: socket.socket | None = None
        self._waiters: list[tuple[Callable[[Simulator], object], asyncio.Future[None]]] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    @property
    def origin(self) -> str:
        """Scheme, host and port, as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    @property
    def url(self) -> str:
        """The address without a path."""
        return self.origin

    @property
    def base_url(self) -> str:
        """The address as z.ai's: with ``/api/anthropic``."""
        return self.origin + PREFIX

    @property
    def open_connections(self) -> int:
        """TCP connections open now."""
        return len(self._open)

    async def start(self) -> None:
        """Start listening; with port 0 the port is known afterwards. Raises OSError."""
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), self.host, self.port, ssl=self.tls, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        if isinstance(self.scenario, Script | Stage):
            self.scenario.begin()

    async def refuse(self) -> None:
        """Stop listening so that new connections are refused; keep the port and open connections."""
        assert self._server is not None
        family = self._server.sockets[0].family
        self._server.close()
        self._server = None
        self._placeholder = socket.socket(family)
        self._placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._placeholder.bind((self.host, self.port))

    async def stop(self) -> None:
        """Stop listening, abort open connections, wait until all are closed."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None
        tasks = [connection.task for connection in self._open if connection.task is not None]
        for connection in list(self._open):
            connection.transport.abort()
        await self.wait_for(lambda sim: not sim.open_connections)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def wait_for(self, condition: Callable[[Simulator], object], timeout: float = 5.0) -> None:
        """Return once the condition is true; it is checked after each change.

        Raises:
            TimeoutError: it was not true within ``timeout`` seconds; the text says what was seen.
        """
        if condition(self):
            return
        waiter = (condition, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter[1]
        except TimeoutError:
            seen = [f"{one.method} {one.path} {one.outcome}" for one in self.requests[-5:]]
            raise TimeoutError(
                f"not within {timeout} s; {len(self.requests)} requests, {self.open_connections} connections open, "
                f"{self._held} stalled; last: {seen}"
            ) from None
        finally:
            self._waiters.remove(waiter)

    # called by connections (wire.Host)

    def connected(self, connection: Connection) -> int:
        """Register a new connection; return its number."""
        self._open.add(connection)
        self.connections += 1
        self.changed()
        return self.connections

    def disconnected(self, connection: Connection) -> None:
        """Unregister a closed connection."""
        self._open.discard(connection)
        self.changed()

    def head_in(self, recorded: Recorded) -> Scenario | None:
        """Record a request's head; return its scenario if that does not need the body."""
        self.requests.append(recorded)
        if self._history is not None and len(self.requests) > self._history:
            del self.requests[: -self._history]
        scenario = self._from_header(recorded)
        if scenario is not None:
            recorded.chosen_by = "header"
        elif isinstance(self.scenario, Scenario):
            scenario, recorded.chosen_by = self.scenario, "scenario"
        elif isinstance(self.scenario, Stage) or (isinstance(self.scenario, Script) and not self.scenario.needs_body):
            scenario, recorded.chosen_by = self.scenario(recorded), "scenario"
        recorded.scenario = scenario
        self.changed()
        return scenario

    def body_in(self, recorded: Recorded) -> Scenario:
        """Record a request's body; return its scenario."""
        self.changed()
        scenario = recorded.scenario
        if recorded.chosen_by != "header" and b'"sim-' in recorded.body:
            peek(recorded)
            by_model = _or_mistake(from_model, recorded.model)
            if by_model is not None:
                recorded.chosen_by = "model"
                return by_model
        if scenario is None and callable(self.scenario):
            if isinstance(self.scenario, Script):
                peek(recorded)
            scenario, recorded.chosen_by = self.scenario(recorded), "scenario"
        return scenario or _DEFAULT

    def answer(self, recorded: Recorded, scenario: Scenario) -> tuple[Answer, int]:
        """Return the answer and the request's number."""
        self._answers += 1
        return self._api.answer(recorded, scenario, self._answers, self.origin), self._answers

    def ended(self, recorded: Recorded) -> None:
        """Add up the reported usage."""
        if recorded.usage != _NOTHING:
            self.reported = self.reported + recorded.usage
        if isinstance(self.scenario, Script | Stage):
            self.scenario.ended(recorded)
        if self._on_end is not None:
            self._on_end(recorded)
        self.changed()

    def refused(self, why: str) -> None:
        """Record bytes that were not a valid request."""
        self.refusals.append(why)
        self.changed()

    async def silence(self, until: Until) -> None:
        """Wait until the gate opens (``release``), or forever: a disconnect cancels the wait."""
        self._held += 1
        self.hold.set()
        self.changed()
        try:
            if until == "release":
                await self.release.wait()
            else:
                await asyncio.get_running_loop().create_future()
        finally:
            self._held -= 1
            if not self._held:
                self.hold.clear()

    def _open_gate(self) -> None:
        self.release.set()

    def _close_gate(self) -> None:
        self.release.clear()

    def _from_header(self, recorded: Recorded) -> Scenario | None:
        for name, value in recorded.headers:
            if len(name) == 10 and name.lower() == b"x-simulate":
                return _or_mistake(from_header, value.decode("latin-1"))
        return None

    def changed(self) -> None:
        """Check the waiting conditions again."""
        for condition, future in self._waiters:
            if future.done():
                continue
            try:
                if condition(self):
                    future.set_result(None)
            except Exception as problem:  # the condition is the caller's, so raise its error in the waiter
                future.set_exception(problem)


_DEFAULT = Scenario()
_NOTHING = Usage()


def _or_mistake(read: Callable[[str], Scenario | None], text: str) -> Scenario | None:
    try:
        return read(text)
    except ScriptError as mistake:
        return error(400, message=f"simulator: {mistake}")
