"""Where log lines go: straight to standard error, or through a thread while the process serves."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from claude_proxy.log_writer import LogWriter, pieces

# How long an end of the process waits for the log's reader (seconds).
DRAIN_SECONDS = 0.5
_AGAIN = 0.01  # seconds until a write is tried again that a non-blocking descriptor did not take


class Sink:
    """Where lines go: straight to the stream, or while somebody has called `start` through a thread.

    Standard error is looked up for each write: whoever runs us may put another in its place, and close the old one. A log that
    cannot be written costs its lines and nothing else, because whoever logs is in the middle of something.

    Attributes:
        stream: where to, if not to standard error.
        loop: with it, `soon` writes the lines of one iteration of this event loop together.
    """

    def __init__(self, notice: Callable[[int, str], bytes]) -> None:
        """Write straight until told otherwise.

        Args:
            notice: renders the line about lost ones: how many, and why.
        """
        self.stream: TextIO | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._notice = notice
        self._loop_thread = 0
        self._waiting: list[bytes] = []
        self._writer: LogWriter | None = None
        self._users = 0  # how many `start` have not been matched by a `stop`
        self._lost = 0  # but for what the writer counts
        self._torn = False  # a write has ended within a piece

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        writer = self._writer
        return self._lost + (0 if writer is None else writer.lost)

    def msg(self, line: str | bytes) -> None:
        """Write one line."""
        self.write((line.encode("utf-8", "backslashreplace") if isinstance(line, str) else line) + b"\n")

    debug = info = warning = error = critical = exception = log = msg

    def soon(self, line: bytes) -> None:
        """Write one line of many, at the latest at the end of this iteration of the event loop, whose thread this is."""
        if self.loop is None:
            self.msg(line)
            return
        if not self._waiting:
            self.loop.call_soon(self.flush)
        self._waiting.append(line + b"\n")

    def write(self, data: bytes) -> None:
        """Write bytes as they are, after the lines that this thread has collected."""
        if self._waiting and threading.get_ident() == self._loop_thread:
            self.flush()
        self.put([data])

    def flush(self) -> None:
        """Write what the iteration has collected, in pieces that a pipe takes whole."""
        lines, self._waiting = self._waiting, []
        if lines:
            self.put(lines)

    def put(self, lines: list[bytes]) -> None:
        """Write complete lines, or hand them to the thread that does."""
        writer = self._writer
        if writer is not None:
            writer.put(lines)
            return
        for piece, count in pieces(lines):
            try:
                self._write(piece)
            except (OSError, ValueError):  # its reader is gone, the disk is full, or it is closed
                self._lost += count

    def collect(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Collect the lines of each iteration of `loop`, in whose thread this is called; with None no more."""
        self.loop = loop
        self._loop_thread = threading.get_ident()
        self.flush()

    def start(self) -> None:
        """From now on a thread writes."""
        self._users += 1
        if self._writer is None:
            self._writer = LogWriter(self._write, self._notice)

    def stop(self) -> bool:
        """Undo one `start`. After the last, wait for the thread and write straight again, unless the log's reader has stopped.

        Returns:
            whether everything has been written.
        """
        self.flush()
        self._users -= 1
        if self._users > 0 or self._writer is None:
            return True
        if not self._writer.drain(DRAIN_SECONDS):
            return False
        writer, self._writer = self._writer, None
        writer.close()
        self._lost += writer.lost
        return True

    def drain(self, seconds: float) -> bool:
        """Wait until everything is written, for `seconds` at most; False if it is not."""
        self.flush()
        return self._writer is None or self._writer.drain(seconds)

    def after_fork(self) -> None:
        """In a child: the parent's thread is not here, and the lines that it holds are the parent's to write."""
        self._waiting = []
        if self._writer is not None:
            self._writer = LogWriter(self._write, self._notice)

    @contextmanager
    def in_place_of_stderr(self) -> Iterator[None]:
        """As `start` and `stop`, and within the block what anybody writes to `sys.stderr` comes here too."""
        self.start()
        real = sys.stderr
        stand_in = None if real is None else _StandIn(self, real).as_text()
        if stand_in is not None:
            sys.stderr = stand_in
        try:
            yield
        finally:
            if self.stop() and stand_in is not None and sys.stderr is stand_in:
                sys.stderr = real

    def _write(self, data: bytes) -> None:
        """Write to the stream, past its buffers where it has any.

        What a full disk refused must not stay in a buffer, to be tried again at the exit; and the interpreter aborts if a blocked
        thread holds the buffer's lock then.
        """
        stream = _behind(self.stream or sys.stderr)
        if stream is None:
            raise ValueError("there is no standard error")
        buffer = getattr(stream, "buffer", None)
        raw = getattr(buffer, "raw", None)
        if raw is not None:
            self._write_raw(raw, data)
            return
        if buffer is not None:
            buffer.write(data)
        else:
            stream.write(data.decode("utf-8", "replace"))
        stream.flush()

    def _write_raw(self, raw: io.RawIOBase, data: bytes) -> None:
        rest = memoryview(b"\n" + data if self._torn else data)
        while rest:
            written = raw.write(rest)
            if written is None:  # somebody made the description non-blocking that we share with other processes
                time.sleep(_AGAIN)
            else:
                rest = rest[written:]
                self._torn = bool(rest)


class _StandIn(io.RawIOBase):
    """Takes the place of standard error: what is written to it goes to the sink, in order with the log's lines."""

    def __init__(self, sink: Sink, real: TextIO) -> None:
        self.real = real
        self._sink = sink

    def as_text(self) -> TextIO:
        return io.TextIOWrapper(
            self,  # type: ignore[type-var]  # unbuffered is meant
            encoding="utf-8",
            errors="backslashreplace",
            write_through=True,
        )

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return is_terminal(self.real)

    def fileno(self) -> int:
        return self.real.fileno()

    def write(self, data: Any) -> int:
        self._sink.write(bytes(data))
        return len(data)


def _behind(stream: TextIO | None) -> TextIO | None:
    """The stream that a stand-in stands for; another stream is itself."""
    buffer = getattr(stream, "buffer", None)
    return buffer.real if isinstance(buffer, _StandIn) else stream


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody sits before it; a closed or missing stream is none."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False
