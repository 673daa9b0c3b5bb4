"""How much of a graph's arithmetic each product does: what a share of the nodes doesn't tell."""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx

Shape = tuple[int, ...]
PRODUCTS = frozenset({"MatMul", "Gemm"})
# They hold products of their own, which can't be told apart from outside.
HIDING = frozenset({"Attention", "MultiHeadAttention", "FusedMatMul", "EmbedLayerNormalization", "EPContext"})
PASSING = frozenset({"QuantizeLinear", "DequantizeLinear"})


def multiplications(graph: onnx.GraphProto) -> dict[str, int] | None:
    """Multiplications of each MatMul and Gemm, by the name of its result.

    None where a shape isn't known, or an operator holds products inside.
    """
    shapes = _Shapes(graph)
    found: dict[str, int] = {}
    for node in graph.node:
        if node.op_type in HIDING:
            return None
        if node.op_type in PRODUCTS:
            left, right, result = shapes.of(node.input[0]), shapes.of(node.input[1]), shapes.of(node.output[0])
            if left is None or right is None or result is None:
                return None
            found[node.output[0]] = math.prod(result) * _summed(node, left)
    return found


def share_of(results: Iterable[str], counted: dict[str, int] | None) -> float | None:
    """The share of all multiplications that these results take; None where it isn't known."""
    total = sum(counted.values()) if counted else 0
    return sum(counted.get(name, 0) for name in results) / total if counted and total else None


def _summed(node: onnx.NodeProto, left: Shape) -> int:
    """The dimension that a product sums over."""
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return left[0] if transposed else left[-1]


class _Shapes:
    """Shapes as the graph declares them; a quantized tensor has that of the one it was made from."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._known = {value.name: _fixed(value) for value in (*graph.value_info, *graph.input, *graph.output)}
        self._known |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        self._sources = {node.output[0]: node.input[0] for node in graph.node if node.op_type in PASSING}

    def of(self, name: str) -> Shape | None:
        while self._known.get(name) is None and name in self._sources:
            name = self._sources[name]
        return self._known.get(name)


def _fixed(value: onnx.ValueInfoProto) -> Shape | None:
    kind = value.type.tensor_type
    sizes = [dimension.dim_value for dimension in kind.shape.dim]
    return tuple(sizes) if kind.HasField("shape") and all(sizes) else None
