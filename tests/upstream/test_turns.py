"""Turns at a full pool, under every order of events that hypothesis finds: arrivals, releases, closes, failures, cancellations.

Real connections on transports written by hand, on a loop that runs one iteration at a time and a clock that is set by hand, so
that things happen between the moment somebody is woken and the moment it runs.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from claude_proxy.errors import ConnectFailed, ProxyError
from claude_proxy.upstream.connection import Connection
from claude_proxy.upstream.dial import Dialer, parse_origin
from claude_proxy.upstream.pool import Pool

LIMIT = 2
PATIENCE = 10.0  # seconds, CONNECT_TIMEOUT


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still until it is set."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def turn(self) -> None:
        """One iteration."""
        self.call_soon(self.stop)
        self.run_forever()


class Wire(asyncio.Transport):
    """The transport of a connection to nowhere."""

    def __init__(self, loop: Loop, connection: Connection) -> None:
        super().__init__()
        self._loop = loop
        self._connection = connection
        self._closing = False

    def abort(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._connection.connection_lost, None)

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: Any) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class Dialing(Dialer):
    """Connects when it is told to."""

    def __init__(self) -> None:
        super().__init__(parse_origin("http://api.example", {}))
        self.tasks: dict[asyncio.Task[None], asyncio.Future[None]] = {}

    async def connect(self, loop: asyncio.AbstractEventLoop, connection: Connection) -> None:
        assert isinstance(loop, Loop)
        task = asyncio.current_task()
        assert task is not None
        self.tasks[task] = loop.create_future()
        try:
            await self.tasks[task]
        finally:
            del self.tasks[task]
        connection.connection_made(Wire(loop, connection))


class Turns(RuleBasedStateMachine):
    """A pool with `LIMIT` places, and everybody who wants one."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = Loop()
        self.dialing = Dialing()
        origin = self.dialing.origin
        self.pool = Pool(origin, connect_timeout=PATIENCE, expiry=3600, limit=LIMIT, dialer=self.dialing)
        self.done: dict[asyncio.Task[None], asyncio.Future[None]] = {}  # of each exchange, in order of arrival
        self.held: dict[asyncio.Task[None], Connection] = {}
        self.seen: list[Connection] = []

    async def _use(self, done: asyncio.Future[None]) -> None:
        """One exchange: its answer is complete when `done` is."""
        task = asyncio.current_task()
        assert task is not None
        try:
            connection = self.pool.take(self.loop.time()) or await self.pool.connect(self.loop)
        except ProxyError:
            return
        assert connection not in self.held.values(), "two exchanges on one connection"
        self.held[task] = connection
        if connection not in self.seen:
            self.seen.append(connection)
        try:
            connection.send(b"GET / HTTP/1.1\r\n\r\n", b"")
            await done
            connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except ProxyError:
            pass
        finally:
            del self.held[task]
            self.pool.release(connection, self.loop.time())

    # -- what happens

    @rule()
    def arrives(self) -> None:
        done = self.loop.create_future()
        self.done[self.loop.create_task(self._use(done))] = done

    @rule()
    def turns(self) -> None:
        self.loop.turn()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def answered(self, data: st.DataObject) -> None:
        done = self.done[data.draw(st.sampled_from(list(self.held)))]
        if not done.done():
            done.set_result(None)

    @precondition(lambda self: any(not connection.closed for connection in self.seen))
    @rule(data=st.data(), at_once=st.booleans())
    def closed_by_the_peer(self, data: st.DataObject, at_once: bool) -> None:
        connection = data.draw(st.sampled_from([connection for connection in self.seen if not connection.closed]))
        wire = connection._transport
        if at_once and not wire.is_closing():  # in this iteration, before those run that were woken in it
            connection.connection_lost(ConnectionResetError())
        else:
            wire.abort()

    @precondition(lambda self: self.dialing.tasks)
    @rule(data=st.data(), works=st.booleans())
    def dialed(self, data: st.DataObject, works: bool) -> None:
        connecting = data.draw(st.sampled_from(list(self.dialing.tasks.values())))
        if not connecting.done():
            connecting.set_result(None) if works else connecting.set_exception(ConnectFailed("no"))

    @precondition(lambda self: any(not task.done() for task in self.done))
    @rule(data=st.data())
    def cancelled(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from([task for task in self.done if not task.done()])).cancel()

    @rule(seconds=st.sampled_from([1.0, PATIENCE]))
    def time_passes(self, seconds: float) -> None:
        self.loop.now += seconds

    # -- what holds

    @invariant()
    def the_limit_holds(self) -> None:
        assert len(self.pool) + self.pool._dialing <= LIMIT

    @rule()
    def everything_settles(self) -> None:
        """When all that was ready has run (until then, one who was woken looks like one who waits)."""
        self._settle()
        waiting = [task for task in self.done if self._waits(task)]
        assert self.pool.waiting == len(waiting)
        assert not self.pool._handed
        if waiting:
            assert self.pool.idle == 0
            assert len(self.pool) + self.pool._dialing == LIMIT
            arrivals = list(self.done)
            served = [task for task in arrivals if task in self.held or task in self.dialing.tasks]
            assert all(arrivals.index(task) < arrivals.index(waiting[0]) for task in served), "a newcomer was served first"

    def _waits(self, task: asyncio.Task[None]) -> bool:
        return not (task.done() or task in self.held or task in self.dialing.tasks)

    def _settle(self) -> None:
        for _ in range(20):
            self.loop.turn()

    def teardown(self) -> None:
        for task in self.done:
            task.cancel()
        self._settle()
        assert all(task.done() for task in self.done)
        assert (self.pool.waiting, self.pool._dialing, len(self.pool._handed)) == (0, 0, 0)
        self.pool.close()
        self._settle()
        assert (len(self.pool), self.pool.idle) == (0, 0)
        self.loop.close()


TestTurns = Turns.TestCase
TestTurns.settings = settings(max_examples=150, stateful_step_count=60, deadline=None, derandomize=True, database=None)
