"""Splits long work in capture's thread: a pause after each piece lets the event loop run."""

from __future__ import annotations

import time

_PAUSE = 0.0001  # seconds


def yield_to_the_loop() -> None:
    """Release the interpreter's lock.

    A computing thread keeps it for up to 5 ms (`sys.getswitchinterval`) while the event loop waits for it. A sleep releases it at
    once; after a sleep of 0 this thread might take it again before the loop's thread is awake.
    """
    time.sleep(_PAUSE)
