"""The arithmetic of measurements."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagelib.measure import (
    FEWEST_QUIET,
    QUIET_SHARE,
    WARM_WINDOW,
    Evidence,
    judge,
    median_ratio,
    ratio_interval,
    settled,
    steady,
    summarize,
)

TIMES = st.lists(st.floats(min_value=1e-3, max_value=1e4), min_size=1, max_size=60)
GOOD = Evidence(runs=30, min_runs=30, seconds=2.0, settled=True, finite=True, ratio=0.3, interval=(0.295, 0.305))


@given(TIMES)
def test_statistics_are_ordered(times: list[float]) -> None:
    found = summarize(times)
    assert found["min"] <= found["p50"] <= found["p90"] <= found["p99"] <= found["max"]
    assert found["min"] - 1e-6 <= found["mean"] <= found["max"] + 1e-6


def test_the_ratio_is_of_pairs_so_that_a_slow_moment_slows_both() -> None:
    baseline = [10.0, 10.0, 90.0, 10.0, 80.0]
    assert median_ratio([value * 0.3 for value in baseline], baseline) == pytest.approx(0.3)


def test_disturbed_pairs_have_no_say_where_they_cost_one_model_more() -> None:
    quiet, disturbed = ([3.0, 10.0],) * 12, ([9.0, 14.0],) * 60
    assert math.ceil(QUIET_SHARE * 72) < FEWEST_QUIET < 2 * len(quiet)
    candidate, baseline = zip(*disturbed, *quiet, strict=True)
    assert median_ratio(candidate, baseline) == pytest.approx(0.3)


def test_a_steady_ratio_is_known_closely() -> None:
    baseline = [10.0, 11.0] * 20
    assert steady([value * 0.3 for value in baseline], baseline, seed=0)
    assert not steady([2.0, 3.0, 4.0, 3.5] * 10, [10.0] * 40, seed=0)


def test_the_interval_holds_the_ratio_and_is_the_same_for_the_same_seed() -> None:
    generator = np.random.default_rng(1)
    baseline = generator.uniform(9, 11, 50).tolist()
    candidate = generator.uniform(2, 4, 50).tolist()
    low, high = ratio_interval(candidate, baseline, seed=7)
    assert low <= median_ratio(candidate, baseline) <= high
    assert (low, high) == ratio_interval(candidate, baseline, seed=7)


def test_latency_settles_once_two_windows_agree() -> None:
    assert not settled([10.0] * (2 * WARM_WINDOW - 1))
    assert settled([10.0] * (2 * WARM_WINDOW))
    assert not settled([20.0] * WARM_WINDOW + [10.0] * WARM_WINDOW)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "valid"),
        ({"finite": False}, "invalid"),
        ({"runs": 12}, "invalid"),
        ({"interval": (0.2, 0.4)}, "unstable"),
        ({"settled": False}, "unstable"),
    ],
)
def test_the_verdict_and_its_reason(change: dict[str, object], verdict: str) -> None:
    found, reason = judge(dataclasses.replace(GOOD, **change))  # type: ignore[arg-type]  # one field of any type
    assert found == verdict
    assert bool(reason) == (verdict != "valid")
