"""Signals: which ones stop a process, which ones must not, and how the app hears of a stop under servers that do not say so."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT)


def _existing(*names: str) -> tuple[signal.Signals, ...]:
    """Those of the names that this system has; Windows lacks most."""
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


HANGUP = _existing("SIGHUP")
# They mean something to other servers, and by default would end this process or suspend it, running streams included.
MEANINGLESS = _existing("SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU")


def stop_signals() -> tuple[signal.Signals, ...]:
    """What tells this process to stop. SIGHUP is among it if that means that the terminal was closed.

    This takes a controlling terminal, which services and most containers lack; and whoever started us must not have asked for
    SIGHUP to be ignored, as nohup(1) does.
    """
    if any(signal.getsignal(number) == signal.SIG_IGN for number in HANGUP) or not _has_terminal():
        return STOPPING
    return (*STOPPING, *HANGUP)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))  # tty(4): fails without a controlling terminal
    except (OSError, AttributeError):  # Windows has neither
        return False
    return True


@contextmanager
def surviving(numbers: Iterable[signal.Signals], tell: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Within the block these signals do nothing but call `tell`.

    A signal that has a handler already, or is ignored, stays as it is. They get handlers, since child processes would inherit
    SIG_IGN.
    """
    ours = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, lambda received, _: tell(signal.Signals(received)))
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def on_stop_signal(tell: Callable[[], None]) -> Callable[[], None]:
    """Call `tell` at SIGTERM or SIGINT, then whatever handler the server had installed.

    This works under uvicorn, gunicorn and granian; hypercorn installs its own handlers later. Signals belong to the main thread:
    in another one nothing is installed.

    Returns:
        a function that puts the handlers back as they were.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = {number: signal.getsignal(number) for number in STOPPING}

    def handle(number: int, frame: FrameType | None) -> None:
        tell()
        earlier = before[signal.Signals(number)]
        if callable(earlier):
            earlier(number, frame)
        elif earlier == signal.SIG_DFL:  # nobody else handles it, so it has to do what it does by default
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, handle)

    def restore() -> None:
        for number, earlier in before.items():
            if signal.getsignal(number) is handle and earlier is not None:
                with contextlib.suppress(ValueError):
                    signal.signal(number, earlier)

    return restore
