"""How the process uses memory."""

from __future__ import annotations

import gc
import subprocess
import sys

from claude_proxy import memory

PROGRAM = """
import ctypes, threading, time
from claude_proxy import memory
memory.share_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
blocks = [libc.malloc(1000)]
def take(): blocks.append(libc.malloc(1000)); time.sleep(0.1)
threads = [threading.Thread(target=take) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(max(blocks) - min(blocks) < 64 * 1024**2)
"""


def test_threads_share_one_heap() -> None:
    """A heap of a thread's own begins at a multiple of 64 MiB, far from the others."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == ("True\n" if sys.platform == "linux" else done.stdout)


def test_what_lives_as_long_as_the_process_is_not_traversed() -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    try:
        memory.settle()
        assert gc.get_freeze_count() > before[1]
        assert gc.get_threshold() == memory.GC_THRESHOLDS
    finally:
        gc.unfreeze()
        gc.set_threshold(*before[0])
