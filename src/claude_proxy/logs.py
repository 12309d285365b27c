"""Logging: structlog, one canonical line per exchange; readable on a terminal, JSON elsewhere.

The pipeline is short on purpose: rendering a line costs about 10 us. While the process serves, a thread writes the lines, so that
nothing waits for the log's reader (`background`, `gather`). Secrets never get here: callers log named facts, not headers or
bodies.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

from claude_proxy.log_sink import DRAIN_SECONDS, Sink, is_terminal

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
_straight: int | None = None  # the lowest level of JSON lines; None on a console
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(level: str = "info", style: str = "auto", stream: TextIO | None = None) -> None:
    """Configure logging for this process.

    Args:
        level: debug, info, warning or error.
        style: console, json, or auto (console on a terminal).
        stream: where to write; by default standard error.
    """
    _sink.stream = stream
    terminal = is_terminal(stream or sys.stderr)
    console = style == "console" or (style == "auto" and terminal)
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
    ]
    structlog.configure(
        processors=[*shared, *_rendering(console, colors=console and terminal)],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: _sink,
        cache_logger_on_first_use=False,  # so that reconfiguring reaches every logger; the hot line bypasses structlog anyway
    )
    global _straight
    _straight = None if console else LEVELS[level]
    _redirect_stdlib(LEVELS[level])


@contextmanager
def background() -> Iterator[None]:
    """Within the block a thread writes to standard error, so that nothing in this process waits for its reader.

    This covers log lines and everything else written to `sys.stderr`, such as Python's warnings and reports of unraisable
    exceptions. A process forked within the block has its own thread, and must call `drain` if it ends by `os._exit`.
    """
    with _sink.in_place_of_stderr():
        yield


def gather(loop: asyncio.AbstractEventLoop | None) -> None:
    """Write the lines of each iteration of `loop` together, through the thread, until called with None."""
    if loop is not None:
        if _sink.loop is None:
            _sink.start()
        _sink.collect(loop)
    elif _sink.loop is not None:
        _sink.collect(None)
        _sink.stop()


def drain(seconds: float = DRAIN_SECONDS) -> bool:
    """Wait at most `seconds` until everything is written; return False if it is not."""
    return _sink.drain(seconds)


def say(sentence: str) -> None:
    """Write a sentence that is not a log line, such as why the start failed. Never raises."""
    _sink.msg(sentence)


def lines_lost() -> int:
    """How many lines of this process could not be written."""
    return _sink.lost


class Line(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Base of a very frequent line: what equals its field's default is not written. Making one costs half of making a dict."""

    event: str = ""
    level: str = ""
    timestamp: str = ""


def line(level: str, event: str, fields: Line | dict[str, Any]) -> None:
    """Write a very frequent line: JSON lines bypass structlog's processors, which cost ten times as much as the rendering.

    `fields` is modified and must not be used afterwards.
    """
    if _straight is None:
        known = said(fields) if isinstance(fields, Line) else fields
        getattr(structlog.get_logger(), level)(event, **known)
    elif LEVELS[level] >= _straight:
        if isinstance(fields, Line):
            fields.event, fields.level, fields.timestamp = event, level, _clock()
        else:
            fields["event"], fields["level"], fields["timestamp"] = event, level, _clock()
        _sink.soon(_encode(fields))


def said(fields: Line) -> dict[str, Any]:
    """What a line says, as a dict."""
    known: dict[str, Any] = msgspec.to_builtins(fields, enc_hook=str)
    return known


def _lost_lines(count: int, reason: str) -> bytes:
    """Render the line that reports lost lines."""
    said = "1 log line was lost" if count == 1 else f"{count} log lines were lost"
    rendered: Any = {"event": "log_lines_lost", "lines": count, "note": f"{said} {reason}"}
    for process in structlog.get_config()["processors"]:
        rendered = process(None, "warning", rendered)
    return (rendered if isinstance(rendered, bytes) else str(rendered).encode("utf-8", "backslashreplace")) + b"\n"


_sink = Sink(_lost_lines)
atexit.register(lambda: _sink.drain(DRAIN_SECONDS))
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_sink.after_fork)


_encode = msgspec.json.Encoder(enc_hook=str).encode  # values that JSON lacks become strings
_second = _millisecond = 0
_rendered = _stamp = ""


def _clock() -> str:
    """Return the time in ISO 8601, UTC, to the millisecond; rendered only when it changes."""
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
    """Escape control characters, so that a model name or an upstream's message cannot control the terminal. JSON does anyway."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = value.translate(_CONTROLS)
    return event


def render_json(_: WrappedLogger, __: str, event: EventDict) -> bytes:
    """Render the event as a JSON object."""
    return _encode(event)


class _Handler(logging.Handler):
    """Forwards log records of libraries (uvicorn, asyncio) to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        method = getattr(log, record.levelname.lower(), log.error)
        method(record.getMessage(), **({"exc_info": record.exc_info} if record.exc_info else {}))


def _redirect_stdlib(level: int) -> None:
    root = logging.getLogger()
    root.handlers = [_Handler()]
    root.setLevel(max(level, logging.WARNING))
