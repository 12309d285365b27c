"""One leader among the workers that share a DATA_DIR: it alone decides and pushes, and the others hand it their events.

The others connect to the leader's Unix socket. A frame is 4 bytes of length and a MessagePack array: who sends it, its number,
its events. The leader answers each with one byte when it has taken it. What is not confirmed is sent again under its number, to
the next leader if the old one has died.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from claude_proxy.notify.events import Answered, Event

PERIOD = 0.5  # seconds between two frames
UNHEARD = 30.0  # seconds after which a leader that cannot be reached, such as one on another machine, is given up
PATIENCE = 5.0  # seconds that the leader may take to confirm
WAITING = 5000  # events; beyond, good answers are dropped first
FRAME = 500  # events
MAX_WORKERS = 256
MAX_FRAME = 16 * 1024**2  # bytes
TAKEN = b"\x06"
_encode = msgspec.msgpack.Encoder().encode
log = structlog.get_logger("notify")


class Frame(msgspec.Struct, array_like=True):
    """Some events of one worker; `number` grows by one with each frame."""

    worker: str
    number: int
    events: list[Event]


_decode = msgspec.msgpack.Decoder(Frame).decode


class Seat(Protocol):
    """The leadership, which one process has at a time (observe/election.py)."""

    socket: Path | None

    def stand(self) -> bool:
        """Take it if it is free; whether this process has it. Raises an exception if there can be none here."""

    def announce(self) -> None:
        """Let the others know where the leader listens."""

    def leader(self) -> Path | None:
        """Where the leader listens; None if it is not known."""

    def resign(self) -> None:
        """Give it up."""


class Crew:
    """This process's part: as the leader, or as one that hands its events on.

    Args:
        seat: None for a process that works alone.
        lead: called when this process becomes the leader; `kept` is whether others can never be, so that the file in DATA_DIR
            is this process's.
        take: called on the leader with each event.
    """

    def __init__(
        self, seat: Seat | None, lead: Callable[[bool], Awaitable[None]], take: Callable[[Event], None], *, period: float = PERIOD
    ) -> None:
        self._seat = seat
        self._lead = lead
        self._take = take
        self._period = period
        self._name = os.urandom(6).hex()
        self._waiting: deque[Event] = deque()
        self._frame = Frame(self._name, 0, [])  # the last one; its events are unconfirmed while it has any
        self._last: dict[str, int] = {}  # the leader's: number of the last frame of each worker
        self._leads = False
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}
        self._link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    @property
    def leads(self) -> bool:
        """Whether this process decides."""
        return self._leads

    def submit(self, event: Event) -> None:
        """Hand an event to the leader. Never waits."""
        if self._leads:
            self._take(event)
            return
        if len(self._waiting) >= WAITING:
            victim = next((old for old in self._waiting if isinstance(old, Answered)), self._waiting[0])
            self._waiting.remove(victim)
        self._waiting.append(event)
        if not isinstance(event, Answered):
            self._wake.set()

    async def start(self) -> None:
        """Find out who leads."""
        await self._elect()
        if not self._leads:
            self._task = asyncio.get_running_loop().create_task(self._follow(), name="notices-crew")

    async def aclose(self) -> None:
        """Hand over what waits, or take no more from the others. `resign` comes last, when all is kept for the next leader."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if not self._leads and (self._waiting or self._frame.events):
            self._hang_up()  # it may be in the middle of a frame
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._hand_over()
        self._hang_up()
        if self._server is not None:
            self._server.close()
            for writer in self._links.values():
                writer.close()
            if tasks := [task for task in self._links if task is not None]:
                await asyncio.wait(tasks, timeout=1.0)

    def resign(self) -> None:
        """Leave the leadership to another."""
        if self._seat is not None:
            self._seat.resign()

    # -- electing

    async def _elect(self) -> None:
        if self._seat is None:
            await self._become(kept=True)
            return
        try:
            if not self._seat.stand():
                return
            assert self._seat.socket is not None
            self._server = await asyncio.start_unix_server(self._serve, self._seat.socket)
            self._seat.announce()
        except Exception as error:  # no locks, no folder, no socket
            await self._become_alone(str(error))
            return
        await self._become(kept=True)

    async def _become_alone(self, reason: str) -> None:
        """Tell what this worker sees itself."""
        if self._seat is not None:
            self._seat.resign()
        log.warning("this worker sends notices of its own, and none survive a restart", reason=reason[:200])
        await self._become(kept=False)

    async def _become(self, *, kept: bool) -> None:
        await self._lead(kept)
        self._leads = True
        self._waiting.extendleft(reversed(self._frame.events))
        self._frame.events.clear()
        while self._waiting:
            self._take(self._waiting.popleft())

    # -- following

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while not self._leads:
            await self._pause()
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._hand_over()
                heard = loop.time()
            except (OSError, EOFError, TimeoutError):
                self._hang_up()
                await self._elect()
                if not self._leads and loop.time() - heard > UNHEARD:
                    await self._become_alone("the worker that sends them cannot be reached")

    async def _pause(self) -> None:
        """Wait a period; what failed is handed over a little sooner than what went well."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._period):
                await self._wake.wait()
                self._wake.clear()
                await asyncio.sleep(self._period / 5)

    async def _hand_over(self) -> None:
        """Send what waits. It stays until the leader has confirmed it.

        Raises:
            OSError, EOFError: the leader does not answer.
        """
        if self._link is None:
            path = None if self._seat is None else self._seat.leader()
            if path is None:
                raise ConnectionError("there is no leader yet")
            self._link = await asyncio.open_unix_connection(path)
        reader, writer = self._link
        while True:
            data = _encode(self._next_frame())
            writer.write(len(data).to_bytes(4, "big") + data)
            await writer.drain()
            if await reader.readexactly(1) != TAKEN:
                raise ConnectionError("the leader talks nonsense")
            self._frame.events.clear()
            if not self._waiting:
                return

    def _next_frame(self) -> Frame:
        """The unconfirmed frame again, else a new one. An empty one asks whether the leader is still there."""
        if not self._frame.events:
            events = [self._waiting.popleft() for _ in range(min(FRAME, len(self._waiting)))]
            self._frame = Frame(self._name, self._frame.number + 1, events)
        return self._frame

    def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link[1].close()

    # -- leading

    def _take_frame(self, frame: Frame) -> None:
        if frame.number <= self._last.get(frame.worker, 0):
            return  # once more: its confirmation was lost
        if len(self._last) >= MAX_WORKERS and frame.worker not in self._last:
            del self._last[next(iter(self._last))]
        self._last[frame.worker] = frame.number
        for event in frame.events:
            self._take(event)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._links[task] = writer
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(4), "big")
                if size > MAX_FRAME:
                    return
                self._take_frame(_decode(await reader.readexactly(size)))
                writer.write(TAKEN)
                await writer.drain()
        except (OSError, EOFError, msgspec.DecodeError):
            return  # it has gone, or talks nonsense
        finally:
            del self._links[task]
            with contextlib.suppress(OSError):
                writer.close()
