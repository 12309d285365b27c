"""Detects that this machine was suspended: its boot clock advanced while its monotonic clock stood still."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

TOLERANCE = 2.0  # seconds; a shorter suspend harms no connection


def boot_clock() -> float:
    """Return seconds including suspended time; `time.monotonic` if the platform has no such clock."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":  # time.monotonic stops during sleep, this clock does not: clock_gettime(3)
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.monotonic()


class SuspendWatch:
    """Tells whether the machine was suspended since the last call. Costs two clock reads, no system call (vDSO).

    Args:
        boot: seconds, suspended time included.
        monotonic: seconds without it.
    """

    __slots__ = ("_ahead", "_boot", "_monotonic")

    def __init__(self, boot: Callable[[], float] = boot_clock, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._boot = boot
        self._monotonic = monotonic
        self._ahead = boot() - monotonic()

    def was_suspended(self) -> bool:
        """Whether the boot clock has gained more than `TOLERANCE` seconds since the last call."""
        before, self._ahead = self._ahead, self._boot() - self._monotonic()
        return self._ahead - before > TOLERANCE
