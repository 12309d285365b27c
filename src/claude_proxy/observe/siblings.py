"""Lets the workers of one server ask each other: each answers on its own Unix socket, in a folder for this user alone.

Nothing is sent unless a worker asks. One that was killed or hangs costs its own part of an answer, and at most PATIENCE.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import structlog

from claude_proxy.exchange import Listener
from claude_proxy.observe import workers
from claude_proxy.observe.election import Election, NoElection, addresses
from claude_proxy.observe.reports import read, write

PATIENCE = 0.5  # seconds that another worker may take to answer
_STANDS = 5  # tries to lock the file of this worker: a worker that removes leftovers may hold it for an instant
_LAST_WORDS = 1.0  # seconds that connections get to end
_GONE = (OSError, EOFError, ValueError)  # TimeoutError is an OSError; a broken message is a ValueError

log = structlog.get_logger("workers")


class Question(msgspec.Struct, array_like=True):
    """What one worker asks another."""

    topic: str
    data: Any = None


class Told(msgspec.Struct, array_like=True):
    """An answer, or one of a stream of answers."""

    data: Any


class Answers(NamedTuple):
    """What the other workers answered.

    Attributes:
        silent: how many did not answer in time.
    """

    data: list[Any]
    silent: int = 0


_questions = msgspec.msgpack.Decoder(Question)
_answers = msgspec.msgpack.Decoder(Told)
Stream = Callable[[], AsyncIterator[Any]]


class Siblings(Listener):
    """This worker's part: answers the others, and asks them.

    Args:
        data_dir: where the workers find each other.
        group: names the workers that belong together, None for a process that works alone; called at the start.
        patience: seconds that another worker may take to answer.
    """

    def __init__(
        self, data_dir: Path, *, group: Callable[[], str | None] = workers.group, patience: float = PATIENCE, name: str = ""
    ) -> None:
        self._data_dir = data_dir
        self._group = group
        self._patience = patience
        self._name = name or str(os.getpid())
        self._prefix = ""
        self._seat: Election | None = None  # of a group that only this worker belongs to
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}
        self._handlers: dict[str, Callable[[Any], Any]] = {}
        self._streams: dict[str, Stream] = {}

    def on_question(self, topic: str, handler: Callable[[Any], Any]) -> None:
        """Answer questions about `topic` with what `handler` returns for their data."""
        self._handlers[topic] = handler

    def on_listen(self, topic: str, stream: Stream) -> None:
        """Send to each worker that listens to `topic` what `stream()` yields; the stream is closed when the worker goes."""
        self._streams[topic] = stream

    async def start(self) -> None:
        """Let the other workers ask. Without a folder for the socket this worker stays alone; the metrics warn about that."""
        group = self._group()
        if group is None:
            return
        self._prefix = f"{group}-"
        self._seat = seat = Election(self._data_dir, f"{self._prefix}{self._name}")
        try:
            await self._open(seat)
        except (NoElection, OSError) as error:
            log.debug("workers_apart", reason=str(error))
            await self.aclose()

    async def aclose(self) -> None:
        """Drop all connections."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for task, writer in list(self._links.items()):
            writer.close()
            if task is not None:
                task.cancel()
        tasks = [task for task in self._links if task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST_WORDS)
        if self._seat is not None:
            self._seat.resign()

    # -- asking

    def others(self) -> list[Path]:
        """Where the other workers listen."""
        if self._server is None or self._seat is None:
            return []
        return [path for path in addresses(self._data_dir, self._prefix) if path != self._seat.socket]

    def size(self) -> int | None:
        """How many workers this server has, this one included; None if they cannot find each other."""
        if not self._prefix:
            return 1
        return None if self._server is None else 1 + len(self.others())

    def is_first(self) -> bool:
        """Whether no other worker is before this one: some things need to be said by one of them only."""
        return self._seat is None or all(str(self._seat.socket) < str(path) for path in self.others())

    async def ask(self, topic: str, data: Any = None) -> Answers:
        """Ask all other workers at once."""
        asked = [self._ask(path, Question(topic, data)) for path in self.others()]
        found = await asyncio.gather(*asked, return_exceptions=True)
        return Answers([one.data for one in found if isinstance(one, Told)], sum(isinstance(one, TimeoutError) for one in found))

    async def listen(self, path: Path, topic: str) -> AsyncIterator[Any]:
        """Yield what the worker at `path` sends about `topic`, until either of the two ends."""
        with contextlib.suppress(*_GONE):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                write(writer, Question(topic))
                while True:
                    yield (await read(reader, _answers)).data
            finally:
                writer.close()

    async def _ask(self, path: Path, question: Question) -> Told:
        """One worker's answer.

        Raises:
            TimeoutError: it hangs.
            OSError, EOFError, ValueError: it has ended, or does not know the topic.
        """
        async with asyncio.timeout(self._patience):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                write(writer, question)
                return await read(reader, _answers)
            finally:
                writer.close()

    # -- answering

    async def _open(self, seat: Election) -> None:
        for _ in range(_STANDS):
            if seat.stand():
                break
            await asyncio.sleep(0)
        else:
            raise NoElection("another process answers in this one's place")
        assert seat.socket is not None
        self._server = await asyncio.start_unix_server(self._serve, seat.socket)
        seat.announce()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._links[task] = writer
        try:
            question = await read(reader, _questions)
            if question.topic in self._streams:
                await self._tell_until_gone(self._streams[question.topic], reader, writer)
            elif question.topic in self._handlers:
                write(writer, Told(self._handlers[question.topic](question.data)))
                await writer.drain()
        except _GONE:
            return  # it has gone, or sent a broken message
        except Exception as error:  # our handler failed: the answer lacks this worker's part
            log.error("worker_question_failed", exc_info=error)
        finally:
            del self._links[task]
            with contextlib.suppress(OSError):
                writer.close()

    async def _tell_until_gone(self, stream: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def tell() -> None:
            async with contextlib.aclosing(stream()) as items:  # type: ignore[type-var]
                async for data in items:
                    write(writer, Told(data))
                    await writer.drain()

        telling = asyncio.create_task(tell())
        leaving = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait((telling, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (telling, leaving):
                task.cancel()
            await asyncio.gather(telling, leaving, return_exceptions=True)
