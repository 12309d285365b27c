"""How this process uses memory: what is loaded, one heap for all threads, and when garbage is collected."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import Iterator
from typing import Any, cast

# An exchange leaves some 25 objects for the metrics, which drop them in batches. With Python's 700 the collector would look at
# them every 30 exchanges, for a twentieth of all CPU time; what it really has to find are a few cycles per client connection.
GC_THRESHOLDS = (10_000, 10, 10)
_M_ARENA_MAX = -8  # mallopt(3)
TRIM_AFTER = 5.0  # seconds
_trim_due = float("-inf")  # event-loop seconds


@contextlib.contextmanager
def without(*modules: str) -> Iterator[None]:
    """Within the block, these modules appear not to be installed, unless they are loaded already.

    This is for libraries that load an optional module with themselves, whether it is used or not, and have no switch for it. They
    must handle its absence (`except ImportError`). None in `sys.modules` makes an import fail
    (https://docs.python.org/3/reference/import.html#the-module-cache).
    """
    loaded = cast("dict[str, Any]", sys.modules)
    absent = [name for name in modules if name not in loaded]
    loaded.update(dict.fromkeys(absent))
    try:
        yield
    finally:
        for name in absent:
            if loaded.get(name, name) is None:
                del loaded[name]


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


def trim_later(loop: asyncio.AbstractEventLoop) -> None:
    """Give the system what is free in the heap, in a few seconds: call it after work that takes much memory for a short time.

    glibc gives back what is free at the heap's end, and keeps the rest (2 MB after some pages). It takes about a millisecond,
    in a thread.
    """
    global _trim_due
    now = loop.time()
    if _trim_due <= now:
        _trim_due = now + TRIM_AFTER
        loop.call_at(_trim_due, loop.run_in_executor, None, trim)


def trim() -> None:
    """Give the system the pages that are free in the heap; elsewhere than with glibc it does nothing."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
