"""MultiHeadAttention with packed QKV, spelled out in ONNX's own operators from the operator's documentation.

The CPU provider throws on packed QKV. Spelled out the same graph, with its packed weights where they lie, runs there,
and can be held against its unpacked twin. For a proof, not for shipping.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from stagelib.api import StageError
from stagelib.packedqkv import is_attention
from stagelib.qkvlayout import PARTS

MASK_FILTER = -10000.0
"""The operator's default for `mask_filter_value`."""
_MASK, _ATTENTION_BIAS = 4, 5


def spell_out(model: onnx.ModelProto) -> int:
    """Replace every packed MultiHeadAttention, in place; returns how many. StageError for one that isn't packed."""
    graph = model.graph
    kept: list[onnx.NodeProto] = []
    replaced = 0
    for node in graph.node:
        if is_attention(node):
            writer = _Writer(graph, node)
            writer.write(node)
            kept.extend(writer.nodes)
            replaced += 1
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    return replaced


class _Writer:
    """Writes the operators of one attention."""

    def __init__(self, graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
        self._graph = graph
        self._stem = f"{node.output[0]}/plain"
        self._made = 0
        self.nodes: list[onnx.NodeProto] = []

    def write(self, node: onnx.NodeProto) -> None:
        """[batch, sequence, heads, 3, size] to [batch, sequence, heads * size]."""
        if any(node.input[1:_MASK]):
            raise StageError(f"{node.name} has K, V or a bias of its own: its QKV is not packed")
        packed = self._op("Cast", [node.input[0]], to=onnx.TensorProto.FLOAT)
        # By part, then by head: [3, batch, heads, sequence, size].
        parts = self._op("Transpose", [packed], perm=[3, 0, 2, 1, 4])
        query, key, value = (self._op("Gather", [parts, self._number(part)], axis=0) for part in range(PARTS))
        turned = self._op("Transpose", [key], perm=[0, 1, 3, 2])
        scores = self._op("Mul", [self._op("MatMul", [query, turned]), self._scale(node, query)])
        for added in self._masks(node):
            scores = self._op("Add", [scores, added])
        context = self._op("MatMul", [self._op("Softmax", [scores], axis=-1), value])
        rows = self._op("Transpose", [context], perm=[0, 2, 1, 3])
        flat = self._op("Reshape", [rows, self._constant([0, 0, -1], np.int64)])
        self.nodes.append(helper.make_node("CastLike", [flat, node.input[0]], [node.output[0]]))

    def _scale(self, node: onnx.NodeProto, query: str) -> str:
        """The attribute, or one over the root of the head's size."""
        given = next((attribute.f for attribute in node.attribute if attribute.name == "scale"), 0.0)
        if given:
            return self._constant(given, np.float32)
        size = self._op("Cast", [self._op("Shape", [query], start=3)], to=onnx.TensorProto.FLOAT)
        return self._op("Reciprocal", [self._op("Sqrt", [size])])

    def _masks(self, node: onnx.NodeProto) -> list[str]:
        """What is added to the scores: the filter value where a key is padding, and the attention bias."""
        added = []
        given = [*node.input, *[""] * (_ATTENTION_BIAS + 1 - len(node.input))]
        if given[_MASK]:
            filter_value = [one.f for one in node.attribute if one.name == "mask_filter_value"] or [MASK_FILTER]
            kept = self._op("Cast", [given[_MASK]], to=onnx.TensorProto.FLOAT)
            padding = self._op("Sub", [self._constant(1.0, np.float32), kept])
            keys = self._op("Unsqueeze", [padding, self._constant([1, 2], np.int64)])
            added.append(self._op("Mul", [keys, self._constant(filter_value[0], np.float32)]))
        if given[_ATTENTION_BIAS]:
            added.append(self._op("Cast", [given[_ATTENTION_BIAS]], to=onnx.TensorProto.FLOAT))
        return added

    def _op(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = self._new()
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def _constant(self, value: Any, dtype: Any) -> str:
        name = self._new()
        self._graph.initializer.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def _number(self, value: int) -> str:
        return self._constant(value, np.int64)

    def _new(self) -> str:
        self._made += 1
        return f"{self._stem}_{self._made}"
