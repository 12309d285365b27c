"""The workers of one server, as each of them sees the others: they answer over Unix sockets, and only while somebody asks.

Each worker listens at `DATA_DIR/workers/<group>.<pid>.live`. Where that path is too long for a socket, the file of that name
holds the path of a socket elsewhere. A question is an empty message, the answer is whatever `answer` gives; both are framed as in
`reports`. A worker that does not answer in time is left out of that round.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from claude_proxy.exchange import Listener
from claude_proxy.observe import workers
from claude_proxy.observe.election import MAX_SOCKET_PATH
from claude_proxy.observe.live import Full, Live, Watcher
from claude_proxy.observe.reports import read_frame, write_frame

PATIENCE = 0.5  # seconds that the others may take to answer
LOOK = 2.0  # seconds after which the folder is looked at again for workers that came
SUFFIX = ".live"
_PREFIX = "claude-proxy-"  # of a socket's folder elsewhere
_UNANSWERED = (OSError, EOFError, ValueError)  # TimeoutError is an OSError
Answer = dict[str, Any]
Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]
log = structlog.get_logger("workers")


class Fleet(Listener):
    """This worker's socket, and its questions to the others.

    Args:
        live: what runs here; each worker that asks watches it for as long as it stays connected.
        answer: what this worker tells of itself, to another one's watcher; called on the event loop.
        data_dir: where the workers meet.
        group: names the workers that belong together, None for a process that works alone; called at the start.
        name: tells this worker from the others.
    """

    def __init__(
        self,
        live: Live,
        answer: Callable[[Watcher], Answer],
        data_dir: Path,
        *,
        group: Callable[[], str | None] = workers.group,
        name: Callable[[], object] = os.getpid,
    ) -> None:
        self._name = name
        self._live = live
        self.answer = answer
        self._folder = data_dir / "workers"
        self._find_group = group
        self._group: str | None = None
        self._place: Path | None = None
        self._socket: Path | None = None
        self._server: asyncio.Server | None = None
        self._asked: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}
        self._links: dict[Path, Link] = {}
        self._looked = float("-inf")

    async def start(self) -> None:
        """Listen, if there can be others."""
        self._group = self._find_group()
        if self._group is None:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._place = self._folder / f"{self._group}.{self._name()}{SUFFIX}"
            self._place.unlink(missing_ok=True)
            self._socket = _socket_for(self._place)
            self._server = await asyncio.start_unix_server(self._serve, self._socket)
            if self._socket != self._place:
                self._place.write_bytes(os.fsencode(self._socket))
        except OSError as error:
            log.warning("workers_apart", note=f"The page shows only the worker that it reached: {error.strerror or error}.")
            await self.aclose()

    async def aclose(self) -> None:
        """Stop answering and asking."""
        self.let_go()
        server, self._server = self._server, None
        if server is not None:
            server.close()
            for writer in self._asked.values():
                writer.close()
            tasks = [task for task in self._asked if task is not None]
            if tasks:
                await asyncio.wait(tasks, timeout=PATIENCE)
        for path in (self._place, self._socket):
            if path is not None:
                _remove(path)
        self._place = self._socket = None

    # -- answering

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._asked[task] = writer
        watcher = None
        try:
            watcher = self._live.watch()
            while True:
                await read_frame(reader)
                write_frame(writer, msgspec.msgpack.encode(self.answer(watcher)))
                await writer.drain()
        except (*_UNANSWERED, Full):
            return  # it has gone, or talks nonsense
        finally:
            if watcher is not None:
                self._live.unwatch(watcher)
            del self._asked[task]
            with contextlib.suppress(OSError):
                writer.close()

    # -- asking

    async def ask(self) -> list[Answer]:
        """What the other workers tell of themselves; those that do not answer in time are missing."""
        if self._place is None:
            return []
        if time.monotonic() - self._looked >= LOOK:
            self._looked = time.monotonic()
            await self._connect()
        found = await asyncio.gather(*(self._question(path, link) for path, link in list(self._links.items())))
        return [answer for answer in found if answer is not None]

    def let_go(self) -> None:
        """Nobody looks any more: hang up, so that the others stop watching."""
        links, self._links, self._looked = self._links, {}, float("-inf")
        for _, writer in links.values():
            writer.close()

    async def _connect(self) -> None:
        for path in await asyncio.to_thread(self._others):
            if path in self._links:
                continue
            try:
                async with asyncio.timeout(PATIENCE):
                    self._links[path] = await asyncio.open_unix_connection(_target(path))
            except ConnectionRefusedError:
                _remove(path)  # left behind by a worker that was killed
            except _UNANSWERED:
                continue

    def _others(self) -> list[Path]:
        return [path for path in self._folder.glob(f"{self._group}.*{SUFFIX}") if path != self._place]

    async def _question(self, path: Path, link: Link) -> Answer | None:
        reader, writer = link
        try:
            async with asyncio.timeout(PATIENCE):
                write_frame(writer, b"")
                await writer.drain()
                answer = msgspec.msgpack.decode(await read_frame(reader))
        except _UNANSWERED:
            writer.close()  # a late answer would be taken for that to the next question
            self._links.pop(path, None)
            return None
        return answer if isinstance(answer, dict) else None


def _socket_for(place: Path) -> Path:
    if len(os.fsencode(place.absolute())) <= MAX_SOCKET_PATH:
        return place
    return Path(tempfile.mkdtemp(prefix=_PREFIX)) / "sock"


def _target(place: Path) -> Path:
    """Where the worker of a file listens."""
    return place if place.is_socket() else Path(os.fsdecode(place.read_bytes()))


def _remove(path: Path) -> None:
    """Remove a worker's file, its socket elsewhere, and the folder of that."""
    with contextlib.suppress(OSError):
        target = _target(path)
        path.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
        if target.parent.name.startswith(_PREFIX):
            target.parent.rmdir()
