"""How large every tensor of an fp32 graph gets on real texts: what 16-bit floats can hold is 65504.

A CPU computes fp16 graphs in fp32 between its casts, so that there an overflow shows in no result.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from stagelib import onnxfiles
from stagelib.api import StageError
from stagelib.ortrun import options_of_few_runs, ort_failures, session_of

FILE = "ranges.json"
LARGEST = float(np.finfo(np.float16).max)
# The smallest fp32 number, which masks padding, and infinity: no measurement, a constant that was never meant as one.
NO_NUMBER = float(np.finfo(np.float32).max)

Feed = Mapping[str, NDArray[Any]]
Outputs = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Range:
    """The largest magnitude that was seen of a tensor."""

    tensor: str
    operator: str
    largest: float


def refuse_mask_constants(model: onnx.ModelProto, weights: Iterable[Range]) -> None:
    """StageError where a constant is the smallest float or infinite: in fp16 it drowns the scores or becomes NaN."""
    hint = "put surgery before float16: it replaces the attention-mask constant"
    for weight in weights:
        if weight.largest >= NO_NUMBER:
            raise StageError(f"the constant {weight.tensor} is {-NO_NUMBER:.4g} or infinite", hint=hint)
    for node in model.graph.node:
        for attribute in node.attribute:
            floats = attribute.HasField("t") and attribute.t.data_type == onnx.TensorProto.FLOAT
            held = largest(numpy_helper.to_array(attribute.t)) if floats else 0.0
            if max(abs(attribute.f), held) >= NO_NUMBER:
                raise StageError(f"{attribute.name} of {node.name} is {-NO_NUMBER:.4g} or infinite", hint=hint)


def largest(array: NDArray[Any]) -> float:
    """The largest magnitude among numbers."""
    return float(max(abs(array.max()), abs(array.min()))) if array.size else 0.0


def weights(model: onnx.ModelProto, folder: Path) -> list[Range]:
    """Every fp32 weight; `folder` has those that are in files of their own."""
    floats = (tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT)
    return [
        Range(tensor=tensor.name, operator="weight", largest=largest(onnxfiles.array(tensor, folder)))
        for tensor in floats
    ]


def measure(
    model: onnx.ModelProto, folder: Path, types: Mapping[str, int], feeds: Iterable[Feed]
) -> tuple[list[Range], list[Outputs]]:
    """Every fp32 tensor that a node makes, and the model's own outputs for each feed; `folder` has the big weights.

    The largest magnitude is computed inside the graph: one number leaves it for each tensor, and memory stays that of
    a plain run. StageError where ONNX Runtime's CPU provider can't run the graph.
    """
    made = {name: node.op_type for node in model.graph.node for name in node.output if name}
    names = [name for name in made if types[name] == onnx.TensorProto.FLOAT]
    own = [value.name for value in model.graph.output]
    session = _session(_instrumented(model, names), folder)
    peaks = np.zeros(len(names))
    outputs: list[Outputs] = []
    asked = [f"range/{index}" for index in range(len(names))]
    for feed in feeds:
        results = session.run([*own, *asked], dict(feed))
        outputs.append(dict(zip(own, results, strict=False)))
        seen = np.array([float(value) for value in results[len(own) :]])
        peaks = np.maximum(peaks, np.where(np.isnan(seen), np.inf, seen))
    ranges = [
        Range(tensor=name, operator=made[name], largest=float(peak)) for name, peak in zip(names, peaks, strict=True)
    ]
    return ranges, outputs


def _instrumented(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The model with one more output, a number, for each of the tensors."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    graph = watched.graph
    for index, name in enumerate(names):
        graph.node.append(helper.make_node("Abs", [name], [f"magnitude/{index}"]))
        graph.node.append(helper.make_node("ReduceMax", [f"magnitude/{index}"], [f"range/{index}"], keepdims=0))
        graph.output.append(helper.make_tensor_value_info(f"range/{index}", onnx.TensorProto.FLOAT, []))
    return watched


def _session(model: onnx.ModelProto, folder: Path) -> Any:
    import onnxruntime

    options = options_of_few_runs()
    # Fused, a tensor would be gone before it was seen.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return session_of(model, [folder], options)
    except ort_failures() as error:
        raise StageError(
            f"ONNX Runtime's CPU provider can't run the fp32 graph, so its ranges can't be measured: {error}",
            hint="put float16 before the stage that makes operators for a GPU",
        ) from error


def write(folder: Path, tensors: Sequence[Range], constants: Sequence[Range], texts: int) -> None:
    """`ranges.json`: every tensor and every weight, the largest first; a magnitude that is not finite is null."""

    def listed(ranges: Sequence[Range]) -> list[dict[str, Any]]:
        ordered = sorted(ranges, key=lambda one: (-one.largest, one.tensor))
        return [{"tensor": one.tensor, "operator": one.operator, "largest": number(one.largest)} for one in ordered]

    document = {"fp16_largest": LARGEST, "texts": texts, "tensors": listed(tensors), "weights": listed(constants)}
    (folder / FILE).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def number(value: float) -> float | None:
    """Six digits of it: the rest is the order of summation."""
    return float(f"{value:.6g}") if np.isfinite(value) else None
