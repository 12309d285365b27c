"""What the kernel knows about this process."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from claude_proxy.observe.catalogue import MAX_FDS, MEMORY, OPEN_FDS, START_TIME
from claude_proxy.observe.tally import Key

_STARTED = time.time()  # this is imported while the process starts
_PROC = Path("/proc/self")


def cpu_seconds() -> float:
    """User and system CPU time of this process."""
    return time.process_time()


def gauges() -> list[tuple[Key, float]]:
    """Memory, descriptors and start time; without /proc (macOS, Windows) only the last."""
    found: list[tuple[Key, float]] = [((START_TIME.name,), _STARTED)]
    try:
        pages = int((_PROC / "statm").read_text().split()[1])
        found.append(((MEMORY.name,), pages * os.sysconf("SC_PAGE_SIZE")))
        found.append(((OPEN_FDS.name,), sum(1 for _ in (_PROC / "fd").iterdir())))
    except (OSError, ValueError, IndexError):
        return found
    if sys.platform != "win32":
        import resource  # Windows has none

        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit != resource.RLIM_INFINITY:
            found.append(((MAX_FDS.name,), limit))
    return found
