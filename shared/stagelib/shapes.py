"""Shapes inside an ONNX graph, and the arithmetic on them that a fixed input shape makes constant.

An exporter writes Shape → Gather → Concat → Reshape so that one graph serves every size. With the size fixed these are
constants, and only when they are folded does shape inference see past them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from stagelib import graphwalk

Shapes = dict[str, tuple[int, ...]]
Constant = NDArray[np.generic]
# Shape arithmetic and position ids are below this many numbers, weights above.
SMALL = 16_384
RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout"}
)

SHAPED_AS_INPUT = frozenset(
    {"Gelu", "FastGelu", "BiasGelu", "QuickGelu", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"}
)
"""ONNX Runtime's operators whose first output is as big as their first input."""


def infer_shapes(model: onnx.ModelProto) -> Shapes:
    """Every tensor's shape that is fixed. onnx.shape_inference.InferenceError where the graph contradicts itself."""
    inferred = onnx.shape_inference.infer_shapes(
        without_weights(model), check_type=True, strict_mode=True, data_prop=True
    )
    graph = inferred.graph
    known = {value.name: _fixed(value) for value in (*graph.value_info, *graph.input, *graph.output)}
    return {name: shape for name, shape in known.items() if shape is not None}


def record_shapes(model: onnx.ModelProto) -> int:
    """Write what inference finds into the model's value_info; returns the number of tensors described."""
    inferred = onnx.shape_inference.infer_shapes(
        without_weights(model), check_type=True, strict_mode=True, data_prop=True
    )
    del model.graph.value_info[:]
    model.graph.value_info.extend(inferred.graph.value_info)
    return len(model.graph.value_info)


def fold_shape_arithmetic(model: onnx.ModelProto) -> int:
    """Replace nodes whose results the fixed shapes determine by initializers; returns how many nodes are gone."""
    before = len(model.graph.node)
    while _fold_once(model):
        pass
    graphwalk.drop_unused(model.graph)
    return before - len(model.graph.node)


def _fold_once(model: onnx.ModelProto) -> bool:
    graph = model.graph
    shapes = infer_shapes(model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if _size(tensor) <= SMALL}
    outputs = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        values = None if outputs.intersection(node.output) else _evaluate(model, node, constants, shapes)
        if values is None:
            kept.append(node)
            continue
        constants |= values
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    folded = len(kept) < len(graph.node)
    del graph.node[:]
    graph.node.extend(kept)
    return folded


def _evaluate(
    model: onnx.ModelProto, node: onnx.NodeProto, constants: Mapping[str, Constant], shapes: Shapes
) -> dict[str, Constant] | None:
    """The node's results, if they are constant and small; None otherwise."""
    if node.op_type in RANDOM or next(graphwalk.subgraphs(node), None) is not None:
        return None
    given: dict[str, Constant]
    if node.op_type == "Shape" and node.input[0] in shapes:
        given = {node.input[0]: np.broadcast_to(np.zeros((), np.float32), shapes[node.input[0]])}
    elif all(name in constants for name in node.input if name):
        given = {name: constants[name] for name in node.input if name}
    else:
        return None
    evaluator = ReferenceEvaluator(node, opsets={entry.domain: entry.version for entry in model.opset_import})
    results = dict(zip(node.output, (np.asarray(value) for value in evaluator.run(None, given)), strict=True))
    return results if all(value.size <= SMALL for value in results.values()) else None


def check(model: onnx.ModelProto) -> None:
    """The ONNX checker on all but the big weights, wherever they lie. onnx.checker.ValidationError."""
    onnx.checker.check_model(without_weights(model))


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its big initializers as inputs: shapes don't depend on them, and gigabytes aren't copied."""
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph = model.graph
    light.graph.name = graph.name
    light.graph.node.extend(_known(node) for node in graph.node)
    light.graph.input.extend(graph.input)
    light.graph.output.extend(graph.output)
    for tensor in graph.initializer:
        if _size(tensor) <= SMALL:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    return light


def record_what_is_known(model: onnx.ModelProto) -> None:
    """Add to the model's value_info what inference finds, past ONNX Runtime's own operators, of free shapes, too; the
    weights may lie elsewhere."""
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    del seen.graph.node[:]
    seen.graph.node.extend(_known(node) for node in model.graph.node)
    inferred = onnx.shape_inference.infer_shapes(seen)
    del model.graph.value_info[:]
    model.graph.value_info.extend(inferred.graph.value_info)


def _known(node: onnx.NodeProto) -> onnx.NodeProto:
    """The node, or in the place of one of ONNX Runtime's own, which inference stops at, one of the same shapes."""
    if node.domain != "com.microsoft" or node.op_type not in SHAPED_AS_INPUT:
        return node
    return onnx.helper.make_node("Identity", node.input[:1], node.output[:1], name=node.name)


def _size(tensor: onnx.TensorProto) -> int:
    return int(np.prod(tensor.dims, dtype=np.int64))


def _fixed(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    sizes = [dimension.dim_value if dimension.HasField("dim_value") else None for dimension in kind.shape.dim]
    return None if None in sizes else tuple(size for size in sizes if size is not None)
