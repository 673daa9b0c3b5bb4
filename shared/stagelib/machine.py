"""What a figure was measured on: processor, instruction sets, clocks, load. Linux's files; None where there is none."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stagelib import nvml

# What decides how fast integer and half-precision encoders are, on x86-64 and on Arm.
TELLING_FLAGS = frozenset(
    [
        "avx",
        "avx2",
        "fma",
        "f16c",
        "avx_vnni",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512_vnni",
        "avx512_bf16",
        "avx512_fp16",
        "amx_tile",
        "amx_int8",
        "amx_bf16",
        "asimd",
        "asimddp",
        "i8mm",
        "bf16",
        "sve",
        "sve2",
    ]
)
_INFO = ".dist-info"
_CPUINFO = Path("/proc/cpuinfo")
_GOVERNOR = "/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"


def describe_machine() -> dict[str, Any]:
    """Processor, its telling instruction sets, how many CPUs this process may use, the clock governor and the load."""
    allowed = allowed_cpus()
    info = parse_cpuinfo(_read(_CPUINFO) or "")
    return {
        "cpu_model": _cpu_model(info),
        "architecture": platform.machine(),
        "isa_flags": sorted(TELLING_FLAGS.intersection(info.get("flags", info.get("features", "")).split())),
        "cpus_allowed": allowed,
        "cpus_of_machine": os.cpu_count(),
        "governor": _read(Path(_GOVERNOR.format(cpu=allowed[-1]))),
        "load_average": load_average(),
        "kernel": platform.release(),
    }


def cpu_model() -> str:
    """The processor, as it calls itself."""
    return _cpu_model(parse_cpuinfo(_read(_CPUINFO) or ""))


def _cpu_model(info: Mapping[str, str]) -> str:
    return info.get("model name") or platform.processor() or platform.machine()


def conditions(cpu: int) -> dict[str, Any]:
    """What changes while one measures, where it can be read: clock of that CPU (MHz), hottest zone (degrees Celsius),
    power profile, mains, load; the same of NVIDIA's GPUs."""
    clock = _read(Path(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq"))
    zones = [int(text) for text in map(_read, Path("/sys/class/thermal").glob("thermal_zone*/temp")) if text]
    mains = [text for text in map(_read, Path("/sys/class/power_supply").glob("A*/online")) if text]
    return {
        "cpu_mhz": round(int(clock) / 1000, 1) if clock else _cpuinfo_mhz(cpu),
        "temperature_c": round(max(zones) / 1000, 1) if zones else None,
        "power_profile": _read(Path("/sys/firmware/acpi/platform_profile")),
        "energy_preference": _read(Path(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/energy_performance_preference")),
        "on_mains": any(text == "1" for text in mains) if mains else None,
        "load_average": load_average(),
        "gpus": nvml.gpus(),
    }


def _cpuinfo_mhz(cpu: int) -> float | None:
    """The clock that /proc/cpuinfo gives a CPU: on virtual machines often the only one, and the host's nominal one."""
    blocks = (_read(_CPUINFO) or "").split("\n\n")
    for block in blocks:
        entries = parse_cpuinfo(block)
        if entries.get("processor") == str(cpu) and "cpu mhz" in entries:
            return round(float(entries["cpu mhz"]), 1)
    return None


def forget_files(paths: Iterable[Path]) -> bool:
    """Ask the kernel to drop files from its cache; whether it can be asked. What others have mapped stays."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in paths:
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def allowed_cpus() -> list[int]:
    """Numbers of the CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def load_average() -> list[float] | None:
    """Runnable processes over the last 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of the distributions that are installed; others go by another name here (onnxruntime-directml, say)."""
    # As their folders say it. importlib.metadata would be half of what a stage's process imports before it begins.
    wanted = {_normal(name): name for name in sorted(names)}
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            entries = sorted(path.name for path in Path(folder or ".").iterdir())
        except OSError:  # an archive, or not there
            continue
        for name, _, version in (entry[: -len(_INFO)].partition("-") for entry in entries if entry.endswith(_INFO)):
            if _normal(name) in wanted:
                found.setdefault(wanted[_normal(name)], version)
    return dict(sorted(found.items()))


def _normal(name: str) -> str:
    """A distribution's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_cpuinfo(text: str) -> Mapping[str, str]:
    """The first processor's entries of /proc/cpuinfo, names in lower case."""
    entries: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not colon:
            if entries:
                break
            continue
        entries.setdefault(name.strip().lower(), value.strip())
    return entries


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
