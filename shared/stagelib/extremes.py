"""A graph that tells how small and how large its tensors get: two numbers a tensor leave it.

Graphs are read and written here without the weights that lie in a file beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import onnx
from onnx import helper

_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16})


def record_shapes(path: Path, mark: Callable[[onnx.ModelProto], None]) -> None:
    """Write what shape inference finds into the graph's file; `mark` may add to the model before."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False))
    mark(model)
    onnx.save(model, str(path))


def instrument(
    source: Path, kinds: Collection[str], spared: Collection[str], target: Path
) -> tuple[list[str], list[str]]:
    """Write the graph with two more outputs for each tensor that nodes of these kinds, but those spared, take or make.

    Returns the tensors' names and the new outputs', smallest and largest of each in turn. `target` lies beside
    `source`, where the weights are.
    """
    model = onnx.load(source, load_external_data=False)
    graph = model.graph
    names = _observed(graph, kinds, spared)
    outputs = []
    for index, name in enumerate(names):
        for kind in ("Min", "Max"):
            output = f"range/{index}/{kind}"
            graph.node.append(helper.make_node(f"Reduce{kind}", [name], [output], keepdims=0))
            graph.output.append(helper.make_empty_tensor_value_info(output))
            outputs.append(output)
    onnx.save(model, str(target))
    return names, outputs


def _observed(graph: onnx.GraphProto, kinds: Collection[str], spared: Collection[str]) -> list[str]:
    """The float tensors, weights apart, that operators of these kinds take or make."""
    weights = {tensor.name for tensor in graph.initializer}
    values = (*graph.value_info, *graph.input, *graph.output)
    floats = {value.name for value in values if value.type.tensor_type.elem_type in _FLOATS}
    nodes = [node for node in graph.node if node.op_type in kinds and node.name not in spared]
    touched = {name for node in nodes for name in (*node.input, *node.output)}
    return sorted(touched & floats - weights)
