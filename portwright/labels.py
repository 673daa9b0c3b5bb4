"""How a result calls what it ran on, so that nobody takes an emulator or a CPU for the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from portwright.results import RunResult

RanOnKind = Literal["device", "emulator", "stand-in", "cpu"]


@dataclass(frozen=True)
class RanOn:
    """What executed: `kind` for programs, `text` for people, `sentence` where there is room to say it all."""

    kind: RanOnKind
    text: str
    sentence: str


DEVICE = RanOn("device", "device", "on the device")
EMULATOR = RanOn("emulator", "emulator", "in an emulator, not on a device")
STAND_IN = RanOn("stand-in", "CPU stand-in", "on a CPU in the device's place")
CPU = RanOn("cpu", "CPU", "on the CPU it is made for")


def ran_on(result: RunResult) -> RanOn:
    """What executed. A CPU is a stand-in wherever the recipe's own hardware is another."""
    if result.executed_on == "device":
        return DEVICE
    if result.executed_on == "emulator":
        return EMULATOR
    # Where a CPU is the recipe's own hardware, its placement gate is met there and what ships was executed.
    met = [gate.passed is True for gate in result.gates if gate.name == "placement"]
    return CPU if met and all(met) and result.executed.deployable else STAND_IN
