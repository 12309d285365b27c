"""Signals: which ones stop the process, which must not, and how the app learns of a stop under servers that do not tell it."""

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
    """Return the named signals that this system has; Windows lacks most."""
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


HANGUP = _existing("SIGHUP")
# Other servers use these; by default they would end or suspend this process with its running streams.
MEANINGLESS = _existing("SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU")


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that stop this process. SIGHUP is included if it means that the terminal was closed.

    That is so if there is a controlling terminal, which services and most containers lack, and SIGHUP is not ignored already,
    as under nohup(1).
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
    """Within the block these signals only call `tell`.

    A signal that already has a handler or is ignored is left alone. SIG_IGN is not used because child processes would
    inherit it.
    """
    ours = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, lambda received, _: tell(signal.Signals(received)))
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


_on_hangup: list[Callable[[], None]] = []


def on_hangup(act: Callable[[], None]) -> Callable[[], None]:
    """Have `act` called when SIGHUP arrives at a server that leaves its meaning to the app (`serve` without a terminal).

    Returns:
        a function that undoes this.
    """
    _on_hangup.append(act)
    return lambda: _on_hangup.remove(act)


def hung_up() -> bool:
    """Called by such a server, maybe in a signal handler. Return whether somebody acted."""
    for act in _on_hangup:
        act()
    return bool(_on_hangup)


def on_stop_signal(tell: Callable[[], None]) -> Callable[[], None]:
    """Call `tell` on SIGTERM or SIGINT, then the handler that the server had installed.

    This works under uvicorn, gunicorn and granian; hypercorn installs its own handlers later. Outside the main thread nothing
    is installed, since only that thread can handle signals.

    Returns:
        a function that restores the previous handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = {number: signal.getsignal(number) for number in STOPPING}

    def handle(number: int, frame: FrameType | None) -> None:
        tell()
        earlier = before[signal.Signals(number)]
        if callable(earlier):
            earlier(number, frame)
        elif earlier == signal.SIG_DFL:  # no other handler, so perform the default action
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
