"""Being told that the process is to stop, under servers that do not say so."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT)


def on_stop_signal(tell: Callable[[], None]) -> Callable[[], None]:
    """Call `tell` at SIGTERM or SIGINT, then whatever handler the server had installed.

    Reached under uvicorn, gunicorn and granian; hypercorn installs its own later (FACTS section 7). Outside the main thread
    nothing can be installed and nothing is.

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
        elif earlier == signal.SIG_DFL:  # nobody else handles it: let it do what it does
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
