"""`quantize_qdq` on graphs that no exporter of ours writes: nodes without names, activations that are no numbers,
shapes that nobody recorded past an operator of ONNX Runtime's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portwright.project import this_project
from stagelib.batches import CALIBRATION
from support.seeds import Seeds
from support.stage_call import Finished, Stages

pytestmark = pytest.mark.scenario
LENGTH, VOCABULARY = 8, 50
# A product that keeps the size, one that widens and one that shrinks, with the given operator before the last.
GRAPH = """
import sys
from pathlib import Path
import numpy as np
from onnx import TensorProto, helper, numpy_helper
from stagelib import onnxfiles
operator, folder, length, vocabulary = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
random = np.random.default_rng(0)
sizes = {"table": (vocabulary, 32), "same": (32, 32), "up": (32, 64), "square": (64, 64), "down": (64, 32)}
constants = [numpy_helper.from_array(random.normal(size=size).astype(np.float32), name) for name, size in sizes.items()]
def branch():
    made = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node("MatMul", ["wide", "square"], ["inner"])], "branch", [], [made])
nodes = [
    helper.make_node("ReduceMax", ["input_ids"], ["longest"], keepdims=0),
    helper.make_node("Cast", ["longest"], ["any"], to=TensorProto.BOOL),
    helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
    helper.make_node("MatMul", ["embedded", "same"], ["mixed"]),
    helper.make_node("MatMul", ["mixed", "up"], ["wide"]),
    helper.make_node(operator, ["wide"], ["bent"], domain="com.microsoft" if operator == "Gelu" else "")
    if operator != "If" else helper.make_node("If", ["any"], ["bent"], then_branch=branch(), else_branch=branch()),
    helper.make_node("MatMul", ["bent", "down"], ["hidden"]),
]
graph = helper.make_graph(
    nodes, "odd", [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, length])],
    [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [1, length, 32])], constants)
opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
onnxfiles.save(model, folder, "fp32")
"""


@pytest.fixture
def quantized(toolchain_python: Callable[[str], Path], tmp_path: Path) -> Callable[..., Finished]:
    """`quantize_qdq` of the graph with that operator in its middle."""
    stages = Stages(tmp_path / "ort", toolchain_python("ort"))
    ids = np.random.default_rng(1).integers(0, VOCABULARY, (6, LENGTH))
    np.savez(tmp_path / CALIBRATION, input_ids=ids, attention_mask=np.ones_like(ids))

    def quantize(operator: str, **params: Any) -> Finished:
        command = [str(stages.python), "-c", GRAPH, operator, str(tmp_path), str(LENGTH), str(VOCABULARY)]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": str(this_project().shared)}, check=True)
        return stages.run("quantize_qdq", params, {"model": tmp_path, "batches": tmp_path})

    return quantize


def test_of_products_without_names_those_that_shrink_stay_in_float(quantized: Callable[..., Finished]) -> None:
    facts = quantized("Relu").facts
    assert facts["left_in_float"] == facts["operators_in_float"]["MatMul"] == 1
    assert facts["operators_quantized"]["MatMul"] == 2


def test_products_after_an_operator_that_onnx_does_not_know_are_quantized(quantized: Callable[..., Finished]) -> None:
    facts = quantized("Gelu", down_projections=True).facts
    assert facts["operators_quantized"]["MatMul"] == 3
    assert "MatMul" not in facts["operators_in_float"]


def test_products_in_branches_count_as_what_they_are(quantized: Callable[..., Finished]) -> None:
    assert quantized("If", down_projections=True).facts["operators_in_float"]["MatMul"] == 2


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_what_is_no_number_is_refused_by_every_method(method: str, quantized: Callable[..., Finished]) -> None:
    # Half of what it takes the logarithm of is below zero; summed up, that leaves no number at all.
    kind, message, hint = quantized("Log", calibration_method=method, down_projections=True, samples=6).failure
    assert kind == "stage"
    assert any(word in message for word in ("NaN", "nan"))
    assert "surgery" in hint


def test_what_was_optimized_at_a_fixed_shape_can_be_optimized_and_quantized_again(
    toolchain_python: Callable[[str], Path], seeds: Seeds, minilm: Path, tmp_path: Path
) -> None:
    stages = Stages(tmp_path / "ort", toolchain_python("ort"))
    mask = np.ones((2, 32), np.int64)
    np.savez(tmp_path / CALIBRATION, input_ids=mask * 5, attention_mask=mask, token_type_ids=mask * 0)
    model = seeds.export(minilm, 20)
    fused = {"opt_level": 1, "skip_layer_norm": True}
    for stage, params in (
        ("fix_shape", {"batch_size": 1, "sequence_length": 32}),
        ("optimize", fused),
        ("optimize", fused),
        ("quantize_qdq", {"samples": 2}),
    ):
        done = stages.run(stage, params, {"model": model, "batches": tmp_path})
        assert done.report["ok"], done.report
        model = done.output
