"""Gates: a value that is not a number, or not there, never passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portwright.gates import Findings, computes_worse, failed, judge
from portwright.recipe import Gates, PlacementGate, RatioGate, SimilarityGate
from portwright.results import GateRecord, Placed, Placement, Similarity

GATES = Gates(
    similarity=SimilarityGate(mean=0.99, min=0.9),
    placement=PlacementGate(on=("CPU",), min_share=0.9),
    latency_ratio=RatioGate(max=0.5),
)


def names_failed(
    mean: float | None = 0.995, least: float | None = 0.95, cpu: int = 95, other: int = 5, ratio: float | None = 0.3
) -> list[str]:
    similarity = Similarity(mean=mean, min=least, samples=64)
    placement = Placement(
        runtime="x", nodes=(Placed(where="CPU", nodes=cpu, ops={}), Placed(where="OTHER", nodes=other, ops={}))
    )
    return [
        record.name
        for record in failed(judge(GATES, Findings(similarity=similarity, placement=placement, latency_ratio=ratio)))
    ]


def test_all_is_met() -> None:
    assert names_failed() == []


@pytest.mark.parametrize("value", [0.989999, None, -1.0])
def test_mean_similarity(value: float | None) -> None:
    assert names_failed(mean=value) == ["similarity.mean"]


@pytest.mark.parametrize("value", [0.89, None])
def test_least_similarity(value: float | None) -> None:
    assert names_failed(least=value) == ["similarity.min"]


def test_placement() -> None:
    assert names_failed(cpu=89, other=11) == ["placement"]
    assert names_failed(cpu=0, other=0) == ["placement"]


@pytest.mark.parametrize("value", [0.51, None])
def test_latency(value: float | None) -> None:
    assert names_failed(ratio=value) == ["latency_ratio"]


@given(st.floats(min_value=-1, max_value=1), st.floats(min_value=-1, max_value=1))
def test_a_gate_passes_exactly_from_its_limit_on(limit: float, found: float) -> None:
    gates = Gates(similarity=SimilarityGate(mean=limit), placement=PlacementGate(on=("CPU",)))
    similarity = Similarity(mean=found, min=found, samples=1)
    placement = Placement(runtime="x", nodes=(Placed(where="CPU", nodes=1, ops={}),))
    record = judge(gates, Findings(similarity=similarity, placement=placement))[0]
    assert record.passed == (found >= limit)
    assert f"{found:.6f}" in record.reason


def test_an_unstable_latency_keeps_to_its_gate_with_all_of_its_interval() -> None:
    similarity = Similarity(mean=0.995, min=0.95, samples=64)
    placement = Placement(runtime="x", nodes=(Placed(where="CPU", nodes=1, ops={}),))
    found = Findings(similarity=similarity, placement=placement, latency_ratio=0.45, latency_up_to=0.55)
    [record] = failed(judge(GATES, found))
    assert (record.name, record.found) == ("latency_ratio", 0.45)
    assert "0.450 (unstable: up to 0.550)" in record.reason


def test_too_few_pairs_are_no_reason_to_look_for_layers() -> None:
    def accuracy(found: float, limit: float) -> GateRecord:
        return GateRecord(name="accuracy", passed=False, limit=limit, found=found, reason="-")

    assert not computes_worse((accuracy(0.0, 0.005),))
    assert computes_worse((accuracy(0.05, 0.005),))
    assert computes_worse((GateRecord(name="similarity.mean", passed=False, limit=0.99, found=None, reason="NaN"),))
    assert not computes_worse((GateRecord(name="size", passed=False, limit=1.0, found=2.0, reason="-"),))
