"""How long models are timed in turn, and which clock decides."""

from __future__ import annotations

import dataclasses
import math
import time
from types import SimpleNamespace

import pytest

from stagelib import timing
from stagelib.timing import CHOSEN_FROM, LONGEST, Limits, Run, by_cpu_time, cpu_clock_step, time_in_turn

MIN_RUNS = 8
LIMITS = Limits(distinct_inputs=4, block=1, warmup_max=8, min_runs=MIN_RUNS, min_seconds=0, max_seconds=60)
ONE_CPU = dataclasses.replace(LIMITS, one_cpu=True)


class Machine:
    """Clocks that only runs move: `passed` counts what others took too, `used` what the models did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, resolution: float = 1e-9) -> None:
        self.passed = self.used = 0
        monkeypatch.setattr(time, "perf_counter_ns", lambda: self.passed)
        monkeypatch.setattr(time, "process_time_ns", lambda: self.used)
        monkeypatch.setattr(time, "get_clock_info", lambda _: SimpleNamespace(resolution=resolution))

    def model(self, *milliseconds: float, others: float = 0.0) -> Run:
        """A model that takes these times in turn, while others take some as well."""
        turns = 0

        def run(_: int) -> None:
            nonlocal turns
            taken = milliseconds[turns % len(milliseconds)]
            turns += 1
            self.used += round(taken * 1e6)
            self.passed += round((taken + others) * 1e6)

        return run


def quietly(_: float) -> None:
    """No progress is shown."""


def test_on_one_cpu_the_time_of_others_is_on_record_and_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    timed = time_in_turn([machine.model(3.0, others=40.0), machine.model(10.0)], ONE_CPU, quietly)
    runs = len(timed.sides[0])
    assert timed.cpu_sides == [[3.0] * runs, [10.0] * runs]
    assert timed.sides[0] == [43.0] * runs


def test_beside_others_it_is_measured_longer_for_a_quiet_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    quiet, busy = [machine.model(3.0), machine.model(10.0)], [machine.model(3.0, others=2.0), machine.model(10.0)]
    assert MIN_RUNS < CHOSEN_FROM < LONGEST * MIN_RUNS
    assert len(time_in_turn(quiet, ONE_CPU, quietly).sides[0]) == CHOSEN_FROM
    assert len(time_in_turn(busy, ONE_CPU, quietly).sides[0]) == LONGEST * MIN_RUNS


def test_few_runs_asked_are_not_many(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    brief = dataclasses.replace(ONE_CPU, min_runs=2)
    assert len(time_in_turn([machine.model(3.0), machine.model(10.0)], brief, quietly).sides[0]) == LONGEST * 2


def test_a_ratio_that_wanders_is_measured_on_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    unsteady = [machine.model(2.0, 3.0, 4.0), machine.model(6.0, 4.0, 3.0)]
    assert len(time_in_turn(unsteady, ONE_CPU, quietly).sides[0]) == LONGEST * MIN_RUNS
    assert len(time_in_turn(unsteady, LIMITS, quietly).sides[0]) == MIN_RUNS
    assert len(time_in_turn(unsteady[:1], ONE_CPU, quietly).sides[0]) == MIN_RUNS


def test_a_clock_too_coarse_for_a_run_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, resolution=0.0156)
    assert not by_cpu_time(ONE_CPU)
    timed = time_in_turn([machine.model(3.0), machine.model(10.0)], ONE_CPU, quietly)
    assert timed.cpu_sides == [[], []]
    assert timing.warm_up([machine.model(3.0), machine.model(10.0)], dataclasses.replace(ONE_CPU, warmup_max=20)) == (
        16,
        True,
    )


def test_a_clock_that_moves_in_ticks_is_not_asked_whatever_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)

    def now(step: int) -> int:
        machine.passed += 1000
        return machine.passed // step * step

    monkeypatch.setattr(time, "perf_counter_ns", lambda: now(1))
    for step, decides in ((10_000_000, False), (2000, True), (10**12, False)):
        monkeypatch.setattr(time, "process_time_ns", lambda step=step: now(step))
        seen = cpu_clock_step()
        assert seen == pytest.approx(step / 1e9) or (step == 10**12 and seen == math.inf)
        assert by_cpu_time(dataclasses.replace(ONE_CPU, clock_step=seen)) == decides


def test_beside_a_slow_baseline_a_device_is_measured_for_as_long_as_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    monkeypatch.setattr(time, "perf_counter", lambda: machine.passed / 1e9)
    asked = dataclasses.replace(LIMITS, block=10, min_seconds=1.0)
    device, processor = time_in_turn([machine.model(1.0), machine.model(9.0)], asked, quietly).sides
    assert sum(device) == pytest.approx(1000)
    assert len(processor) == len(device)
