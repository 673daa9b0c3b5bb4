"""What a device's answers and figures depend on beside the stage: its driver, the kernel, and the very machine.

None of it is in a toolchain's lock. After a driver's update a run must not take the old figure for the current one.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from pathlib import Path

MODULE_VERSIONS = ("version", "srcversion")
"""Of /sys/module/<driver>: what its author says, else a digest of its source. A module built in may have neither."""
NVIDIA = "proc/driver/nvidia/version"
KERNEL = "proc/sys/kernel/osrelease"


def identity(root: Path, system: str, drivers: Iterable[str], libraries: Iterable[Path]) -> tuple[str, ...]:
    """One line a part, as found under `root`: kernel drivers, their libraries, NVIDIA's driver, kernel, host."""
    if system == "windows":
        # Windows updates drivers by itself, and names none to a process without asking the device.
        return (f"system {platform.version()}", f"host {platform.node()}")
    return (
        *(f"driver {name} {_module(root, name)}".rstrip() for name in sorted(set(drivers))),
        *sorted({f"library {path.name} {path.stat().st_size}" for path in libraries if path.is_file()}),
        *(f"nvidia {line}" for line in _lines(root / NVIDIA)),
        *(f"kernel {line}" for line in _lines(root / KERNEL)),
        f"host {platform.node()}",
    )


def _module(root: Path, driver: str) -> str:
    """A driver's version; empty where the kernel has none of it. A module's name has no hyphens."""
    folder = root / "sys" / "module" / driver.replace("-", "_")
    return next((line for name in MODULE_VERSIONS for line in _lines(folder / name)), "")


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file of the kernel's; none where it isn't there."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return
    yield from text.strip().splitlines()
