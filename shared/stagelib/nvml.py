"""What NVIDIA's GPUs do while one measures: clocks, temperature, power, and what holds their clocks down.

Asked of the driver's management library through ctypes; it comes with every driver, and where there is none there is
nothing to say. All GPUs of the machine are told, as CUDA may number them otherwise.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_NAME_BYTES = 96
_SM, _MEMORY = 1, 2
_UNSIGNED = ctypes.c_uint
# Bits of what NVIDIA calls the clocks' event (or throttle) reasons.
REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "heat (software)",
    0x40: "heat (hardware)",
    0x80: "power brake",
    0x100: "display clocks",
}


def gpus(library: Any = None) -> list[dict[str, Any]] | None:
    """One entry a GPU, in the driver's order; None without a driver. Clocks in MHz, power in watts, degrees Celsius;
    None for what this GPU doesn't tell. `library` is for tests."""
    library = library or _open()
    count = _UNSIGNED()
    if library is None or library.nvmlInit_v2():
        return None
    try:
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return None
        driver = _text(library, "nvmlSystemGetDriverVersion")
        return [{**_gpu(library, index), "driver": driver} for index in range(count.value)]
    finally:
        library.nvmlShutdown()


def _open() -> Any:
    try:
        return ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    except OSError:
        return None


def _gpu(library: Any, index: int) -> dict[str, Any]:
    handle = ctypes.c_void_p()
    if library.nvmlDeviceGetHandleByIndex_v2(_UNSIGNED(index), ctypes.byref(handle)):
        return {"name": None}
    power = _number(library, "nvmlDeviceGetPowerUsage", handle)
    limit = _number(library, "nvmlDeviceGetEnforcedPowerLimit", handle)
    reasons = _number(library, "nvmlDeviceGetCurrentClocksThrottleReasons", handle, kind=ctypes.c_ulonglong)
    return {
        "name": _text(library, "nvmlDeviceGetName", handle),
        "sm_mhz": _number(library, "nvmlDeviceGetClockInfo", handle, _SM),
        "sm_mhz_max": _number(library, "nvmlDeviceGetMaxClockInfo", handle, _SM),
        "memory_mhz": _number(library, "nvmlDeviceGetClockInfo", handle, _MEMORY),
        "performance_state": _number(library, "nvmlDeviceGetPerformanceState", handle),
        "temperature_c": _number(library, "nvmlDeviceGetTemperature", handle, 0),
        "power_w": None if power is None else power / 1000,
        "power_limit_w": None if limit is None else limit / 1000,
        "held_by": None if reasons is None else [text for bit, text in REASONS.items() if reasons & bit],
    }


def _number(library: Any, function: str, *given: Any, kind: Any = _UNSIGNED) -> int | None:
    found = kind()
    return int(found.value) if _said(library, function, *given, ctypes.byref(found)) else None


def _text(library: Any, function: str, *given: Any) -> str | None:
    found = ctypes.create_string_buffer(_NAME_BYTES)
    said = _said(library, function, *given, found, _UNSIGNED(_NAME_BYTES))
    return found.value.decode(errors="replace") if said else None


def _said(library: Any, function: str, *given: Any) -> bool:
    """Whether this driver has the function (new ones rename, embedded ones leave out), and it told."""
    asked = getattr(library, function, None)
    return asked is not None and not asked(*given)
