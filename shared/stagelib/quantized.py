"""What a QDQ graph is quantized to, as the graph itself says. Needs no package: ONNX's numbers of types are fixed."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

INTEGERS = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 21: "uint4", 22: "int4"}
FLOATS = {17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz", 23: "float4e2m1"}
TYPES = INTEGERS | FLOATS
"""onnx.TensorProto.DataType of the types that quantizers use for weights and activations; biases are int32."""
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
PRODUCTS = frozenset({"MatMul", "Gemm"})


def quantized_types(graph: onnx.GraphProto) -> tuple[Counter[str], Counter[str]]:
    """Types of activations, by number of tensors, and of the weights of products, by number of values.

    Embeddings are no weights here: ONNX Runtime's quantizer gives them the activations' type. Empty for a float graph.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    multiplied = {name for node in graph.node if node.op_type in PRODUCTS for name in node.input}
    activations: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type == DEQUANTIZE and node.input[0] in stored and multiplied.intersection(node.output):
            tensor = stored[node.input[0]]
            if tensor.data_type in TYPES:
                weights[TYPES[tensor.data_type]] += math.prod(tensor.dims)
        elif node.op_type == QUANTIZE and len(node.input) > 2:  # noqa: PLR2004 - tensor, scale, zero point
            zero = stored.get(node.input[2])
            if zero is not None and zero.data_type in TYPES:
                activations[TYPES[zero.data_type]] += 1
    return activations, weights


def precision(graph: onnx.GraphProto) -> str:
    """`int16/int8` for activations and weights, as most of the graph has them; `fp32` where nothing is quantized."""
    activations, weights = quantized_types(graph)
    if not activations and not weights:
        return "fp32"
    return "/".join(types.most_common(1)[0][0] if types else "fp32" for types in (activations, weights))
