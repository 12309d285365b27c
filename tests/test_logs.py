"""Logging: one line, JSON or for a terminal, libraries' records included."""

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from claude_proxy import logs
from claude_proxy.exchange import Outcome


class Terminal(io.TextIOWrapper):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers, root.level
    yield
    root.handlers, root.level = before
    logs._straight = None
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


def test_json_is_one_object_per_line(stream: io.TextIOWrapper) -> None:
    logs.configure("info", "json", stream)
    log = structlog.get_logger("x")
    log.info("exchange", ms=3, outcome=Outcome.COMPLETED, text='a "b"\n\x1b', path=Outcome)
    log.warning("second")
    first, second = (json.loads(line) for line in written(stream).splitlines())
    assert first | {"timestamp": ""} == {
        "event": "exchange",
        "level": "info",
        "ms": 3,
        "outcome": "completed",
        "text": 'a "b"\n\x1b',
        "path": str(Outcome),
        "timestamp": "",
    }
    assert first["timestamp"].endswith("Z")
    assert second["level"] == "warning"


def test_auto_is_json_off_a_terminal_and_readable_on_one(stream: io.TextIOWrapper) -> None:
    logs.configure("info", "auto", stream)
    structlog.get_logger("x").info("hello")
    assert json.loads(written(stream))["event"] == "hello"
    terminal = Terminal(io.BytesIO(), encoding="utf-8", write_through=True)
    logs.configure("info", "auto", terminal)
    structlog.get_logger("x").info("hello", ms=3)
    assert "hello" in written(terminal)
    assert "{" not in written(terminal)
    assert "\x1b[" in written(terminal)  # colours


def test_console_off_a_terminal_has_no_colours(stream: io.TextIOWrapper) -> None:
    logs.configure("info", "console", stream)
    structlog.get_logger("x").info("hello", ms=3)
    assert "hello" in written(stream)
    assert "ms=3" in written(stream)
    assert "\x1b" not in written(stream)


def test_control_characters_of_others_do_not_steer_the_terminal(stream: io.TextIOWrapper) -> None:
    logs.configure("info", "console", stream)
    structlog.get_logger("x").info("exchange", model="m\x1b[2J\x07", reason="a\x9bH\r", plain="한글 ok")
    shown = written(stream)
    assert not set(shown) & {"\x1b", "\x07", "\x9b", "\r"}
    assert "\\x1b[2J" in shown
    assert "한글 ok" in shown


@pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_the_least_that_is_written(stream: io.TextIOWrapper, level: str, shown: int) -> None:
    logs.configure(level, "json", stream)
    log = structlog.get_logger("x")
    for write in (log.debug, log.info, log.warning, log.error):
        write("line")
    assert len(written(stream).splitlines()) == shown


@pytest.mark.parametrize(("level", "shown"), [("debug", 2), ("info", 2), ("warning", 1), ("error", 0)])
@pytest.mark.parametrize("style", ["json", "console"])
def test_the_short_way_for_frequent_lines_keeps_to_the_level(
    stream: io.TextIOWrapper, style: str, level: str, shown: int
) -> None:
    logs.configure(level, style, stream)
    logs.line("info", "exchange", {"ms": 1})
    logs.line("warning", "exchange", {"ms": 2})
    assert len(written(stream).splitlines()) == shown


def test_the_short_way_writes_what_the_long_way_writes(stream: io.TextIOWrapper) -> None:
    logs.configure("info", "json", stream)
    named = {"ms": 3, "outcome": Outcome.CUT, "reason": 'a "b"\n', "path": Path("/x")}
    logs.line("warning", "exchange", dict(named))
    structlog.get_logger().warning("exchange", **named)
    short, long = (json.loads(line) for line in written(stream).splitlines())
    assert short.keys() == long.keys()
    assert short.pop("timestamp")[:10] <= long.pop("timestamp")[:10]
    assert short == long


def test_the_short_way_on_a_console_escapes_control_characters(stream: io.TextIOWrapper) -> None:
    logs.configure("info", "console", stream)
    logs.line("info", "exchange", {"model": "m\x1b[2J"})
    assert "m\\x1b[2J" in written(stream)
    assert "\x1b" not in written(stream)


@pytest.mark.parametrize("style", ["json", "console"])
def test_an_exception_is_written_with_its_trace(stream: io.TextIOWrapper, style: str) -> None:
    logs.configure("info", style, stream)
    try:
        raise ZeroDivisionError("by nothing")
    except ZeroDivisionError as error:
        structlog.get_logger("x").error("bug", exc_info=error)
    assert "ZeroDivisionError: by nothing" in written(stream)
    assert "Traceback" in written(stream)


def raised(log: logging.Logger) -> None:
    try:
        raise KeyError("lost")
    except KeyError:
        log.exception("failed")


LIBRARY: list[tuple[Callable[[logging.Logger], None], str, str]] = [
    (lambda log: log.warning("port %d is taken", 80), "warning", "port 80 is taken"),
    (lambda log: log.critical("gone"), "critical", "gone"),
    (lambda log: log.log(35, "odd level"), "error", "odd level"),
    (raised, "error", "failed"),
]


@pytest.mark.parametrize(("write", "level", "event"), LIBRARY)
def test_a_librarys_records_become_lines_of_ours(
    stream: io.TextIOWrapper, write: Callable[[logging.Logger], None], level: str, event: str
) -> None:
    logs.configure("info", "json", stream)
    write(logging.getLogger("uvicorn.error"))
    line = json.loads(written(stream))
    assert (line["level"], line["event"]) == (level, event)
    assert ("KeyError" in line.get("exception", "")) is (event == "failed")


def test_a_librarys_chatter_is_not_written(stream: io.TextIOWrapper) -> None:
    logs.configure("debug", "json", stream)
    logging.getLogger("asyncio").info("Using selector")
    assert written(stream) == ""


class Broken(io.RawIOBase):
    """A pipe whose reader is gone."""

    def writable(self) -> bool:
        return True

    def write(self, _: Any) -> int:
        raise BrokenPipeError


def test_a_log_whose_reader_is_gone_costs_its_lines_and_nothing_else() -> None:
    logs.configure("info", "json", io.TextIOWrapper(Broken(), write_through=True))
    before = logs._sink.lost
    structlog.get_logger("x").info("line")
    logs.line("info", "exchange", {"ms": 1})
    assert logs._sink.lost == before + 2


async def test_the_lines_of_one_turn_are_written_together_and_in_order(stream: io.TextIOWrapper) -> None:
    logs.configure("info", "json", stream)
    logs.gather(asyncio.get_running_loop())
    try:
        logs.line("info", "exchange", {"n": 1})
        logs.line("info", "exchange", {"n": 2})
        assert written(stream) == ""
        structlog.get_logger("x").info("other", n=3)  # a line of another kind does not overtake them
        logs.line("info", "exchange", {"n": 4})
        await asyncio.sleep(0)
        assert [json.loads(line)["n"] for line in written(stream).splitlines()] == [1, 2, 3, 4]
        logs.line("info", "exchange", {"n": 5})
    finally:
        logs.gather(None)
    assert json.loads(written(stream).splitlines()[-1])["n"] == 5


class Pieces(io.RawIOBase):
    """Remembers what each write brought."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.pieces.append(bytes(data))
        return len(data)


async def test_lines_that_are_written_together_are_no_more_than_a_pipe_takes_whole() -> None:
    raw = Pieces()
    logs.configure("info", "json", io.TextIOWrapper(io.BufferedWriter(raw)))
    logs.gather(asyncio.get_running_loop())
    for n in range(100):
        logs.line("info", "exchange", {"n": n, "reason": "x" * (5000 if n == 50 else 300)})
    logs.gather(None)
    assert [json.loads(line)["n"] for line in b"".join(raw.pieces).splitlines()] == list(range(100))
    assert all(piece.endswith(b"\n") and (len(piece) <= 4096 or piece.count(b"\n") == 1) for piece in raw.pieces)
    assert len(raw.pieces) < 20
