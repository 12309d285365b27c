"""How this process uses memory: one heap for all threads, and a garbage collector that looks at what may be garbage."""

from __future__ import annotations

import contextlib
import gc

# An exchange leaves some 25 objects for the metrics, which drop them in batches. With Python's 700 the collector would look at
# them every 30 exchanges, for a twentieth of all CPU time; what it really has to find are a few cycles per client connection.
GC_THRESHOLDS = (10_000, 10, 10)
_M_ARENA_MAX = -8  # mallopt(3)


def share_heap() -> None:
    """Let all threads use one heap. Call it before there are threads.

    By default glibc gives each thread a heap of its own, and what one has freed stays there: some megabytes for each thread that
    has read the books for the page. Elsewhere (musl, macOS) it does nothing.
    """
    import ctypes  # 4 ms

    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def settle() -> None:
    """Call it when everything that lives as long as the process exists: the collector need not traverse it."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
