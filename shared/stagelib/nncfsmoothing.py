"""NNCF's SmoothQuant in two steps: where it smooths, before any text is run; by how much, once the texts were run.

NNCF does both at once. Apart, the first step leaves the weights as they are, and the second changes the same model and
graph: neither the model nor all that NNCF derives from its graph is made twice. The scales are NNCF's own, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from nncf.common.factory import ModelTransformerFactory, build_graph
from nncf.common.graph.transformations.layout import TransformationLayout
from nncf.openvino.graph.model_transformer import OVModelTransformer
from nncf.quantization.algorithms.smooth_quant.algorithm import SmoothQuant
from nncf.tensor import Tensor
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class NotOnePassError(Exception):
    """Some statistics of this model don't follow from extremes by channel: quantize it in NNCF's own way."""


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Nodes that take one activation: they share a scale."""

    nodes: list[Any]
    shape: tuple[int, ...]
    """[1, …, channels]: what a text's activation has but for its length."""


class Smoothing:
    """A model that SmoothQuant will have smoothed: `model`, a clone, holds its multiplications, each by 1."""

    def __init__(self, algorithm: SmoothQuant, model: Any) -> None:
        self._algorithm = algorithm
        self._graph = build_graph(model)
        algorithm._set_backend_entity(model)  # noqa: SLF001  # here and below: its steps are private
        self._alphas = algorithm._get_alpha_map()  # noqa: SLF001
        self._backend: Any = algorithm._backend_entity  # noqa: SLF001
        self._groups: dict[str, _Group] = {}
        self.model = self._draft(model)

    def _draft(self, model: Any) -> Any:
        places = self._algorithm._get_nodes_to_smooth_data(self._graph, self._alphas.keys())  # noqa: SLF001
        named = by_name(model)
        shaped = [(node, port, _shape(named[node.node_name], port)) for node, port in places]
        layout = TransformationLayout()
        for key, nodes in self._algorithm._group_nodes_by_source(shaped, self._graph).items():  # noqa: SLF001
            source, _, output, shape = key
            if (name := self._algorithm._create_scale_node_name(source.node_name, output)) in self._groups:  # noqa: SLF001
                raise NotOnePassError(f"{name} would stand in the graph twice")
            self._groups[name] = _Group(nodes=nodes, shape=shape)
            ones = self._activation_scale(Tensor(np.ones(shape[-1], np.float32)), self._groups[name])
            if ones.shape != shape:
                raise NotOnePassError(f"{name} scales another axis than the last")
            layout.register(self._backend.scale_insertion_command(source, ones, output, nodes, name))
        return ModelTransformerFactory.create(model).transform(layout)

    @property
    def names(self) -> Mapping[str, int]:
        """The multiplications by name, and how many axes each one's activation has."""
        return {name: len(group.shape) for name, group in self._groups.items()}

    def apply(self, magnitudes: Mapping[str, Floats]) -> dict[str, Floats]:
        """Smooth `model` in place by the largest magnitudes [channels] of each activation; the scales, by name.

        NotOnePassError where SmoothQuant leaves out an activation that it was expected to smooth.
        """
        named = by_name(self.model)
        scales = {}
        for name, group in self._groups.items():
            base = self._base_scale(group, magnitudes[name], named)
            for node in group.nodes:
                weights = self._weights(node, named)
                factors = self._algorithm._calculate_weight_scale(base, node, Tensor(weights)).data  # noqa: SLF001
                port = self._backend.get_weight_tensor_port_id(node)
                _set_constant(named[node.node_name], port, _scaled(weights, factors))
            scale = self._activation_scale(base, group)
            _set_constant(named[name], 1, scale)
            scales[name] = scale.reshape(-1)
        return scales

    def _base_scale(self, group: _Group, magnitudes: Floats, named: Mapping[str, Any]) -> Tensor:
        """What the weights are multiplied by [channels]: of the group's nodes, the most even one's."""
        best, best_ratio = None, 0.0
        activations = self._algorithm._clip_statistics([Tensor(magnitudes)])  # noqa: SLF001
        for node in group.nodes:
            axis = self._backend.get_weight_channel_axis(node)
            largest = self._algorithm._clip_statistics([Tensor(_largest(self._weights(node, named), axis))])  # noqa: SLF001
            scale, ratio = self._algorithm._calculate_scale_and_ratio(  # noqa: SLF001
                activations, largest, self._alphas[node.metatype]
            )
            if ratio > best_ratio:
                best, best_ratio = scale, ratio
        if best is None:
            raise NotOnePassError("SmoothQuant finds, on these texts, no scale for an activation")
        return best

    def _activation_scale(self, base: Tensor, group: _Group) -> Floats:
        scale = self._algorithm._calculate_activation_scale(base, group.shape, group.nodes, self._graph)  # noqa: SLF001
        return np.asarray(scale.data, dtype=np.float32)

    def _weights(self, node: Any, named: Mapping[str, Any]) -> NDArray[Any]:
        port = self._backend.get_weight_tensor_port_id(node)
        data: NDArray[Any] = named[node.layer_attributes.constant_attributes[port]["name"]].data
        return data


def by_name(model: Any) -> dict[str, Any]:
    """The model's nodes by their names."""
    return {node.get_friendly_name(): node for node in model.get_ops()}


def _shape(node: Any, port: int) -> tuple[int, ...]:
    shape = node.input_value(port).get_partial_shape()
    if not shape[-1].is_static:
        raise NotOnePassError(f"{node.get_friendly_name()} takes a free number of channels")
    return (1,) * (len(shape) - 1) + (shape[-1].get_length(),)


def _largest(weights: NDArray[Any], axis: int) -> NDArray[Any]:
    """The largest magnitude along each index of that axis; no copy of the weights, as their absolute values are."""
    others = tuple(one for one in range(weights.ndim) if one != axis % weights.ndim)
    largest: NDArray[Any] = np.maximum(weights.max(axis=others), -weights.min(axis=others))
    return largest


def _scaled(weights: NDArray[Any], factors: NDArray[Any]) -> NDArray[Any]:
    """Their product, computed in the wider of the two types, as NNCF does, but not held in it."""
    if weights.dtype != np.float32:
        wide: NDArray[Any] = weights * factors
        return wide
    scaled = np.empty_like(weights)
    np.multiply(weights, factors, out=scaled, dtype=np.result_type(weights, factors), casting="same_kind")
    return scaled


def _set_constant(node: Any, port: int, value: NDArray[Any]) -> None:
    OVModelTransformer._set_const_value(node, port, value)  # noqa: SLF001
