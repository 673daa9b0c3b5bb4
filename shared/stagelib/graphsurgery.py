"""Edits of an ONNX graph. Each changes the graph in place and counts what it changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from stagelib import graphwalk, onnxfiles
from stagelib.api import StageError
from stagelib.shapes import Shapes, infer_shapes

_FLOATS = {
    onnx.TensorProto.FLOAT: float(np.finfo(np.float32).min),
    onnx.TensorProto.FLOAT16: float(np.finfo(np.float16).min),
    onnx.TensorProto.DOUBLE: float(np.finfo(np.float64).min),
}
_SMALLEST_FLOAT = _FLOATS[onnx.TensorProto.FLOAT]


def replace_mask_constant(graph: onnx.GraphProto, value: float, folder: Path = Path()) -> int:
    """Put `value` wherever a constant is the smallest float or minus infinity; returns how many were replaced.

    `folder` is the model's, for weights that are files of their own.
    """
    replaced = 0
    for tensor in _constants(graph):
        replaced += _replace_in_tensor(tensor, value, folder)
    for node in graphwalk.nodes(graph):
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.FLOAT and attribute.f <= _SMALLEST_FLOAT:
                attribute.f = value
                replaced += 1
            for index, number in enumerate(attribute.floats):
                if number <= _SMALLEST_FLOAT:
                    attribute.floats[index] = value
                    replaced += 1
    return replaced


def _constants(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Initializers and tensors in attributes (Constant, ConstantOfShape), those of subgraphs included."""
    yield from graph.initializer
    for node in graphwalk.nodes(graph):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from attribute.g.initializer


def _replace_in_tensor(tensor: onnx.TensorProto, value: float, folder: Path) -> int:
    smallest = _FLOATS.get(tensor.data_type)
    if smallest is None:
        return 0
    array = onnxfiles.array(tensor, folder)
    masking = array <= smallest
    hits = int(np.count_nonzero(masking))
    if hits:
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(np.where(masking, np.asarray(value, array.dtype), array), name))
    return hits


def matmul_add_to_gemm(model: onnx.ModelProto) -> int:
    """Turn MatMul by a 2-D weight + Add of a 1-D bias into Reshape, Gemm, Reshape; returns how many.

    StageError where the shape of a result isn't fixed (`fix_shape` comes first).
    """
    shapes = infer_shapes(model)
    weights = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    outputs = {value.name for value in model.graph.output}
    products = {
        node.output[0]: node
        for node in model.graph.node
        if node.op_type == "MatMul" and weights.get(node.input[1]) == 2 and uses[node.output[0]] == 1  # noqa: PLR2004
    }
    changed: list[onnx.NodeProto] = []
    made, gone = 0, set()
    for node in model.graph.node:
        match = _biased(
            node, lambda name: name in products and name not in outputs, lambda name: weights.get(name) == 1
        )
        if match is None:
            changed.append(node)
            continue
        product, bias = products[match[0]], match[1]
        changed.extend(_gemm(model.graph, product, bias, node.output[0], shapes))
        gone.add(product.output[0])
        made += 1
    del model.graph.node[:]
    model.graph.node.extend(node for node in changed if node.output[0] not in gone or node.op_type != "MatMul")
    return made


def _biased(
    node: onnx.NodeProto, product: Callable[[str], bool], bias: Callable[[str], bool]
) -> tuple[str, str] | None:
    if node.op_type != "Add":
        return None
    left, right = node.input
    if product(left) and bias(right):
        return left, right
    if product(right) and bias(left):
        return right, left
    return None


def _gemm(
    graph: onnx.GraphProto, product: onnx.NodeProto, bias: str, output: str, shapes: Shapes
) -> list[onnx.NodeProto]:
    shape, source = shapes.get(output), shapes.get(product.input[0])
    if shape is None or source is None:
        raise StageError(f"the shape of {output} isn't fixed", hint="put fix_shape before surgery")
    stem = product.output[0]
    graph.initializer.append(numpy_helper.from_array(np.array([-1, source[-1]], np.int64), f"{stem}/flat_shape"))
    graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), f"{stem}/full_shape"))
    return [
        helper.make_node("Reshape", [product.input[0], f"{stem}/flat_shape"], [f"{stem}/flat"], name=f"{stem}/flatten"),
        helper.make_node("Gemm", [f"{stem}/flat", product.input[1], bias], [f"{stem}/gemm"], name=f"{stem}/gemm"),
        helper.make_node("Reshape", [f"{stem}/gemm", f"{stem}/full_shape"], [output], name=f"{stem}/restore"),
    ]
