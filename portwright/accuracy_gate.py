"""The accuracy gate: a drop is certified with confidence, or not at all. Pure arithmetic on paired answers."""

from __future__ import annotations

import math

from portwright.recipe import AccuracyGate
from portwright.results import Accuracy, GateRecord

Z = 1.959964
"""Two-sided 95 % of the normal distribution."""
MOST_PAIRS = 10**8
"""More than anybody has: a drop that close to the margin, or beyond it, can't be certified."""


def accuracy_record(
    gate: AccuracyGate, found: Accuracy | None, *, asked: int, without_pairs: bool = False
) -> GateRecord:
    """The gate against a probe's paired answers; `asked` is how many pairs the recipe wants judged.

    Passed: the drop's upper bound is within the margin. Failed: the drop is beyond it; or it was asked to certify with
    too few pairs, and then it says how many it takes. Where it was the data that had fewer than asked, and they prove
    nothing against the model, nothing here can tell: that is certified by nobody, and said.
    """
    margin = gate.max_drop
    if found is None:
        fault = "the data has no labelled pairs" if without_pairs else "the data has too few labelled pairs"
        reason = f"accuracy was not judged: {fault}, and a drop of at most {_points(margin)} is asked"
        return GateRecord(name="accuracy", passed=None, limit=margin, found=None, reason=reason)
    low, high = interval(found.only_fp32, found.only_optimized, found.samples)
    reason = (
        f"accuracy {found.fp32:.1%} in fp32 and {found.optimized:.1%} optimized over {found.samples} pairs: a drop of "
        f"{_points(found.drop)} ({_points(low)} to {_points(high)}), at most {_points(margin)} is asked"
    )
    passed: bool | None = high <= margin
    if not passed and found.drop <= margin:
        needed = samples_needed(found.only_fp32, found.only_optimized, found.samples, margin)
        reason += (
            f"; too few pairs to certify that: at least {needed} are needed, if the others answer like these"
            if needed
            else "; it can't be certified"
        )
    if not passed and low <= margin and found.samples < asked:
        passed, reason = (
            None,
            f"{reason}; not certified: the data has fewer pairs than the {asked} that the recipe asks",
        )
    return GateRecord(name="accuracy", passed=passed, limit=margin, found=found.drop, reason=reason)


def interval(only_fp32: float, only_optimized: float, samples: int) -> tuple[float, float]:
    """95 % interval of the difference of two paired proportions (Agresti and Min 2005).

    It adds half a sample to each cell, so that a few samples without any difference don't pass for certainty.
    """
    total = samples + 2
    drop = (only_fp32 - only_optimized) / total
    error = math.sqrt(max(only_fp32 + only_optimized + 1 - (only_fp32 - only_optimized) ** 2 / total, 0.0)) / total
    return drop - Z * error, drop + Z * error


def samples_needed(only_fp32: int, only_optimized: int, samples: int, margin: float) -> int | None:
    """Pairs after which the upper bound would be within the margin, if they went on as these did; None if never.

    The added half samples don't go on: among more pairs they weigh less.
    """
    lost, won = only_fp32 / samples, only_optimized / samples

    def enough(pairs: int) -> bool:
        return interval(lost * pairs, won * pairs, pairs)[1] <= margin

    short, long = samples, samples + 1
    while not enough(long):
        short, long = long, 2 * long
        if long > MOST_PAIRS:
            return None
    while long - short > 1:
        middle = (short + long) // 2
        short, long = (short, middle) if enough(middle) else (middle, long)
    return long


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"
