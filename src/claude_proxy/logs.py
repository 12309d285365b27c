"""Logging: structlog, one canonical line per exchange; readable on a terminal, JSON elsewhere.

The pipeline is short on purpose: rendering a line costs about 10 us. While the process serves, a thread writes the lines, so that
nothing waits for whoever reads the log (`background`, `gather`). Secrets never get here: callers log named facts, not headers or
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
_straight: int | None = None  # the least level of JSON lines; None on a console
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(level: str = "info", style: str = "auto", stream: TextIO | None = None) -> None:
    """Set logging up for this process.

    Args:
        level: debug, info, warning or error.
        style: console, json, or auto (console on a terminal).
        stream: where to; standard error by default.
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
        cache_logger_on_first_use=False,  # tests and reconfiguration reach every logger; the hot line goes past it
    )
    global _straight
    _straight = None if console else LEVELS[level]
    _redirect_stdlib(LEVELS[level])


@contextmanager
def background() -> Iterator[None]:
    """Within the block nothing in this process waits for whoever reads standard error: a thread writes to it.

    That holds for log lines and for what else goes to `sys.stderr`, such as Python's warnings and its reports of exceptions that
    nobody can catch. A process that the block forks has a thread of its own; it has to call `drain` if it ends by `os._exit`.
    """
    with _sink.in_place_of_stderr():
        yield


def gather(loop: asyncio.AbstractEventLoop | None) -> None:
    """Write the lines of one iteration of `loop` together, through a thread, until this is called with None."""
    if loop is not None:
        if _sink.loop is None:
            _sink.start()
        _sink.collect(loop)
    elif _sink.loop is not None:
        _sink.collect(None)
        _sink.stop()


def drain(seconds: float = DRAIN_SECONDS) -> bool:
    """Wait until the log's reader has taken everything, for `seconds` at most; False if it has not."""
    return _sink.drain(seconds)


def say(sentence: str) -> None:
    """Write a sentence that is no log line, such as why there is no start. Never raises."""
    _sink.msg(sentence)


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


def _lost_lines(count: int, reason: str) -> bytes:
    """The line that tells of lost ones, rendered like the others."""
    said = "1 log line was lost" if count == 1 else f"{count} log lines were lost"
    rendered: Any = {"event": "log_lines_lost", "lines": count, "note": f"{said} {reason}"}
    for process in structlog.get_config()["processors"]:
        rendered = process(None, "warning", rendered)
    return (rendered if isinstance(rendered, bytes) else str(rendered).encode("utf-8", "backslashreplace")) + b"\n"


_sink = Sink(_lost_lines)
atexit.register(lambda: _sink.drain(DRAIN_SECONDS))
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_sink.after_fork)


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
