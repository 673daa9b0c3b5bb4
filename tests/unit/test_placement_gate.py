"""The placement gate: nothing falls to a CPU in silence, and what stands in for a device is never taken for it."""

from __future__ import annotations

import pytest

from portwright.gates import Findings, failed, judge
from portwright.placement_gate import executed_record, placed_record
from portwright.recipe import Gates, PlacementGate, SimilarityGate
from portwright.results import Emulation, Placed, Placement, Similarity

NPU, CPU = "QNNExecutionProvider", "CPUExecutionProvider"
STRICT = PlacementGate(on=(NPU,), stand_in=(CPU,))
PARTITIONED = PlacementGate(on=(NPU,), min_share=0.9, stand_in=(CPU,), may_stay_on_cpu=("Gather", "Cast"))
GOOD = Similarity(mean=1.0, min=1.0, samples=8)


def on(where: str, nodes: int, compute: float | None = None, **ops: int) -> Placed:
    return Placed(where=where, nodes=nodes, ops=ops, compute=compute)


def test_all_of_it_is_there() -> None:
    record = placed_record("placement", STRICT, [on(NPU, 1)], "placed by compile_qnn")
    assert record.passed is True
    assert record.found == 1.0


def test_a_silent_fallback_names_what_fell_and_where_to() -> None:
    record = placed_record("placement", STRICT, [on(NPU, 10), on(CPU, 3, Erf=2, Pow=1)], "placed by compile_qnn")
    assert record.passed is False
    assert record.reason.startswith("silent CPU fallback: 3 nodes on CPUExecutionProvider (2 Erf, 1 Pow)")


def test_nothing_placed_is_no_placement() -> None:
    assert placed_record("placement", STRICT, [], "executed").passed is False


@pytest.mark.parametrize(
    ("parts", "passed"),
    [
        ([on(NPU, 90, 0.999), on(CPU, 40, 0.001, Gather=40)], True),
        ([on(NPU, 90, 0.85), on(CPU, 1, 0.15, Gather=1)], False),
        ([on(NPU, 90, 0.999), on(CPU, 1, 0.001, Softmax=1)], False),
        ([on(NPU, 90), on(CPU, 40, Gather=30, Cast=10)], True),
        ([on(NPU, 50), on(CPU, 40)], False),
    ],
)
def test_a_provider_that_partitions_by_design(parts: list[Placed], passed: bool) -> None:  # noqa: FBT001
    assert placed_record("placement", PARTITIONED, parts, "executed").passed is passed


def test_a_stand_in_is_neither_passed_nor_failed() -> None:
    record = executed_record(STRICT, Placement(runtime="onnxruntime", nodes=(on(CPU, 200),)), "cpu")
    assert record.passed is None
    assert "stood in for QNNExecutionProvider" in record.reason


def test_a_recipe_that_names_no_stand_in_takes_none() -> None:
    gate = PlacementGate(on=(NPU,))
    record = executed_record(gate, Placement(runtime="onnxruntime", nodes=(on(CPU, 200),)), "cpu")
    assert record.passed is False
    assert record.reason.startswith("silent CPU fallback: 200 nodes on CPUExecutionProvider")


@pytest.mark.parametrize("where", ["device", "emulator"])
def test_on_a_device_nothing_stands_in(where: str) -> None:
    record = executed_record(STRICT, Placement(runtime="qnn", nodes=(on(CPU, 200),)), where)  # type: ignore[arg-type]
    assert record.passed is False


def test_a_stand_in_that_ran_elsewhere_fails() -> None:
    placement = Placement(runtime="openvino", nodes=(on("GPU", 5), on(CPU, 1)))
    assert executed_record(STRICT, placement, "cpu").passed is False


def test_a_compilers_fallback_fails_the_run_whatever_was_executed() -> None:
    gates = Gates(similarity=SimilarityGate(mean=0.9), placement=STRICT)
    placement = Placement(
        runtime="onnxruntime", nodes=(on(CPU, 9),), compiled=(on(NPU, 2), on(CPU, 1, Erf=1)), compiled_by="compile_qnn"
    )
    assert [record.name for record in failed(judge(gates, Findings(similarity=GOOD, placement=placement)))] == [
        "placement.compiled"
    ]


def test_the_emulator_is_held_against_what_was_compiled() -> None:
    gates = Gates(similarity=SimilarityGate(mean=0.9), emulation=SimilarityGate(mean=0.99, min=0.98), placement=STRICT)
    emulation = Emulation(
        runtime="qnn", similarity=Similarity(mean=0.985, min=0.981, samples=4), placement=(on(NPU, 1),)
    )
    placement = Placement(runtime="onnxruntime", nodes=(on(CPU, 9),), compiled=(on(NPU, 1),))
    records = judge(gates, Findings(similarity=GOOD, placement=placement, emulation=emulation))
    assert [record.name for record in failed(records)] == ["emulation.mean"]
    assert {record.name for record in records} >= {"placement.emulated", "emulation.min"}


def test_a_part_that_does_not_tell_its_operators_is_no_way_past_the_list() -> None:
    parts = [on(NPU, 95), on(f"{NPU} on the CPU", 5)]
    record = placed_record("placement", PARTITIONED, parts, "executed")
    assert record.passed is False
    assert "5 unknown operator may not stay on the CPU" in record.reason
