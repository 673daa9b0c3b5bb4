"""Walks through an ONNX graph and the graphs within its nodes (If, Loop, Scan)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of subgraphs (If, Loop) included."""
    for node in graph.node:
        yield node
        for subgraph in subgraphs(node):
            yield from nodes(subgraph)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs within a node, but not those within these."""
    for attribute in node.attribute:
        yield from ([attribute.g] if attribute.HasField("g") else [])
        yield from attribute.graphs


def inner_initializers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """The initializers of subgraphs (If, Loop), but not the graph's own."""
    for node in nodes(graph):
        for subgraph in subgraphs(node):
            yield from subgraph.initializer


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove the graph's own initializers that nothing reads: no node, none within a node, and no output."""
    used = {value.name for value in graph.output}
    for node in nodes(graph):
        used.update(node.input)
        # A branch may give back what it found outside, with no node of its own.
        used.update(value.name for subgraph in subgraphs(node) for value in subgraph.output)
    unused = [place for place, tensor in enumerate(graph.initializer) if tensor.name not in used]
    for place in reversed(unused):
        del graph.initializer[place]
