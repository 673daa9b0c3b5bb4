"""How a result calls what it ran on, so that nobody takes an emulator or a CPU for the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from portwright.results import RunResult

QUIET_SHARE = 0.9
"""A benchmark that had its CPU for less of the time measured the machine's other processes along."""

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


def timing_doubts(result: RunResult) -> list[str]:
    """What a reader of the latency must know of how it was measured; empty where nothing speaks against it."""
    doubts = []
    if result.verdict in {"unstable", "invalid"}:
        doubts.append(f"the latency measurement is {result.verdict}: {result.verdict_reason}")
    share = result.environment.get("cpu_share")
    if isinstance(share, int | float) and share < QUIET_SHARE:
        doubts.append(
            f"other processes had the CPU for {1 - share:.0%} of the time: milliseconds and inferences/s are of a busy "
            "machine; the ratio is of CPU time, which they don't enter"
        )
    return doubts
