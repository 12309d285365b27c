"""Signals that stop `serve`, and those that must not: a closed terminal, nohup, what other servers give a meaning to."""

import os
import pty
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.process import TAKES_TERMINAL, Process, serving, start
from tests.server.test_run import gated
from tests.server.test_workers import pids, two
from tests.server.wire import Wire, connect, get

pytestmark = [pytest.mark.system, pytest.mark.skipif(sys.platform != "linux", reason="sends signals as Linux has them")]

UNDER_NOHUP = ("sh", "-c", 'trap "" HUP; exec "$@"', "sh")


class Terminal:
    """`inside` is what a process in it has as its standard input."""

    def __init__(self) -> None:
        self._outside, self.inside = pty.openpty()

    def close(self) -> None:
        """As the window of a terminal emulator is closed; safe to repeat."""
        if self._outside >= 0:
            os.close(self.inside)
            os.close(self._outside)
            self._outside = -1


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


async def finish(wire: Wire) -> None:
    """Let the stream that `gated` began go on, and see it end whole."""
    await wire.send(b"x")
    assert await wire.chunk() == b"last"
    assert await wire.chunk() == b""


async def test_a_closed_terminal_drains(terminal: Terminal) -> None:
    async with serving(stdin=terminal.inside, through=TAKES_TERMINAL) as process, connect(process.port) as wire:
        await gated(wire)
        terminal.close()
        await process.event("draining")
        await finish(wire)
        assert await process.end() == (0, "down draining\n")


@pytest.mark.parametrize("first", [signal.SIGHUP, signal.SIGTERM])
async def test_a_terminal_that_says_more_than_once_that_it_is_closed_cuts_nothing(terminal: Terminal, first: int) -> None:
    """A shell and the kernel both say so, and a session that ends may begin with SIGTERM."""
    async with serving(stdin=terminal.inside, through=TAKES_TERMINAL) as process, connect(process.port) as wire:
        await gated(wire)
        process.signal(first)
        await process.event("draining")
        process.signal(signal.SIGHUP)
        process.signal(signal.SIGHUP)
        await finish(wire)
        assert await process.end() == (0, "down draining\n")


async def test_a_second_signal_ends_at_once_after_a_closed_terminal_too(terminal: Terminal) -> None:
    async with serving(stdin=terminal.inside, through=TAKES_TERMINAL) as process, connect(process.port) as wire:
        await gated(wire)
        process.signal(signal.SIGHUP)
        await process.event("draining")
        process.signal(signal.SIGINT)
        assert await process.end() == (130, "")
        assert "claude-proxy: stopped at once by a second signal" in process.words


async def is_unharmed(process: Process, wire: Wire) -> None:
    """The stream that runs goes on, new requests are answered, and a stop is clean."""
    async with connect(process.port) as other:
        await other.send(get())
        assert (await other.response()).status == 200
    await finish(wire)
    process.signal(signal.SIGTERM)
    assert (await process.end())[0] == 0


async def test_under_nohup_a_closed_terminal_means_nothing(terminal: Terminal) -> None:
    through = (*TAKES_TERMINAL, "/bin/sh", *UNDER_NOHUP[1:])
    async with serving(stdin=terminal.inside, through=through) as process, connect(process.port) as wire:
        await gated(wire)
        terminal.close()
        process.signal(signal.SIGHUP)
        await is_unharmed(process, wire)
        assert process.events("signal_ignored") == []


IGNORED = [signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU]


@pytest.mark.parametrize("number", IGNORED)
async def test_a_signal_that_means_nothing_to_one_process_is_one_line(number: signal.Signals) -> None:
    async with serving() as process, connect(process.port) as wire:
        await gated(wire)
        process.signal(number)
        line = await process.event("signal_ignored")
        assert (line["signal"], line["level"]) == (number.name, "info")
        assert ("nothing to reload" in line["note"]) is (number == signal.SIGHUP)
        await is_unharmed(process, wire)
        assert len(process.events("signal_ignored")) == 1


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2])
async def test_a_signal_that_means_nothing_to_parent_and_workers_ends_neither(number: signal.Signals) -> None:
    async with serving(**two()) as process, connect(process.port) as wire:
        await pids(process, 2)
        await gated(wire)
        os.killpg(process.pid, number)
        await process.event("signal_ignored", 3)
        await is_unharmed(process, wire)
        assert process.events("worker_died") == []


async def test_a_hangup_of_the_whole_group_replaces_the_workers_and_cuts_nothing() -> None:
    async with serving(**two()) as process, connect(process.port) as wire:
        old = await pids(process, 2)
        await gated(wire)
        os.killpg(process.pid, signal.SIGHUP)
        await process.event("draining", 2)
        assert await pids(process, 4) > old
        await is_unharmed(process, wire)
        assert process.events("worker_died") == []


@pytest.mark.parametrize("number", IGNORED)
async def test_such_a_signal_does_not_end_a_start_either(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "prestart.sh"
    script.write_text(f"kill -{number.name.removeprefix('SIG')} $PPID\n")
    async with serving(PRE_START_PATH=str(script)) as process:
        assert process.events("signal_ignored")[0]["signal"] == number.name
        process.signal(signal.SIGTERM)
        assert (await process.end())[0] == 0


async def test_a_terminal_that_is_closed_during_the_start_ends_it(terminal: Terminal, tmp_path: Path) -> None:
    script = tmp_path / "prestart.sh"
    script.write_text("kill -HUP $PPID\n")
    async with start(stdin=terminal.inside, through=TAKES_TERMINAL, PRE_START_PATH=str(script)) as process:
        assert (await process.end())[0] == 128 + signal.SIGHUP
        assert process.events("listening") == []
