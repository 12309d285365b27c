"""Waiting for another thread or process, without guessing how long it takes."""

import time
from collections.abc import Callable

PATIENCE = 30.0  # seconds


def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Return when `condition` holds; fail when it does not in time."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)
