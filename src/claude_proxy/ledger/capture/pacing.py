"""Long work in capture's thread is cut into pieces, with a pause behind each, so that the event loop does not wait for it."""

from __future__ import annotations

import time

_PAUSE = 0.0001  # seconds


def yield_to_the_loop() -> None:
    """Give the interpreter's lock away.

    A thread that computes keeps it for 5 ms (`sys.getswitchinterval`) while the event loop wants it. Any sleep gives it away at
    once; a sleep of 0 may get it back before the loop's thread has woken.
    """
    time.sleep(_PAUSE)
