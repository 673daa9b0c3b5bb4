"""Where an optimized model leaves its fp32 export: the error of every tensor that both graphs know by one name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from stagelib.api import StageError, cpu_count
from stagelib.modelinfo import ModelInfo
from stagelib.onnxfiles import ENTRY, load

Arrays = dict[str, NDArray[Any]]
Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """One tensor: its error, and what its own layer adds to the error of what that is given."""

    tensor: str
    op: str
    error: float
    added: float


def made_tensors(folder: Path) -> dict[str, str]:
    """The tensors that a model's nodes make, with the operator. StageError for a format that can't be opened up."""
    info = ModelInfo.read(folder)
    if info.format == "openvino":
        return _openvino_tensors(folder / info.entry)
    if info.format != "onnx":
        raise StageError(f"a model in {info.format} format doesn't show its tensors")
    graph = onnx.load(str(folder / info.entry), load_external_data=False).graph
    return {name: node.op_type for node in graph.node for name in node.output if name}


def run_exposed(folder: Path, names: Sequence[str], feeds: Iterable[Feed], scratch: Path) -> list[Arrays]:
    """The named tensors for each feed, on the CPU. Float ones alone come back."""
    info = ModelInfo.read(folder)
    if info.format == "openvino":
        return _run_openvino(folder / info.entry, names, feeds)
    return _run_onnx(folder, names, feeds, scratch)


def errors(
    reference: onnx.GraphProto, expected: Sequence[Arrays], found: Sequence[Arrays], ops: Mapping[str, str]
) -> list[LayerError]:
    """Errors of the tensors in both, those first whose own layer adds most.

    An error is the root mean square of the difference over that of fp32, over all feeds together.
    """
    common = [name for name in expected[0] if name in found[0] and expected[0][name].shape == found[0][name].shape]
    relative = {name: _relative([run[name] for run in expected], [run[name] for run in found]) for name in common}
    parents = _parents(reference, set(common))
    listed = [
        LayerError(
            tensor=name,
            op=ops.get(name, ""),
            error=relative[name],
            added=relative[name] - max((relative[parent] for parent in parents.get(name, ())), default=0.0),
        )
        for name in common
    ]
    return sorted(listed, key=lambda one: -one.added if np.isfinite(one.added) else -np.inf)


def _relative(expected: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]) -> float:
    left = np.concatenate([array.astype(np.float64).ravel() for array in expected])
    right = np.concatenate([array.astype(np.float64).ravel() for array in found])
    size = float(np.sqrt(np.mean(left**2)))
    return float(np.sqrt(np.mean((right - left) ** 2))) / max(size, 1e-12)


def _parents(graph: onnx.GraphProto, common: set[str]) -> dict[str, set[str]]:
    """For each common tensor the nearest common ones that it is computed from."""
    nearest: dict[str, set[str]] = {}
    for node in graph.node:
        above = set().union(*({name} if name in common else nearest.get(name, set()) for name in node.input))
        for output in node.output:
            nearest[output] = above
    return {name: above for name, above in nearest.items() if name in common}


def _run_onnx(folder: Path, names: Sequence[str], feeds: Iterable[Feed], scratch: Path) -> list[Arrays]:
    import onnxruntime

    model = load(folder)
    own = {value.name for value in model.graph.output}
    # A type can be left out: the runtime knows it.
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in own)
    opened = scratch / "opened"
    opened.mkdir(exist_ok=True)
    onnx.save(model, str(opened / ENTRY), save_as_external_data=True, location="opened.data")
    options = onnxruntime.SessionOptions()
    # Fused, a tensor would be gone before it was seen.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = cpu_count()
    session = onnxruntime.InferenceSession(str(opened / ENTRY), options, providers=["CPUExecutionProvider"])
    inputs = [value.name for value in session.get_inputs()]
    return [
        _floats(dict(zip(names, session.run(list(names), {name: feed[name] for name in inputs}), strict=True)))
        for feed in feeds
    ]


def _openvino_tensors(path: Path) -> dict[str, str]:
    import openvino

    model = openvino.Core().read_model(path)
    return {
        name: operation.get_type_name()
        for operation in model.get_ordered_ops()
        for port in operation.outputs()
        for name in port.get_names()
    }


def _run_openvino(path: Path, names: Sequence[str], feeds: Iterable[Feed]) -> list[Arrays]:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    own = {name for output in model.outputs for name in output.get_names()}
    model.add_outputs([name for name in names if name not in own])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    inputs = [port.any_name for port in compiled.inputs]
    ports = {name: port for port in compiled.outputs for name in port.get_names()}
    found = []
    for feed in feeds:
        results = compiled({name: feed[name] for name in inputs})
        found.append(_floats({name: np.array(results[ports[name]]) for name in names if name in ports}))
    return found


def _floats(arrays: Arrays) -> Arrays:
    return {name: array for name, array in arrays.items() if array.dtype.kind == "f" and array.ndim > 1}
