"""How the process uses memory."""

from __future__ import annotations

import asyncio
import gc
import importlib
import subprocess
import sys

import pytest

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


def test_a_module_is_missing_only_while_it_is_to_be() -> None:
    assert "this" not in sys.modules
    with memory.without("this"), pytest.raises(ModuleNotFoundError):
        importlib.import_module("this")
    assert "this" not in sys.modules


def test_a_module_that_is_loaded_stays() -> None:
    with memory.without("gc", "asyncio"):
        assert importlib.import_module("gc") is gc
    assert sys.modules["asyncio"] is asyncio


def test_a_module_loaded_under_that_name_within_the_block_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    with memory.without("a_name"):
        monkeypatch.setitem(sys.modules, "a_name", gc)
    assert sys.modules["a_name"] is gc


TRIM = """
import ctypes, re
from claude_proxy import memory
memory.share_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
def resident(): return int(open("/proc/self/statm").read().split()[1])
blocks = [libc.malloc(40_000) for _ in range(800)]
for block in blocks: ctypes.memset(block, 1, 40_000)
for block in blocks[:-1]: libc.free(block)
before = resident()
memory.trim()
print(before - resident() > 5000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measured with /proc")
def test_the_system_gets_what_is_free_below_the_last_used_block() -> None:
    done = subprocess.run([sys.executable, "-c", TRIM], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "True\n"


class Loop:
    """Notes what it should call."""

    def __init__(self) -> None:
        self.now = 100.0
        self.calls: list[float] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, *_: object) -> None:
        self.calls.append(when)

    def run_in_executor(self, *_: object) -> None: ...


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    monkeypatch.setattr(memory, "_trim_due", float("-inf"))
    return Loop()


def test_many_pages_are_followed_by_one_trim(loop: Loop) -> None:
    for now, calls in ((100.0, 1), (104.9, 1), (105.0, 2), (200.0, 3)):
        loop.now = now
        memory.trim_later(loop)  # type: ignore[arg-type]
        assert len(loop.calls) == calls
    assert loop.calls[0] == 105.0
