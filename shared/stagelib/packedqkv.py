"""Packed QKV: the three projections before a MultiHeadAttention as one product.

ONNX Runtime's operator (com.microsoft, version 1) takes `query` either as [batch, sequence, hidden], with `key` and
`value` beside it, or packed as [batch, sequence, heads, 3, head_size] with neither. Its `bias` is left out with packed
QKV, since no document says in which order DirectML would read it: the biases are added before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from stagelib import graphwalk, onnxfiles
from stagelib.api import StageError
from stagelib.qkvlayout import PARTS, pack, unpack

CONTRIB = "com.microsoft"
OPERATOR = "MultiHeadAttention"
# Places of the operator's inputs.
_VALUE, _BIAS, _MASK, _PAST = 2, 3, 4, 6


@dataclass(frozen=True, kw_only=True)
class Projections:
    """Q, K and V of one attention: where they come from, each weight [inputs, hidden] and, if any, bias [hidden]."""

    source: str
    weights: tuple[NDArray[Any], ...]
    biases: tuple[NDArray[Any], ...] | None
    weight: str
    """Name of the packed weight. It tells of which weights it is: attentions that share those share it, as ALBERT's."""
    bias: str
    """Name of the packed bias; empty where there is none."""
    products: tuple[str, ...]
    """Names of the results that the packed product takes the place of."""


def pack_attention(model: onnx.ModelProto, folder: Path) -> int:
    """Pack Q, K and V of every MultiHeadAttention, in place; returns how many there are. `folder` has the big weights.

    StageError where an attention's Q, K and V aren't products of one tensor by constant weights of one size.
    """
    graph = model.graph
    parts = _Parts(graph, [folder])
    found = {node.output[0]: _projections(parts, node) for node in graph.node if is_attention(node)}
    gone = {name for projections in found.values() for name in projections.products}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        if is_attention(node):
            kept.extend(_packed(graph, node, found[node.output[0]]))
        elif node.output[0] not in gone:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    graphwalk.drop_unused(graph)
    # What was inferred of the products that are gone.
    del graph.value_info[:]
    return len(found)


def prove(before: onnx.ModelProto, after: onnx.ModelProto, folders: Sequence[Path]) -> int:
    """Hold every packed weight and bias against those it was made of, bit for bit; returns how many numbers are equal.
    The folders have the big weights of both.

    StageError where one isn't.
    """
    source, packed = _Parts(before.graph, folders), _Parts(after.graph, folders)
    equal = 0
    for node in before.graph.node:
        if not is_attention(node):
            continue
        projections = _projections(source, node)
        for name, expected in ((projections.weight, projections.weights), (projections.bias, projections.biases)):
            if expected is None:
                continue
            found = unpack(packed.array(name), number_of_heads(node))
            if not all(left.tobytes() == right.tobytes() for left, right in zip(found, expected, strict=True)):
                raise StageError(f"{name}, which {node.name} takes packed, is not what it was made of")
            equal += sum(part.size for part in expected)
    return equal


def is_attention(node: onnx.NodeProto) -> bool:
    return bool(node.op_type == OPERATOR and node.domain == CONTRIB)


def number_of_heads(node: onnx.NodeProto) -> int:
    return int(next(attribute.i for attribute in node.attribute if attribute.name == "num_heads"))


class _Parts:
    """A graph's constants, producers and uses, by the names of tensors."""

    def __init__(self, graph: onnx.GraphProto, folders: Sequence[Path]) -> None:
        self._folders = folders
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.producers = {output: node for node in graph.node for output in node.output}
        self.uses = Counter(name for node in graph.node for name in node.input)
        # What the graph answers with must stay.
        self.uses.update(value.name for value in graph.output)

    def array(self, name: str) -> NDArray[Any]:
        return onnxfiles.array(self.tensors[name], *self._folders)


def _name(node: onnx.NodeProto, part: str) -> str:
    """A name for a part of an attention; its output's is the only one that ONNX keeps unique."""
    return f"{node.output[0]}/qkv_{part}"


def _packed(graph: onnx.GraphProto, node: onnx.NodeProto, projections: Projections) -> list[onnx.NodeProto]:
    """The nodes that take an attention's place; their weights go into the graph."""
    heads = number_of_heads(node)
    shape, product, packed = (_name(node, part) for part in ("shape", "product", "packed"))
    _add_packed(graph, projections.weight, projections.weights, heads)
    _add(graph, shape, np.array([0, 0, heads, PARTS, projections.weights[0].shape[1] // heads], np.int64))
    made = [helper.make_node("MatMul", [projections.source, projections.weight], [product], name=product)]
    if projections.biases is not None:
        biased = _name(node, "biased")
        _add_packed(graph, projections.bias, projections.biases, heads)
        made.append(helper.make_node("Add", [product, projections.bias], [biased], name=biased))
    made.append(helper.make_node("Reshape", [made[-1].output[0], shape], [packed], name=packed))
    attention = onnx.NodeProto()
    attention.CopyFrom(node)
    del attention.input[:]
    attention.input.extend([packed, "", "", "", *node.input[_MASK:_PAST]])
    while not attention.input[-1]:
        attention.input.pop()
    return [*made, attention]


def _projections(parts: _Parts, node: onnx.NodeProto) -> Projections:
    if len(node.input) <= _VALUE or not all(node.input[: _VALUE + 1]):
        raise StageError(f"{node.name} has no Q, K and V of its own to pack", hint="is the model packed already?")
    if any(node.input[_PAST:]):
        raise StageError(f"{node.name} takes a cache of keys and values: it is a decoder's, and isn't packed")
    if any(attribute.name == "unidirectional" and attribute.i for attribute in node.attribute):
        raise StageError(f"{node.name} attends to what came before alone: it is a decoder's, and isn't packed")
    weights, added, products = list[str](), list[str](), list[str]()
    sources = set()
    for name in node.input[: _VALUE + 1]:
        product, bias = _product(parts, name)
        if product is None or parts.uses[name] > 1 or parts.uses[product.output[0]] > 1:
            raise StageError(f"{name}, which {node.name} takes, is not a product by a weight and for it alone")
        weights.append(product.input[1])
        added.append(bias)
        products.extend({name, product.output[0]})
        sources.add(product.input[0])
    arrays = tuple(map(parts.array, weights))
    if len(sources) > 1 or len({array.shape for array in arrays}) > 1:
        raise StageError(f"Q, K and V of {node.name} differ in what they are made of or in size")
    biases = _biases(parts, node, added)
    return Projections(
        source=sources.pop(),
        weights=arrays,
        biases=_thirds(parts, biases) if biases else None,
        weight=_packed_name(node, weights),
        bias=_packed_name(node, biases) if biases else "",
        products=tuple(products),
    )


def _product(parts: _Parts, name: str) -> tuple[onnx.NodeProto | None, str]:
    """The MatMul by a constant matrix behind a name, and the name of the bias [hidden] that is added to it, if any."""
    node = parts.producers.get(name)
    bias = ""
    if node is not None and node.op_type == "Add":
        fixed = [given for given in node.input if given in parts.tensors]
        free = [given for given in node.input if given not in parts.tensors]
        if len(fixed) != 1 or len(parts.tensors[fixed[0]].dims) != 1:
            return None, ""
        bias, node = fixed[0], parts.producers.get(free[0])
    if node is None or node.op_type != "MatMul" or node.input[1] not in parts.tensors:
        return None, ""
    return node, bias


def _biases(parts: _Parts, node: onnx.NodeProto, added: Sequence[str]) -> list[str]:
    """Names of the biases: the operator's own input of all three in a row, those that were added before, or none."""
    own = node.input[_BIAS] if len(node.input) > _BIAS else ""
    given = [bias for bias in added if bias]
    if own and given:
        raise StageError(f"{node.name} has biases of both kinds, added before it and its own")
    if own and own not in parts.tensors:
        raise StageError(f"the bias {own} of {node.name} is not a constant")
    if len(given) not in {0, PARTS}:
        raise StageError(f"only {len(given)} of Q, K and V of {node.name} have a bias")
    return [own] if own else given


def _thirds(parts: _Parts, names: Sequence[str]) -> tuple[NDArray[Any], ...]:
    """Q's, K's and V's, each of its own name or all of one."""
    arrays = [parts.array(name) for name in names]
    return tuple(np.split(arrays[0], PARTS) if len(arrays) == 1 else arrays)


def _packed_name(node: onnx.NodeProto, names: Sequence[str]) -> str:
    """A name for what is packed of tensors with these names, by this attention's number of heads."""
    return f"{'+'.join(names)}/qkv_of_{number_of_heads(node)}_heads"


def _add_packed(graph: onnx.GraphProto, name: str, parts: Sequence[NDArray[Any]], heads: int) -> None:
    if all(tensor.name != name for tensor in graph.initializer):
        _add(graph, name, pack(parts, heads))


def _add(graph: onnx.GraphProto, name: str, array: NDArray[Any]) -> None:
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
