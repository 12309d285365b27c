"""The destination of log lines: standard error, written directly or, while the process serves, through a thread."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from claude_proxy.log_writer import LARGE, WHOLE, LogWriter, pieces

# How long the process waits for the log's reader when it ends (seconds).
DRAIN_SECONDS = 0.5
_AGAIN = 0.01  # seconds before a write to a full non-blocking descriptor is retried


class Sink:
    """Writes lines directly to the stream, or between `start` and `stop` through a thread.

    `sys.stderr` is looked up for each write, because our caller may replace it and close the old one. If the log cannot be
    written, its lines are lost and nothing else happens, because the code that logs must not fail.

    Attributes:
        stream: the stream to write to, if not standard error.
        loop: if set, `soon` writes the lines of one iteration of this event loop together.
    """

    def __init__(self, notice: Callable[[int, str], bytes]) -> None:
        """Create a sink that writes directly until `start` is called.

        Args:
            notice: renders the line about lost lines: how many, and why.
        """
        self.stream: TextIO | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._notice = notice
        self._loop_thread = 0
        self._waiting: list[bytes] = []
        self._writer: LogWriter | None = None
        self._users = 0  # number of `start` calls without a `stop` yet
        self._lost = 0  # in addition to what the writer counts
        self._torn = False  # the last write ended in the middle of a piece

    @property
    def lost(self) -> int:
        """Number of lines that could not be written."""
        writer = self._writer
        return self._lost + (0 if writer is None else writer.lost)

    def msg(self, line: str | bytes) -> None:
        """Write one line."""
        self.write((line.encode("utf-8", "backslashreplace") if isinstance(line, str) else line) + b"\n")

    debug = info = warning = error = critical = exception = log = msg

    def soon(self, line: bytes) -> None:
        """Write a frequent line, at the latest at the end of this event loop iteration. Call it in the loop's thread."""
        if self.loop is None:
            self.msg(line)
            return
        if not self._waiting:
            self.loop.call_soon(self.flush)
        self._waiting.append(line + b"\n")

    def write(self, data: bytes) -> None:
        """Write bytes unchanged, after the lines collected so far."""
        if self._waiting and threading.get_ident() == self._loop_thread:
            self.flush()
        self.put([data])

    def flush(self) -> None:
        """Write the collected lines."""
        lines, self._waiting = self._waiting, []
        if lines:
            self.put(lines)

    def put(self, lines: list[bytes]) -> None:
        """Write complete lines, or hand them to the thread."""
        writer = self._writer
        if writer is not None:
            writer.put(lines)
            return
        for piece, count in pieces(lines):
            try:
                self._write(piece)
            except (OSError, ValueError):  # the reader is gone, the disk is full, or the stream is closed
                self._lost += count

    def collect(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Start collecting the lines of each iteration of `loop`; None stops it. Call it in the loop's thread."""
        self.loop = loop
        self._loop_thread = threading.get_ident()
        self.flush()

    def start(self) -> None:
        """Write through a thread from now on."""
        self._users += 1
        if self._writer is None:
            self._writer = LogWriter(self._write, self._notice, whole=self._whole)

    def stop(self) -> bool:
        """Undo one `start`. After the last, wait for the thread and write directly again, unless the log's reader has stopped.

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
        """Wait at most `seconds` until everything is written; return False if it is not."""
        self.flush()
        return self._writer is None or self._writer.drain(seconds)

    def after_fork(self) -> None:
        """In a child: start without the parent's thread and its lines, which the parent writes."""
        self._waiting = []
        if self._writer is not None:
            self._writer = LogWriter(self._write, self._notice, whole=self._whole)

    @contextmanager
    def in_place_of_stderr(self) -> Iterator[None]:
        """Like `start` and `stop`, and within the block everything written to `sys.stderr` comes here too."""
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
        """Write to the stream, bypassing its buffers.

        Otherwise data that a full disk refused would stay in the buffer and be retried at exit; and the interpreter would abort
        there if a blocked thread held the buffer's lock.
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

    def _whole(self) -> int:
        """How many bytes may be written at once without mixing with other processes' lines."""
        stream = _behind(self.stream or sys.stderr)
        try:
            return LARGE if stream is not None and stat.S_ISREG(os.fstat(stream.fileno()).st_mode) else WHOLE
        except (OSError, ValueError):  # no file behind it, or it is closed
            return WHOLE

    def _write_raw(self, raw: io.RawIOBase, data: bytes) -> None:
        rest = memoryview(b"\n" + data if self._torn else data)
        while rest:
            written = raw.write(rest)
            if written is None:  # another process made the shared file description non-blocking
                # Not poll(): it may report room that another process then fills, and does not support terminals on macOS.
                time.sleep(_AGAIN)
            else:
                rest = rest[written:]
                self._torn = bool(rest)


class _StandIn(io.RawIOBase):
    """Replaces standard error: what is written to it goes to the sink, in order with the log lines."""

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
    """Return the stream that a stand-in replaces; any other stream is returned unchanged."""
    buffer = getattr(stream, "buffer", None)
    return buffer.real if isinstance(buffer, _StandIn) else stream


def is_terminal(stream: TextIO | None) -> bool:
    """Whether the stream is a terminal; a closed or missing one is not."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False
