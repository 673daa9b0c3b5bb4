"""A graph that tells how small and how large its tensors get: two numbers a tensor leave it.

Graphs are read and written here without the weights that lie in a file beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import onnx
from onnx import helper

from stagelib import graphwalk, shapes

_MOVING = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16})


def record_shapes(path: Path, mark: Callable[[onnx.ModelProto], None]) -> None:
    """Write what shape inference finds into the graph's file; `mark` may add to the model before."""
    model = onnx.load(path, load_external_data=False)
    # What isn't known to be a float would stay in float.
    shapes.record_what_is_known(model)
    mark(model)
    onnx.save(model, str(path))


def instrument(
    source: Path, kinds: Collection[str], spared: Collection[str], target: Path
) -> dict[str, tuple[str, str]]:
    """Write the graph with outputs for the extremes of each tensor that nodes of these kinds, but those spared, take or
    make.

    Returns by tensor the names of the outputs with its smallest and its largest number. `target` lies beside `source`,
    where the weights are.
    """
    model = onnx.load(source, load_external_data=False)
    graph = model.graph
    origins = {name: _origin(name, _moves(graph)) for name in _observed(graph, kinds, spared)}
    made: dict[str, tuple[str, str]] = {}
    # Of nodes that nothing follows ONNX Runtime runs the last one first, with all that leads to it: so the earliest
    # tensor's stand last, and no tensor waits in memory for the end of the graph.
    order = {name: index for index, node in enumerate(graph.node) for name in node.output}
    for index, name in enumerate(sorted(set(origins.values()), key=lambda name: (-order.get(name, -1), name))):
        made[name] = (f"range/{index}/Min", f"range/{index}/Max")
        for kind, output in zip(("Min", "Max"), made[name], strict=True):
            graph.node.append(helper.make_node(f"Reduce{kind}", [name], [output], keepdims=0))
            graph.output.append(helper.make_empty_tensor_value_info(output))
    _cut(graph, {output for pair in made.values() for output in pair})
    onnx.save(model, str(target))
    return {name: made[origin] for name, origin in origins.items()}


def _cut(graph: onnx.GraphProto, outputs: Collection[str]) -> None:
    """Leave of a graph what leads to these outputs: a session runs every node, asked for or not."""
    needed = set(outputs)
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.isdisjoint(node.output):
            continue
        kept.append(node)
        for one in graphwalk.nodes(onnx.GraphProto(node=[node])):
            needed.update(one.input)
            # What a branch gives may come from outside of it.
            needed.update(value.name for subgraph in graphwalk.subgraphs(one) for value in subgraph.output)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    for values in (graph.output, graph.initializer):
        for index in reversed([index for index, value in enumerate(values) if value.name not in needed]):
            del values[index]


def observed(source: Path, kinds: Collection[str], spared: Collection[str]) -> list[str]:
    """The float tensors, weights apart, that nodes of these kinds, but those spared, take or make, by name."""
    return _observed(onnx.load(source, load_external_data=False).graph, kinds, spared)


def _observed(graph: onnx.GraphProto, kinds: Collection[str], spared: Collection[str]) -> list[str]:
    weights = {tensor.name for tensor in graph.initializer}
    values = (*graph.value_info, *graph.input, *graph.output)
    floats = {value.name for value in values if value.type.tensor_type.elem_type in _FLOATS}
    nodes = [node for node in graph.node if node.op_type in kinds and node.name not in spared]
    touched = {name for node in nodes for name in (*node.input, *node.output)}
    return sorted(touched & floats - weights)


def _moves(graph: onnx.GraphProto) -> dict[str, str]:
    """Tensors that have the numbers of another one, in another shape or order, by which."""
    return {node.output[0]: node.input[0] for node in graph.node if node.op_type in _MOVING}


def _origin(name: str, moves: Mapping[str, str]) -> str:
    while name in moves:
        name = moves[name]
    return name
