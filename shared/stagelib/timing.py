"""Timing models in turn: the warm-up, the runs that count, and a long run of one of them alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stagelib.measure import settled

Run = Callable[[int], object]
"""Runs a model on the input of that number."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long to measure. `block`: runs of one side before it is the other's turn."""

    distinct_inputs: int
    block: int
    warmup_max: int
    min_runs: int
    min_seconds: float
    max_seconds: float


@dataclass(kw_only=True)
class Timed:
    """Milliseconds of each side's runs, in the order of the inputs; the first side is the candidate."""

    sides: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0


def warm_up(runs: Sequence[Run], limits: Limits) -> tuple[int, bool]:
    """Run until latency settles on every side; how many runs that took, and whether it did settle."""
    times: list[list[float]] = [[] for _ in runs]
    deadline = time.perf_counter() + limits.max_seconds / 2
    done = 0
    while done < limits.warmup_max and time.perf_counter() < deadline:
        for side, values in enumerate(_round(runs, done, limits)):
            times[side] += values
        done += limits.block
        if all(settled(side) for side in times):
            return done, True
    return done, False


def time_in_turn(runs: Sequence[Run], limits: Limits, on_progress: Callable[[float], None]) -> Timed:
    """Time all sides in turn until there are enough runs and seconds of them, or no more time."""
    timed = Timed(sides=[[] for _ in runs])
    started = time.perf_counter()
    while True:
        done = len(timed.sides[0])
        for side, values in enumerate(_round(runs, done, limits)):
            timed.sides[side] += values
        timed.seconds = time.perf_counter() - started
        enough = min(len(timed.sides[0]) / limits.min_runs, timed.seconds / max(limits.min_seconds, 1e-9))
        if enough >= 1 or timed.seconds >= limits.max_seconds:
            return timed
        on_progress(max(enough, timed.seconds / limits.max_seconds))


def time_alone(run: Run, distinct_inputs: int, seconds: float, on_progress: Callable[[float], None]) -> list[float]:
    """Milliseconds of one run after the other for so many seconds."""
    times: list[float] = []
    started = time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds or not times:
        times.append(_timed(run, len(times) % distinct_inputs))
        on_progress(spent / seconds)
    return times


def _round(runs: Sequence[Run], done: int, limits: Limits) -> list[list[float]]:
    """A block of each side on the same inputs. Who goes first alternates.

    On a CPU a block is one run, so that whatever slows the machine slows both of a pair. The second of a pair finds the
    caches as the first left them. On a device blocks are longer: a hot CPU beside it would pull its clocks down.
    """
    times: list[list[float]] = [[] for _ in runs]
    order = range(len(runs)) if (done // limits.block) % 2 == 0 else reversed(range(len(runs)))
    for side in order:
        times[side] = [_timed(runs[side], (done + turn) % limits.distinct_inputs) for turn in range(limits.block)]
    return times


def _timed(run: Run, index: int) -> float:
    started = time.perf_counter_ns()
    run(index)
    return (time.perf_counter_ns() - started) / 1e6
