"""Stop signals: told once each, the server's own handler still called, everything put back."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from claude_proxy.signals import STOPPING, hung_up, on_hangup, on_stop_signal


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPPING)
def test_a_stop_signal_is_told_and_the_servers_handler_called_after(number: signal.Signals) -> None:
    events: list[object] = []

    def of_the_server(received: int, frame: FrameType | None) -> None:
        events.append(signal.Signals(received))

    signal.signal(number, of_the_server)
    on_stop_signal(lambda: events.append("told"))
    signal.raise_signal(number)
    assert events == ["told", number]


def test_an_ignored_signal_stays_ignored_but_is_told() -> None:
    told: list[int] = []
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    on_stop_signal(lambda: told.append(1))
    signal.raise_signal(signal.SIGTERM)
    assert told == [1]


def test_restore_puts_the_handlers_back() -> None:
    before = {number: signal.getsignal(number) for number in STOPPING}
    restore = on_stop_signal(lambda: None)
    assert all(signal.getsignal(number) is not before[number] for number in STOPPING)
    restore()
    assert {number: signal.getsignal(number) for number in STOPPING} == before
    restore()
    assert {number: signal.getsignal(number) for number in STOPPING} == before


def test_restore_leaves_a_handler_that_was_installed_later() -> None:
    restore = on_stop_signal(lambda: None)

    def later(number: int, frame: FrameType | None) -> None:
        pass

    signal.signal(signal.SIGTERM, later)
    restore()
    assert signal.getsignal(signal.SIGTERM) is later


def test_outside_the_main_thread_nothing_is_installed() -> None:
    before = {number: signal.getsignal(number) for number in STOPPING}
    thread = threading.Thread(target=lambda: on_stop_signal(lambda: None)())
    thread.start()
    thread.join()
    assert {number: signal.getsignal(number) for number in STOPPING} == before


def test_a_restore_from_another_thread_does_not_raise() -> None:
    restore = on_stop_signal(lambda: None)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            restore()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert failures == []


def test_a_signal_that_nobody_else_handles_still_ends_the_process() -> None:
    program = (
        "import os, signal\n"
        "from claude_proxy.signals import on_stop_signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        "on_stop_signal(lambda: os.write(1, b'told'))\n"
        "signal.raise_signal(signal.SIGTERM)\n"
        "os.write(1, b' and alive')\n"
    )
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, env=os.environ | path, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, b"told")


def test_a_hangup_is_passed_on_to_whoever_registered_until_they_take_it_back() -> None:
    acted: list[str] = []
    assert hung_up() is False
    forget_first, forget_second = on_hangup(lambda: acted.append("first")), on_hangup(lambda: acted.append("second"))
    assert hung_up() is True
    forget_first()
    assert hung_up() is True
    forget_second()
    assert hung_up() is False
    assert acted == ["first", "second", "second"]
