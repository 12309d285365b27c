"""Logging: one line, JSON or for a terminal, libraries' records included."""

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from claude_proxy import logs
from claude_proxy.exchange import Outcome
from claude_proxy.log_sink import Sink


class Terminal(io.TextIOWrapper):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


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


async def test_the_lines_of_one_iteration_are_written_together_and_in_order(stream: io.TextIOWrapper) -> None:
    logs.configure("info", "json", stream)
    logs.gather(asyncio.get_running_loop())
    try:
        logs.line("info", "exchange", {"n": 1})
        logs.line("info", "exchange", {"n": 2})
        assert written(stream) == ""
        structlog.get_logger("x").info("other", n=3)  # a line of another kind does not overtake them
        logs.line("info", "exchange", {"n": 4})
        await asyncio.sleep(0)
        assert logs.drain(10)
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


# A log that nobody reads


class Gate(io.RawIOBase):
    """A pipe whose reader reads only while the gate is open; `reached` is set once a write waits for it."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.reached = threading.Event()
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.reached.set()
        assert self.open.wait(30)
        self.taken += bytes(data)
        return len(data)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()
    logs.drain(10)


def test_in_the_background_nobody_waits_for_the_reader(gate: Gate) -> None:
    logs.configure("info", "json", io.TextIOWrapper(io.BufferedWriter(gate)))
    with logs.background():
        for n in range(200):
            structlog.get_logger("x").info("line", n=n)
        logging.getLogger("asyncio").warning("from a library")
        assert gate.reached.wait(30)
        assert gate.taken == b""
        gate.open.set()
    lines = [json.loads(line) for line in gate.taken.splitlines()]
    assert [line["n"] for line in lines[:-1]] == list(range(200))
    assert lines[-1]["event"] == "from a library"


def test_the_end_of_the_background_waits_for_a_stopped_reader_only_once(gate: Gate) -> None:
    logs.configure("info", "json", io.TextIOWrapper(io.BufferedWriter(gate)))
    with logs.background():
        structlog.get_logger("x").info("line")
        assert gate.reached.wait(30)
        assert not logs.drain(0.01)
        with logs.background():  # the inner end does not wait at all, the outer one has waited
            pass
    assert not logs.drain(1000)
    structlog.get_logger("x").info("one more does not wait either")
    gate.open.set()
    assert logs._sink._writer is not None
    while not logs.drain(10):
        pass
    assert gate.taken.count(b"\n") == 2


def told_by(program: str) -> list[str]:
    """The lines that a program writes to standard error."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, timeout=60, check=True)
    return done.stderr.decode().splitlines()


def test_what_others_write_to_standard_error_goes_the_same_way_and_in_order() -> None:
    told = told_by(
        "import sys, threading, warnings, structlog\n"
        "from claude_proxy import logs\n"
        "logs.configure('info', 'json')\n"
        "real = sys.stderr\n"
        "with logs.background():\n"
        "    assert sys.stderr is not real\n"
        "    assert (sys.stderr.fileno(), sys.stderr.isatty()) == (2, False)\n"
        "    structlog.get_logger().info('first')\n"
        "    print('second', file=sys.stderr)\n"
        "    warnings.warn('third')\n"
        "    thread = threading.Thread(target=lambda: 1 / 0)\n"
        "    thread.start()\n"
        "    thread.join()\n"
        "    logs.say('fifth \\ud800')\n"
        "assert sys.stderr is real\n"
        "print('sixth', file=sys.stderr)\n"
    )
    words = ("first", "second", "third", "ZeroDivisionError", "fifth \\ud800", "sixth")
    found = [next(at for at, line in enumerate(told) if word in line) for word in words]
    assert found == sorted(found)


async def test_a_sentence_does_not_overtake_the_lines_of_its_iteration(stream: io.TextIOWrapper) -> None:
    logs.configure("info", "json", stream)
    logs.gather(asyncio.get_running_loop())
    logs.line("info", "exchange", {})
    logs.say("then this")
    logs.gather(None)
    assert written(stream).splitlines()[-1] == "then this"


@pytest.mark.parametrize("style", ["auto", "json", "console"])
@pytest.mark.parametrize("closed", [True, False])
def test_without_standard_error_lines_are_lost_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, stream: io.TextIOWrapper, style: str, closed: bool
) -> None:
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream if closed else None)
    logs.configure("info", style)
    before = logs._sink.lost
    structlog.get_logger("x").info("line")
    with logs.background():
        structlog.get_logger("x").info("line")
        logs.say("a sentence")
    assert logs._sink.lost == before + 3


@pytest.mark.parametrize(("style", "lost"), [("json", '"lines":2'), ("console", "lines=2")])
def test_lost_lines_are_told_in_the_style_of_the_log(stream: io.TextIOWrapper, style: str, lost: str) -> None:
    logs.configure("info", style, stream)
    (told,) = logs._lost_lines(2, "while nobody read the log").decode().splitlines()
    assert "2 log lines were lost while nobody read the log" in told
    assert lost in told
    assert "1 log line was lost" in logs._lost_lines(1, "").decode()


def sink(write: Callable[[Any], int | None]) -> Sink:
    """A sink on a raw stream that writes with `write`."""

    class Raw(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int | None:  # type: ignore[override]  # as of a non-blocking descriptor
            return write(data)

    found = Sink(lambda count, reason: b"")
    found.stream = io.TextIOWrapper(io.BufferedWriter(Raw()))
    return found


def test_a_line_that_a_full_disk_tore_does_not_tear_the_next_one() -> None:
    written = bytearray()
    room = 7

    def write(data: Any) -> int:
        nonlocal room
        if not room:
            raise OSError(28, "No space left on device")
        size = min(room, len(data))
        room -= size
        written.extend(bytes(data[:size]))
        return size

    disk = sink(write)
    disk.msg("first line")
    disk.msg("second line")
    assert disk.lost == 2
    room = 1000
    disk.msg("third line")
    assert bytes(written) == b"first l\nthird line\n"


def test_a_descriptor_that_somebody_made_non_blocking_is_written_to_all_the_same() -> None:
    written = bytearray()
    turns = iter([None, 3, None, None])

    def write(data: Any) -> int | None:
        size = next(turns, len(data))
        if size is not None:
            written.extend(bytes(data[:size]))
        return size

    sink(write).msg("a line")
    assert bytes(written) == b"a line\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_writes_its_own_lines_and_not_its_parents() -> None:
    told = told_by(
        "import os, structlog\n"
        "from claude_proxy import logs\n"
        "logs.configure('info', 'json')\n"
        "with logs.background():\n"
        "    for n in range(3):\n"
        "        structlog.get_logger().info('parent')\n"
        "        if not (child := os.fork()):\n"
        "            structlog.get_logger().info('child')\n"
        "            logs.drain(30)\n"
        "            os._exit(0)\n"
        "        os.waitpid(child, 0)\n"
    )
    assert sorted(json.loads(line)["event"] for line in told) == ["child"] * 3 + ["parent"] * 3
