"""Logging: structlog, one canonical line per exchange; readable on a terminal, JSON elsewhere.

The pipeline is short on purpose: a line costs about 10 us, most of it the write. Secrets never get here: callers log named
facts, not headers or bodies.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
_straight: int | None = None  # the least level of JSON lines; None on a console
WHOLE = 4096  # bytes that a pipe takes as one piece, so that lines of several workers do not mix (PIPE_BUF, pipe(7))
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Sink:
    """Where lines go. Standard error is looked up for each: whoever runs us may put another in its place, and close the old.

    A log that cannot be written costs its lines and nothing else: whoever logs is in the middle of something.

    Attributes:
        stream: where to, if not to standard error.
        loop: with it, `soon` writes the lines of one turn of this event loop together.
        lost: lines that could not be written.
    """

    def __init__(self) -> None:
        self.stream: TextIO | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.lost = 0
        self._waiting: list[bytes] = []

    def msg(self, line: str | bytes) -> None:
        """Write one line."""
        if self._waiting:
            self.flush()
        self._write(line + "\n" if isinstance(line, str) else line + b"\n", 1)

    debug = info = warning = error = critical = exception = log = msg

    def soon(self, line: bytes) -> None:
        """Write one line of many, at the latest at the end of this turn of the event loop."""
        if self.loop is None:
            self.msg(line)
            return
        if not self._waiting:
            self.loop.call_soon(self.flush)
        self._waiting.append(line)

    def flush(self) -> None:
        """Write what waits, in pieces that a pipe takes whole."""
        lines, self._waiting = self._waiting, []
        piece, count = b"", 0
        for line in lines:
            if count and len(piece) + len(line) >= WHOLE:
                self._write(piece, count)
                piece, count = b"", 0
            piece += line + b"\n"
            count += 1
        if count:
            self._write(piece, count)

    def _write(self, text: str | bytes, lines: int) -> None:
        stream = self.stream or sys.stderr
        try:
            if isinstance(text, str):
                stream.write(text)
            else:
                stream.buffer.write(text)
            stream.flush()
        except (OSError, ValueError):  # its reader is gone, the disk is full, or it is closed
            self.lost += lines


_sink = Sink()


def configure(level: str = "info", style: str = "auto", stream: TextIO | None = None) -> None:
    """Set logging up for this process.

    Args:
        level: debug, info, warning or error.
        style: console, json, or auto (console on a terminal).
        stream: where to; standard error by default.
    """
    _sink.stream = stream
    stream = stream or sys.stderr
    console = style == "console" or (style == "auto" and stream.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
    ]
    structlog.configure(
        processors=[*shared, *_rendering(console, colors=console and stream.isatty())],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: _sink,
        cache_logger_on_first_use=False,  # tests and reconfiguration reach every logger; the hot line goes past it
    )
    global _straight
    _straight = None if console else LEVELS[level]
    _redirect_stdlib(LEVELS[level])


def gather(loop: asyncio.AbstractEventLoop | None) -> None:
    """Write the lines of one turn of `loop` together, until this is called with None: then what waits is written."""
    _sink.loop = loop
    _sink.flush()


def lines_lost() -> int:
    """How many lines of this process could not be written."""
    return _sink.lost


def line(level: str, event: str, fields: dict[str, Any]) -> None:
    """Write one line that comes very often: in JSON past structlog's processors, which cost ten times its rendering.

    `fields` becomes the line and is the caller's no more.
    """
    if _straight is None:
        getattr(structlog.get_logger(), level)(event, **fields)
    elif LEVELS[level] >= _straight:
        fields["event"] = event
        fields["level"] = level
        fields["timestamp"] = _clock()
        _sink.soon(_encode(fields))


_encode = msgspec.json.Encoder(enc_hook=str).encode  # what JSON cannot hold becomes its `str`
_second = _millisecond = 0
_rendered = _stamp = ""


def _clock() -> str:
    """The time as ISO 8601 in UTC, to the millisecond; rendered no more often than it changes."""
    global _second, _millisecond, _rendered, _stamp
    now = int(time.time() * 1000)
    if now != _millisecond:
        second, rest = divmod(now, 1000)
        if second != _second:
            _second, _rendered = second, f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}."
        _millisecond, _stamp = now, f"{_rendered}{rest:03d}Z"
    return _stamp


def _rendering(console: bool, *, colors: bool) -> list[structlog.typing.Processor]:
    if console:
        return [
            show_controls,
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=12),
        ]
    return [structlog.processors.format_exc_info, render_json]


def show_controls(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape control characters: a model's name or an upstream's words are not to steer the terminal. JSON does it anyway."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = value.translate(_CONTROLS)
    return event


def render_json(_: WrappedLogger, __: str, event: EventDict) -> bytes:
    """One JSON object."""
    return _encode(event)


class _Handler(logging.Handler):
    """Passes the records of libraries (uvicorn, asyncio) on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        method = getattr(log, record.levelname.lower(), log.error)
        method(record.getMessage(), **({"exc_info": record.exc_info} if record.exc_info else {}))


def _redirect_stdlib(level: int) -> None:
    root = logging.getLogger()
    root.handlers = [_Handler()]
    root.setLevel(max(level, logging.WARNING))
