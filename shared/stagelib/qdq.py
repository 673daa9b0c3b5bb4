"""What quantization is told of a graph, and what it left in one: QuantizeLinear and DequantizeLinear pairs, counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import onnx
from onnx import TensorProto

from stagelib import graphwalk
from stagelib.api import StageError
from stagelib.shapes import SMALL, without_weights

PAIRS = ("QuantizeLinear", "DequantizeLinear")
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})


def down_projections(graph: onnx.GraphProto) -> Iterator[str]:
    """Names of the products by a weight that has more inputs than outputs."""
    sizes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        size = sizes.get(node.input[1], ()) if node.op_type in {"MatMul", "Gemm"} else ()
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        if len(size) == 2 and (size[0] < size[1] if transposed else size[0] > size[1]):  # noqa: PLR2004  # a matrix
            yield node.name


def products_of_activations(graph: onnx.GraphProto) -> Iterator[str]:
    """Names of the products that no constant takes part in: attention's scores and its weighted sums."""
    constant = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "MatMul" and constant.isdisjoint(node.input):
            yield node.name


def layer_norm_scales(graph: onnx.GraphProto) -> list[str]:
    """Names of the initializers that scale a LayerNormalization."""
    constant = {tensor.name for tensor in graph.initializer}
    scales = (node.input[1] for node in graph.node if node.op_type == "LayerNormalization")
    return sorted({name for name in scales if name in constant})


def operators(graph: onnx.GraphProto) -> list[str]:
    """The kinds of operators in the graph that have a quantized form: all but conversions of type."""
    return sorted({node.op_type for node in graph.node} - {"Cast", *PAIRS})


def check_operators(named: Sequence[str], graph: onnx.GraphProto) -> None:
    """StageError for a name that is an operator neither of ONNX nor of this graph: a misspelt one quantizes nothing."""
    here = {node.op_type for node in graph.node}
    unknown = [name for name in named if name not in here and not onnx.defs.has(name)]
    if unknown:
        raise StageError(
            f"op_types: {', '.join(map(repr, unknown))} is no operator of ONNX nor of this graph",
            hint=f"the graph has {', '.join(sorted(here - {*PAIRS}))}",
        )


def opset(model: onnx.ModelProto) -> int:
    """Version of ONNX's own operators."""
    return max(int(entry.version) for entry in model.opset_import if entry.domain in {"", "ai.onnx"})


def convert_opset(model: onnx.ModelProto, version: int) -> None:
    """Convert the graph, in place, to a later version of ONNX's operators.

    The converter copies what it is given several times over, so that the big weights stay out of it.
    """
    graph = model.graph
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.graph.name = graph.name
    for field in ("node", "input", "output", "value_info"):
        getattr(light.graph, field).extend(getattr(graph, field))
    for tensor in graph.initializer:
        if math.prod(tensor.dims) <= SMALL:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    converted = onnx.version_converter.convert_version(light, version)
    known = {tensor.name for tensor in graph.initializer}
    graph.initializer.extend(tensor for tensor in converted.graph.initializer if tensor.name not in known)
    for field in ("node", "value_info"):
        del getattr(graph, field)[:]
        getattr(graph, field).extend(getattr(converted.graph, field))
    del model.opset_import[:]
    model.opset_import.extend(converted.opset_import)
    model.ir_version = max(model.ir_version, converted.ir_version)


def counted(model: onnx.ModelProto) -> dict[str, Any]:
    """What is quantized: pairs, weights and activations by type, operators by whether floats still reach them."""
    graph = model.graph
    quantized, floats = _operators(model)
    weights, activations = _tensors(graph)
    return {
        "nodes": {kind: sum(node.op_type == kind for node in graph.node) for kind in PAIRS},
        "weights": dict(weights.most_common()),
        "activations": dict(activations.most_common()),
        "operators_quantized": dict(quantized.most_common()),
        "operators_in_float": dict(floats.most_common()),
    }


def _tensors(graph: onnx.GraphProto) -> tuple[Counter[str], Counter[str]]:
    """Weights and activations by type. A weight is per channel where its scale has more than one number."""
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    weights: Counter[str] = Counter()
    activations: Counter[str] = Counter()
    for node in graph.node:
        zero_point = initializers.get(node.input[2]) if len(node.input) > 2 else None  # noqa: PLR2004
        if node.op_type == "DequantizeLinear" and (weight := initializers.get(node.input[0])) is not None:
            per_channel = list(initializers[node.input[1]].dims) not in ([], [1])
            weights[_type_name(weight) + (" per channel" if per_channel else "")] += 1
        elif node.op_type == "QuantizeLinear":
            activations[_type_name(zero_point) if zero_point is not None else "uint8"] += 1
    return weights, activations


def _operators(model: onnx.ModelProto) -> tuple[Counter[str], Counter[str]]:
    """Operators on floats, those of branches included, by kind: what takes quantized values only, and the others."""
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    types = _types(model)
    quantized, floats = Counter[str](), Counter[str]()
    for node in graphwalk.nodes(model.graph):
        # What inference can't tell is the result of another domain's operator, and those compute floats.
        taken = [name for name in node.input if name and types.get(name, TensorProto.FLOAT) in _FLOATS]
        if taken and node.op_type not in PAIRS:
            (quantized if dequantized.issuperset(taken) else floats)[node.op_type] += 1
    return quantized, floats


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """Element types by tensor, where inference knows them."""
    graph = onnx.shape_inference.infer_shapes(without_weights(model)).graph
    known = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    return known | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def _type_name(tensor: onnx.TensorProto) -> str:
    return str(TensorProto.DataType.Name(tensor.data_type)).lower()
