"""Cores and memory: what the system says, what control groups leave of it, and what the user says instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from portwright.capacity import UNKNOWN_MEMORY, asked_for, available_memory, this_machine
from portwright.errors import UsageError
from portwright.scheduler import Capacity

GIB = 1 << 30
FOUND = Capacity(cores=4, memory=8 * GIB)


def system(root: Path, files: dict[str, str]) -> Path:
    """A root folder with /proc and /sys as a machine of 16 GiB has them, and `files`."""
    free = {"proc/meminfo": f"MemTotal: 99999999 kB\nMemAvailable:   {16 << 20} kB\n"}
    for name, text in (free | files).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_limits_it_is_what_the_system_has(tmp_path: Path) -> None:
    found = this_machine(system(tmp_path, {}))
    assert found.memory == 16 * GIB
    assert found.cores >= 1
    assert available_memory(tmp_path / "nowhere") == UNKNOWN_MEMORY


def test_limits_of_control_groups_count_those_above_too(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/user/run"
    files = {
        "proc/self/cgroup": "0::/user/run\n",
        f"{group}/memory.max": "max\n",
        f"{group}/memory.current": f"{GIB}\n",
        f"{group}/cpu.max": "100000 100000\n",
        "sys/fs/cgroup/user/memory.max": f"{6 * GIB}\n",
        "sys/fs/cgroup/user/memory.current": f"{3 * GIB}\n",
        "sys/fs/cgroup/user/memory.stat": f"anon 5\ninactive_file {GIB}\n",
    }
    assert this_machine(system(tmp_path, files)) == Capacity(cores=1, memory=4 * GIB)


def test_the_older_control_groups_count_too(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/job\n2:cpu,cpuacct:/job\n",
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{5 * GIB}\n",
        "sys/fs/cgroup/memory/job/memory.usage_in_bytes": f"{2 * GIB}\n",
        "sys/fs/cgroup/memory/job/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB}\n",
        # In a container the group of its own is at the top, whatever the path says.
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    assert this_machine(system(tmp_path, files)) == Capacity(cores=1, memory=4 * GIB)


@pytest.mark.parametrize(
    ("text", "size"),
    [("6GB", 6 * 10**9), ("6 GiB", 6 * GIB), ("1.5g", 15 * 10**8), ("512MiB", 512 << 20), ("1000", 1000)],
)
def test_what_the_user_says_counts(text: str, size: int) -> None:
    assert asked_for(FOUND, {"PORTWRIGHT_MEMORY": text}) == Capacity(cores=4, memory=size)
    assert asked_for(FOUND, {"PORTWRIGHT_CORES": "2"}) == Capacity(cores=2, memory=8 * GIB)
    assert asked_for(FOUND, {"PORTWRIGHT_CORES": "", "PORTWRIGHT_MEMORY": ""}) == FOUND


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PORTWRIGHT_CORES", "0"),
        ("PORTWRIGHT_CORES", "two"),
        ("PORTWRIGHT_MEMORY", "6 apples"),
        ("PORTWRIGHT_MEMORY", "0"),
    ],
)
def test_what_is_no_number_is_refused(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=name):
        asked_for(FOUND, {name: text})
