"""The arithmetic of a measurement: ordered statistics, paired ratios, steadiness, a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

WARM_WINDOW = 8
WARM_TOLERANCE = 0.05
RESAMPLES = 2000
CONFIDENCE = 0.95
WIDEST_INTERVAL = 0.10

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
    """Median of the ratios of pairs that ran one after the other: what slows a noisy machine slows both of a pair."""
    return round(float(np.median(_ratios(candidate, baseline))), 6)


def ratio_interval(candidate: Sequence[float], baseline: Sequence[float], seed: int) -> tuple[float, float]:
    """Bootstrap interval (95 %) of the median of the paired ratios."""
    return median_interval(_ratios(candidate, baseline), seed)


def median_interval(values: Sequence[float] | Floats, seed: int) -> tuple[float, float]:
    """Bootstrap interval (95 %) of a median, in the unit of `values`."""
    array = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(seed)
    medians = [np.median(generator.choice(array, size=len(array))) for _ in range(RESAMPLES)]
    low, high = np.percentile(medians, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
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


def _ratios(candidate: Sequence[float], baseline: Sequence[float]) -> Floats:
    return np.asarray(candidate, dtype=np.float64) / np.asarray(baseline, dtype=np.float64)
