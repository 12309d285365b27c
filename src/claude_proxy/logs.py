"""Logging: structlog, one canonical line per exchange; readable on a terminal, JSON elsewhere.

The pipeline is short on purpose: a line costs about 10 us, most of it the write. Secrets never get here: callers log named
facts, not headers or bodies.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
_straight: int | None = None  # the least level of JSON lines; None on a console
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Sink:
    """Where lines go. Standard error is looked up for each: whoever runs us may put another in its place, and close the old."""

    def __init__(self) -> None:
        self.stream: TextIO | None = None

    def msg(self, line: str | bytes) -> None:
        """Write one line."""
        stream = self.stream or sys.stderr
        if isinstance(line, str):
            stream.write(line + "\n")
            stream.flush()
        else:
            stream.buffer.write(line + b"\n")
            stream.buffer.flush()

    debug = info = warning = error = critical = exception = log = msg


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


def line(level: str, event: str, fields: dict[str, Any]) -> None:
    """Write one line that comes very often: in JSON past structlog's processors, which cost ten times its rendering."""
    if _straight is None:
        getattr(structlog.get_logger(), level)(event, **fields)
    elif LEVELS[level] >= _straight:
        when = datetime.now(UTC).isoformat().removesuffix("+00:00") + "Z"
        _sink.msg(msgspec.json.encode({**fields, "event": event, "level": level, "timestamp": when}, enc_hook=str))


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
    """One JSON object; what JSON cannot hold becomes its `str`."""
    return msgspec.json.encode(event, enc_hook=str)


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
