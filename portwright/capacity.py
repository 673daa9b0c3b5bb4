"""What this machine has for stages: cores and memory, as far as this process may use them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from portwright.errors import UsageError
from portwright.scheduler import Capacity

CORES_VARIABLE = "PORTWRIGHT_CORES"
MEMORY_VARIABLE = "PORTWRIGHT_MEMORY"
UNKNOWN_MEMORY = 4 << 30
"""Taken where the system doesn't say (macOS and Windows have no /proc)."""
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]I?)?B?", re.IGNORECASE)


def asked_for(found: Capacity, environment: Mapping[str, str] = os.environ) -> Capacity:
    """What was found, or what PORTWRIGHT_CORES and PORTWRIGHT_MEMORY say instead; UsageError for what is neither."""
    cores, memory = environment.get(CORES_VARIABLE), environment.get(MEMORY_VARIABLE)
    return Capacity(cores=_cores(cores) if cores else found.cores, memory=_bytes(memory) if memory else found.memory)


def this_machine(root: Path = Path("/")) -> Capacity:
    """Processors this process may run on and memory that is free for it, limits of its control groups respected."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Capacity(cores=max(1, min([allowed, *_core_limits(root)])), memory=available_memory(root))


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that can be had now without pushing anything out, control groups' limits respected."""
    return max(0, min([_free_memory(root), *_memory_limits(root)]))


def _cores(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{CORES_VARIABLE} is {text!r}", hint="give a number of cores, 1 or more")
    return int(text)


def _bytes(text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    size = int(float(found[1]) * _UNITS[(found[2] or "").upper()]) if found else 0
    if size <= 0:
        raise UsageError(f"{MEMORY_VARIABLE} is {text!r}", hint="give bytes, or a size as 6GB or 6GiB")
    return size


def _free_memory(root: Path) -> int:
    for line in _lines(root / "proc/meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return UNKNOWN_MEMORY


def _core_limits(root: Path) -> Iterator[int]:
    """Processors' worth of time that each control group above this process may use, rounded down."""
    for folder in _groups(root, "cpu"):
        match _lines(folder / "cpu.max"):
            case [line] if not line.startswith("max"):
                quota, period = map(int, line.split())
                yield quota // period
        match _lines(folder / "cpu.cfs_quota_us"), _lines(folder / "cpu.cfs_period_us"):
            case [quota_line], [period_line] if int(quota_line) > 0:
                yield int(quota_line) // int(period_line)


def _memory_limits(root: Path) -> Iterator[int]:
    """Bytes that each control group above this process has left; cached files, which it can give back, aside."""
    names = (("memory.max", "memory.current", "inactive_file"),)
    old = (("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),)
    for folder in _groups(root, "memory"):
        for limit, usage, cached in names + old:
            match _lines(folder / limit), _lines(folder / usage):
                case [most], [used] if most != "max":
                    spare = [int(line.split()[1]) for line in _lines(folder / "memory.stat") if line.startswith(cached)]
                    yield int(most) - int(used) + sum(spare)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups that this process is in, from its own upwards: version 2's, and version 1's."""
    mount = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, place = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = mount / controller if controllers else mount
        # In a container the path may be the host's, and not be there: its own group is then the top.
        inner = top / place.lstrip("/")
        folder = inner if inner.is_dir() else top
        while folder.is_relative_to(top):
            yield folder
            folder = folder.parent


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
