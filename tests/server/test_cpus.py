"""CPUs by affinity and by cgroup, v1 and v2, in a container and under systemd."""

import os
from pathlib import Path

import pytest

from claude_proxy.server.cpus import available_cpus

ALL = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpus(tmp_path: Path, group: str | None, files: dict[str, str]) -> float:
    """What is counted under a /sys/fs/cgroup with these files, in this group of /proc/self/cgroup."""
    proc = tmp_path / "cgroup"
    if group is not None:
        proc.write_text(group)
    root = tmp_path / "sys"
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return available_cpus(proc, root)


V1 = "3:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n"


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        (None, {}, ALL),
        ("0::/\n", {"cpu.max": "max 100000\n"}, ALL),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("0::/a.slice/b.service\n", {"a.slice/b.service/cpu.max": "25000 100000\n"}, 0.25),
        ("0::/a.slice/b.service\n", {"a.slice/cpu.max": "25000 100000\n"}, 0.25),
        (
            "0::/a.slice/b.service\n",
            {"a.slice/cpu.max": "75000 100000\n", "a.slice/b.service/cpu.max": "max 100000\n"},
            0.75,
        ),
        ("0::/elsewhere\n", {"elsewhere2/cpu.max": "25000 100000\n"}, ALL),
        (V1, {"cpu/docker/x/cpu.cfs_quota_us": "50000\n", "cpu/docker/x/cpu.cfs_period_us": "100000\n"}, 0.5),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 0.5),
        (V1, {"cpu/docker/x/cpu.cfs_quota_us": "-1\n", "cpu/docker/x/cpu.cfs_period_us": "100000\n"}, ALL),
        ("0::/\n", {"cpu.max": "1 100000\n"}, 0.01),
        ("0::/\n", {"cpu.max": "999900000 100000\n"}, ALL),
        ("0::/\n", {"cpu.max": "50000\n"}, ALL),
    ],
)
def test_the_tightest_limit_counts(tmp_path: Path, group: str | None, files: dict[str, str], expected: float) -> None:
    assert cpus(tmp_path, group, files) == expected
