"""What is read of NVIDIA's GPUs, from a management library that is made up."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from stagelib import machine, nvml

NUMBERS = {
    "nvmlDeviceGetCount_v2": 2,
    "nvmlDeviceGetPowerUsage": 124_475,
    "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    "nvmlDeviceGetCurrentClocksThrottleReasons": 0x4 | 0x20,
    "nvmlDeviceGetMaxClockInfo": 1980,
    "nvmlDeviceGetPerformanceState": 0,
    "nvmlDeviceGetTemperature": 36,
}
TEXTS = {"nvmlDeviceGetName": b"a GPU", "nvmlSystemGetDriverVersion": b"580.159"}


class Library:
    """NVML as `nvml` calls it; `codes` are the errors of its functions."""

    def __init__(self, **codes: int) -> None:
        self.codes = codes
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any) -> int:
            self.calls.append(name)
            if name in TEXTS:
                given[-2].value = TEXTS[name]
            elif name == "nvmlDeviceGetClockInfo":
                given[-1]._obj.value = {1: 1335, 2: 3201}[given[1]]
            elif name in NUMBERS:
                given[-1]._obj.value = NUMBERS[name]
            return self.codes.get(name, 0)

        return call


def test_every_gpu_is_told_with_what_holds_its_clocks() -> None:
    library = Library()
    first, second = nvml.gpus(library) or []
    assert (
        first
        == second
        == {
            "name": "a GPU",
            "driver": "580.159",
            "sm_mhz": 1335,
            "sm_mhz_max": 1980,
            "memory_mhz": 3201,
            "performance_state": 0,
            "temperature_c": 36,
            "power_w": 124.475,
            "power_limit_w": 700.0,
            "held_by": ["power cap", "heat (software)"],
        }
    )
    assert library.calls[-1] == "nvmlShutdown"


def test_what_a_gpu_does_not_tell_is_left_open() -> None:
    unsupported = 3
    [first, _] = nvml.gpus(Library(nvmlDeviceGetPowerUsage=unsupported, nvmlDeviceGetTemperature=unsupported)) or []
    assert (first["power_w"], first["temperature_c"], first["sm_mhz"]) == (None, None, 1335)


def test_what_a_driver_has_not_is_left_open() -> None:
    class Embedded(Library):
        def __getattr__(self, name: str) -> Any:
            if name == "nvmlDeviceGetCurrentClocksThrottleReasons":
                raise AttributeError(name)
            return super().__getattr__(name)

    [first, _] = nvml.gpus(Embedded()) or []
    assert (first["held_by"], first["power_w"]) == (None, 124.475)


@pytest.mark.parametrize("refused", ["nvmlInit_v2", "nvmlDeviceGetCount_v2"])
def test_a_driver_that_does_not_answer_says_nothing(refused: str) -> None:
    assert nvml.gpus(Library(**{refused: 9})) is None


def test_without_a_driver_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", without)
    assert machine.conditions(0)["gpus"] is None
