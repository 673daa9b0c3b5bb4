"""Timing models in turn: the warm-up, the runs that count, and a long run of one of them alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stagelib.measure import FEWEST_QUIET, settled, steady

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stagelib.runtimes.base import Session

Run = Callable[[int], object]
"""Runs a model on the input of that number."""
LONGEST = 8
"""Times `min_runs`: where a noisy machine leaves the ratio unsure for so long, more runs don't help."""
CHOSEN_FROM = 4 * FEWEST_QUIET
"""Pairs, at the least, among which the quiet ones are looked for, where `longest` allows as many."""
UNDISTURBED = 0.95
"""Share of the time that passed in which the models had their CPU. Below it others had it in between, and a ratio
may look steady as long as they go on: it is measured longer, for the moments in which they don't."""
FINE_CLOCK = 1e-5
"""Seconds. Windows counts a process's time in steps of 16 ms, which tells nothing of a run."""
WATCHED_S = 0.1
"""So long, a clock of such steps has moved some times."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long to measure. `block`: runs of one side before it is the other's turn.

    `one_cpu`: everything runs on one CPU, so that a run's CPU time is what it takes undisturbed, and decides. There the
    ratio gates, and is measured on until it is steady and nobody else is at work, or `longest` times `min_runs` are
    done.
    """

    distinct_inputs: int
    block: int
    warmup_max: int
    min_runs: int
    min_seconds: float
    max_seconds: float
    one_cpu: bool = False
    longest: int = LONGEST
    clock_step: float = 0.0
    """Seconds by which the clock of CPU time moves, as `cpu_clock_step` saw it."""
    seed: int = 0


@dataclass(kw_only=True)
class Timed:
    """Milliseconds of each side's runs, in the order of the inputs; the first side is the candidate."""

    sides: list[list[float]] = field(default_factory=list)
    cpu_sides: list[list[float]] = field(default_factory=list)
    """CPU time of the same runs; empty lists where it decides nothing."""
    seconds: float = 0.0


def runner(session: Session, feeds: Sequence[Mapping[str, NDArray[Any]]]) -> Run:
    """A session on inputs of its own, by their number."""
    return lambda index: session.run(feeds[index])


def warm_up(runs: Sequence[Run], limits: Limits) -> tuple[int, bool]:
    """Run until latency settles on every side; how many runs that took, and whether it did settle."""
    times: list[list[float]] = [[] for _ in runs]
    deadline = time.perf_counter() + limits.max_seconds / 2
    done = 0
    while done < limits.warmup_max and time.perf_counter() < deadline:
        for side, values in enumerate(_round(runs, done, limits)):
            times[side] += [cpu if by_cpu_time(limits) else wall for wall, cpu in values]
        done += limits.block
        if all(settled(side) for side in times):
            return done, True
    return done, False


def time_in_turn(runs: Sequence[Run], limits: Limits, on_progress: Callable[[float], None]) -> Timed:
    """Time all sides in turn until there are enough runs and seconds of them, or no more time."""
    timed = Timed(sides=[[] for _ in runs], cpu_sides=[[] for _ in runs])
    most = limits.longest * limits.min_runs if limits.one_cpu and len(runs) > 1 else 0
    next_look = max(limits.min_runs, min(most, CHOSEN_FROM))
    started = time.perf_counter()
    while True:
        done = len(timed.sides[0])
        for side, values in enumerate(_round(runs, done, limits)):
            timed.sides[side] += [wall for wall, _ in values]
            timed.cpu_sides[side] += [cpu for _, cpu in values] if by_cpu_time(limits) else []
        timed.seconds, done = time.perf_counter() - started, len(timed.sides[0])
        enough = min(done / limits.min_runs, _seconds(timed, limits) / max(limits.min_seconds, 1e-9))
        if timed.seconds >= limits.max_seconds or (enough >= 1 and done >= most):
            return timed
        if enough >= 1 and done >= next_look:
            judged = timed.cpu_sides if by_cpu_time(limits) else timed.sides
            if undisturbed(timed) and steady(judged[0], judged[1], limits.seed):
                return timed
            # Every look is a chance to stop by luck, and costs time: there are few.
            next_look = done + max(done // 4, 1)
        on_progress(max(min(enough, done / most) if most else enough, timed.seconds / limits.max_seconds))


def undisturbed(timed: Timed) -> bool:
    """Whether the models had the CPU nearly all the time; true where CPU time wasn't counted."""
    used = sum(sum(side) for side in timed.cpu_sides)
    return not used or used >= UNDISTURBED * sum(sum(side) for side in timed.sides)


def _seconds(timed: Timed, limits: Limits) -> float:
    """What counts towards `min_seconds`: on a device the candidate's own runs, which beside a slow baseline are a tenth
    of the time. Seen on a GPU: its latency stays at one of two levels for a second and longer."""
    return sum(timed.sides[0]) / 1000 if limits.block > 1 else timed.seconds


def by_cpu_time(limits: Limits) -> bool:
    """Whether CPU time decides: on one CPU, and where the clock is fine enough."""
    said = time.get_clock_info("process_time").resolution
    return limits.one_cpu and max(said, limits.clock_step) <= FINE_CLOCK


def cpu_clock_step() -> float:
    """Seconds by which the clock of CPU time moves in a busy loop; infinity if it stands still.

    What it says of itself isn't enough: a sandbox (gVisor) that counts in ticks of 10 ms says a nanosecond.
    """
    least = math.inf
    last = time.process_time_ns()
    deadline = time.perf_counter_ns() + WATCHED_S * 1e9
    while least > FINE_CLOCK and time.perf_counter_ns() < deadline:
        now = time.process_time_ns()
        if now != last:
            least = min(least, (now - last) / 1e9)
        last = now
    return least


def time_alone(run: Run, distinct_inputs: int, seconds: float, on_progress: Callable[[float], None]) -> list[float]:
    """Milliseconds of one run after the other for so many seconds."""
    times: list[float] = []
    started = time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds or not times:
        times.append(_timed(run, len(times) % distinct_inputs)[0])
        on_progress(spent / seconds)
    return times


def _round(runs: Sequence[Run], done: int, limits: Limits) -> list[list[tuple[float, float]]]:
    """A block of each side on the same inputs. Who goes first alternates.

    On a CPU a block is one run, so that whatever slows the machine slows both of a pair. The second of a pair finds the
    caches as the first left them. On a device blocks are longer: a hot CPU beside it would pull its clocks down.
    """
    times: list[list[tuple[float, float]]] = [[] for _ in runs]
    order = range(len(runs)) if (done // limits.block) % 2 == 0 else reversed(range(len(runs)))
    for side in order:
        times[side] = [_timed(runs[side], (done + turn) % limits.distinct_inputs) for turn in range(limits.block)]
    return times


def _timed(run: Run, index: int) -> tuple[float, float]:
    """Milliseconds that passed, and those of CPU time that the process used meanwhile."""
    started, used = time.perf_counter_ns(), time.process_time_ns()
    run(index)
    used = time.process_time_ns() - used
    return (time.perf_counter_ns() - started) / 1e6, used / 1e6
