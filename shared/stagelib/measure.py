"""The arithmetic of a measurement: ordered statistics, paired ratios, steadiness, a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

WARM_WINDOW = 8
WARM_TOLERANCE = 0.05
RESAMPLES = 2000
CONFIDENCE = 0.95
_TAILS = (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE))
WIDEST_INTERVAL = 0.06
"""Of a valid measurement, of the ratio: what two measurements of the same model may differ by to either side."""
STEADY_INTERVAL = 0.03
"""Narrow enough to stop at."""
QUIET_SHARE = 0.15
"""Of the pairs of runs, those that decide. With fewer, others may be at work for longer, and more pairs are needed."""
FEWEST_QUIET = 15
"""Pairs that decide, where there are so many."""

Verdict = Literal["valid", "unstable", "invalid"]
Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


def summarize(values: Sequence[float]) -> dict[str, float]:
    """min ≤ p50 ≤ p90 ≤ p99 ≤ max, mean and standard deviation, in the unit of `values` (at least one)."""
    array = np.asarray(values, dtype=np.float64)
    p50, p90, p99 = np.percentile(array, [50, 90, 99])
    statistics = {
        "min": array.min(),
        "mean": array.mean(),
        "p50": p50,
        "p90": p90,
        "p99": p99,
        "max": array.max(),
        "std": array.std(),
    }
    return {name: round(float(value), 6) for name, value in statistics.items()}


def median_ratio(candidate: Sequence[float], baseline: Sequence[float]) -> float:
    """Median of the ratios of the quietest pairs, whose runs followed each other.

    What slows a noisy machine slows both of a pair, but not alike: another process that empties the caches costs a
    model more that lives in them. So the pairs that took least, both times multiplied, speak for the models.
    """
    return round(_quiet_ratio(_log(candidate), _log(baseline)), 6)


def ratio_interval(candidate: Sequence[float], baseline: Sequence[float], seed: int) -> tuple[float, float]:
    """Bootstrap interval (95 %) of that ratio: pairs are drawn anew, and the quietest of them are chosen anew."""
    left, right = _log(candidate), _log(baseline)
    draws = np.random.default_rng(seed).integers(len(left), size=(RESAMPLES, len(left)))
    low, high = np.percentile([_quiet_ratio(left[draw], right[draw]) for draw in draws], _TAILS)
    return round(float(low), 6), round(float(high), 6)


def steady(candidate: Sequence[float], baseline: Sequence[float], seed: int) -> bool:
    """Whether the ratio is known well enough to stop measuring."""
    low, high = ratio_interval(candidate, baseline, seed)
    return high - low <= STEADY_INTERVAL * median_ratio(candidate, baseline)


def median_interval(values: Sequence[float] | Floats, seed: int) -> tuple[float, float]:
    """Bootstrap interval (95 %) of a median, in the unit of `values`."""
    array = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(seed)
    medians = [np.median(generator.choice(array, size=len(array))) for _ in range(RESAMPLES)]
    low, high = np.percentile(medians, _TAILS)
    return round(float(low), 6), round(float(high), 6)


def settled(times: Sequence[float]) -> bool:
    """Whether the last window of runs takes as long as the one before it: caches, clocks and buffers have warmed up."""
    if len(times) < 2 * WARM_WINDOW:
        return False
    before, last = np.median(times[-2 * WARM_WINDOW : -WARM_WINDOW]), np.median(times[-WARM_WINDOW:])
    return bool(abs(last - before) <= WARM_TOLERANCE * before)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a verdict rests on. Without a baseline, ratio and interval are those of the median latency itself."""

    runs: int
    min_runs: int
    seconds: float
    settled: bool
    finite: bool
    ratio: float
    interval: tuple[float, float]
    what: str = "ratio"


def judge(evidence: Evidence) -> tuple[Verdict, str]:
    """`invalid`: the figures mean nothing; `unstable`: true, but another run may differ; each with its reason."""
    if not evidence.finite:
        return "invalid", "the model's outputs hold NaN or infinity"
    if evidence.runs < evidence.min_runs:
        return (
            "invalid",
            f"only {evidence.runs} of {evidence.min_runs} runs in {evidence.seconds:.0f} s (see max_seconds)",
        )
    low, high = evidence.interval
    if high - low > WIDEST_INTERVAL * evidence.ratio:
        return (
            "unstable",
            f"the {evidence.what}'s interval {low:.3f} to {high:.3f} is wider than {WIDEST_INTERVAL:.0%} of it",
        )
    if not evidence.settled:
        return "unstable", "latency had not settled when the warm-up ended (see warmup_max)"
    return "valid", ""


def _log(times: Sequence[float]) -> Floats:
    return np.log(np.asarray(times, dtype=np.float64))


def _quiet_ratio(candidate: Floats, baseline: Floats) -> float:
    """From logarithms of paired times."""
    kept = min(len(candidate), max(FEWEST_QUIET, math.ceil(QUIET_SHARE * len(candidate))))
    quiet = np.argpartition(candidate + baseline, kept - 1)[:kept]
    return float(np.exp(np.median(candidate[quiet] - baseline[quiet])))
