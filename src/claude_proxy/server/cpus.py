"""How many CPUs this process may use, by its affinity and its cgroup limit, not how many the machine has."""

import os
from pathlib import Path


def available_cpus(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the number of usable CPUs, at least 0.01; a container limit of 1.5 CPUs gives 1.5.

    Reads cgroup v2 (`cpu.max`) and v1 (`cpu.cfs_quota_us`, `cpu.cfs_period_us`): the tightest limit on the way
    from our own group to the root (kernel documentation, cgroup-v2 "CPU" and sched-bwc).
    """
    limits = [float(_affinity())]
    for group in _groups(proc, root):
        limits += _limit_of(group)
    return max(min(limits), 0.01)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _groups(proc: Path, root: Path) -> list[Path]:
    """Return the directories that may hold a CPU limit for this process. In a container its group is the root."""
    groups = [root, root / "cpu", root / "cpu,cpuacct"]
    try:
        lines = proc.read_text("utf-8").splitlines()
    except OSError:
        return groups
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            bases = [root]
        elif "cpu" in controllers.split(","):
            bases = [root / "cpu", root / controllers]
        else:
            continue
        inside = Path(path.lstrip("/"))
        groups += [base / part for base in bases for part in (inside, *inside.parents)]
    return groups


def _limit_of(group: Path) -> list[float]:
    """Return the CPU limit set in this directory as a list of one, or an empty list."""
    quota, period = _words(group / "cpu.max", 2)
    if quota is None:
        (quota,) = _words(group / "cpu.cfs_quota_us", 1)
        (period,) = _words(group / "cpu.cfs_period_us", 1)
    try:
        limit = int(quota or "") / int(period or "")
    except (ValueError, ZeroDivisionError):
        return []  # absent, or "max"
    return [limit] if limit > 0 else []  # -1 means "no limit" in v1


def _words(path: Path, count: int) -> list[str | None]:
    try:
        words: list[str | None] = [*path.read_text("utf-8").split()]
    except OSError:
        words = []
    return (words + [None] * count)[:count]
