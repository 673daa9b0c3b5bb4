"""The accuracy gate: a drop within the margin is certified with confidence, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwright.accuracy_gate import accuracy_record, interval, samples_needed
from portwright.recipe import AccuracyGate
from portwright.results import Accuracy


def found(lost: int, won: int, samples: int) -> Accuracy:
    """A probe of which fp32 gets 60 % right."""
    right = round(0.6 * samples)
    drop = (lost - won) / samples
    return Accuracy(
        task="x",
        fp32=right / samples,
        optimized=right / samples - drop,
        drop=drop,
        drop_interval=(drop, drop),
        mcnemar_p=1.0,
        only_fp32=lost,
        only_optimized=won,
        train_samples=100,
        samples=samples,
        chance=1 / 3,
    )


def test_eight_samples_without_a_difference_are_no_proof_of_half_a_point() -> None:
    record = accuracy_record(AccuracyGate(max_drop=0.005), found(0, 0, 8), asked=8)
    assert record.passed is False
    assert "too few pairs to certify that: at least 390" in record.reason


def test_enough_samples_without_a_difference_are() -> None:
    assert accuracy_record(AccuracyGate(max_drop=0.005), found(0, 0, 600), asked=600).passed is True


def test_a_drop_beyond_the_margin_fails_for_itself() -> None:
    record = accuracy_record(AccuracyGate(max_drop=0.02), found(60, 10, 1000), asked=1000)
    assert record.passed is False
    assert "too few" not in record.reason
    assert "a drop of 5.0 points" in record.reason


def test_data_that_has_fewer_pairs_than_asked_certifies_nothing_and_proves_nothing() -> None:
    gate = AccuracyGate(max_drop=0.05)
    assert accuracy_record(gate, None, asked=300, without_pairs=True).passed is None
    assert accuracy_record(gate, None, asked=300).passed is None
    short = accuracy_record(gate, found(2, 1, 30), asked=300)
    assert short.passed is None
    assert "not certified: the data has fewer pairs than the 300" in short.reason
    assert accuracy_record(gate, found(15, 0, 30), asked=300).passed is False


def test_the_interval_is_agresti_and_mins() -> None:
    # By hand: (7 - 4) / 302, and sqrt(12 - 9 / 302) / 302 for its error.
    low, high = interval(7, 4, 300)
    assert low == pytest.approx(3 / 302 - 1.959964 * (12 - 9 / 302) ** 0.5 / 302)
    assert high == pytest.approx(3 / 302 + 1.959964 * (12 - 9 / 302) ** 0.5 / 302)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(70, 400), st.floats(0.01, 0.5))
def test_what_is_said_to_be_needed_would_do(lost: int, won: int, samples: int, margin: float) -> None:
    needed = samples_needed(lost, won, samples, margin)
    if needed is None:
        assert (lost - won) / samples >= margin - 1e-3
        return

    def upper(pairs: int) -> float:
        return interval(lost / samples * pairs, won / samples * pairs, pairs)[1]

    assert upper(needed) <= margin
    assert needed == samples + 1 or upper(needed - 1) > margin


def test_pairs_that_never_differ_need_no_more_than_the_margin_asks() -> None:
    assert samples_needed(0, 0, 8, 0.005) == 390
