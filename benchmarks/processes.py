"""What Linux says about a process and its children: CPU time and memory; and pinning to a core."""

import asyncio
import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """`pid` and all its living descendants."""
    found = [pid]
    for parent in found:
        for task in _listed(Path(f"/proc/{parent}/task")):
            with contextlib.suppress(OSError):
                children = (task / "children").read_text()
                found.extend(int(child) for child in children.split())
    return found


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _reaped(pid: int) -> float:
    """CPU seconds of the children that `pid` has waited for (proc(5): cutime, cstime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / _TICK


def cpu_seconds(pid: int) -> float:
    """User and system time of the whole process tree.

    Read from each process's CPU clock (clock_getcpuclockid(3): nanoseconds, ended threads included) instead
    of the 10 ms ticks of /proc/PID/stat, which are too coarse for a paced run. Same sum, more digits.
    """
    total = 0.0
    for member in tree(pid):
        with contextlib.suppress(OSError):
            total += time.clock_gettime((~member << 3) | 2) + _reaped(member)
    return total


def memory(pid: int) -> tuple[int, int]:
    """Resident and proportional set size of the whole process tree, in bytes (proc(5): smaps_rollup)."""
    rss = pss = 0
    for member in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                name, _, value = line.partition(":")
                if name == "Rss":
                    rss += int(value.split()[0]) * 1024
                elif name == "Pss":
                    pss += int(value.split()[0]) * 1024
    return rss, pss


async def settled_memory(pid: int) -> tuple[int, int]:
    """`memory(pid)` once it has stood still for three seconds, to 256 KB.

    Raises:
        TimeoutError: it still moved after 30 seconds.
    """
    async with asyncio.timeout(30):
        seen = [memory(pid)]
        while len(seen) < 4 or abs(seen[-1][1] - seen[-4][1]) > 256 * 1024:
            await asyncio.sleep(1)
            seen.append(memory(pid))
    return seen[-1]


def open_sockets(pid: int) -> int:
    """How many sockets the process tree holds."""
    count = 0
    for member in tree(pid):
        for entry in _listed(Path(f"/proc/{member}/fd")):
            with contextlib.suppress(OSError):
                count += str(entry.readlink()).startswith("socket:")
    return count


def cores() -> tuple[int, int]:
    """The core for the proxy and the one for everything else; the same one where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Run here on `core`; a process started inside inherits it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def machine_busy() -> float:
    """CPU seconds that all processes of the machine have used since boot (proc(5), /proc/stat; 10 ms ticks)."""
    times = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle, waiting = times[3:5]
    return (sum(times) - idle - waiting) / _TICK


def idle_share(seconds: float = 1.0) -> float:
    """The share of the machine's CPU time that was idle during `seconds`: how quiet it is, 0 to 1."""
    before, started = machine_busy(), time.monotonic()
    time.sleep(seconds)
    busy = machine_busy() - before
    return max(0.0, 1 - busy / (time.monotonic() - started) / (os.cpu_count() or 1))


def end_in_order() -> None:
    """Let SIGTERM end this process the way Ctrl-C does: through the blocks that stop what was started."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def raise_open_files(wanted: int = 8192) -> None:
    """Let this process and its children hold many sockets, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def machine() -> str:
    """Processor, cores and kernel in one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    uname = os.uname()
    return f"{model}, {os.cpu_count()} cores, {uname.sysname} {uname.release} {uname.machine}"
