"""NNCF's fast bias correction of layers by a constant weight, without running each as a model of its own.

NNCF has the mean of a layer's input and of its output taken over the texts, runs the layer with its quantized weight
on the first, and adds the difference to the bias. A product is linear: the difference of the means is the mean input
times what quantization took from the weight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from nncf.common.factory import ModelTransformerFactory
from nncf.common.graph.transformations.commands import TargetType
from nncf.common.graph.transformations.layout import TransformationLayout
from nncf.common.tensor_statistics.collectors import MeanAggregator, TensorCollector
from nncf.common.tensor_statistics.statistic_point import StatisticPoint, StatisticPointsContainer
from nncf.openvino.statistics.collectors import OVMeanReducer
from nncf.quantization.algorithms.fast_bias_correction.algorithm import FastBiasCorrection
from nncf.tensor import Tensor
from numpy.typing import NDArray

from stagelib.nncfsmoothing import by_name

Floats = NDArray[np.float32]
MEAN = "mean"
ACTIVATION, WEIGHT = 0, 1
_BLOCK = 1 << 16
"""Weights that are quantized at once: they stay in a core's cache."""


def taken_over(algorithm: Any, model: Any, graph: Any) -> Any:
    """`BiasCorrection` in the place of NNCF's fast one where every layer it corrects is a plain product."""
    if type(algorithm) is not FastBiasCorrection:
        return algorithm
    ours = BiasCorrection(
        subset_size=algorithm.subset_size,
        threshold=algorithm.threshold,
        inplace_statistics=algorithm.inplace_statistics,
        backend_params=algorithm.backend_params,
    )
    named = by_name(model)
    layers = ours.layers(model, graph)
    return ours if all(_is_plain(named[node.node_name]) for node in layers) else algorithm


class BiasCorrection(FastBiasCorrection):  # type: ignore[misc]  # NNCF isn't where types are checked
    """Fast bias correction of products [..., inputs] x weight [inputs, outputs], or its transpose."""

    def layers(self, model: Any, graph: Any) -> list[Any]:
        """The graph's nodes with a bias."""
        self._set_backend_entity(model)
        return [node for node in graph.get_all_nodes() if self._backend_entity.is_node_with_bias(node, graph)]

    def get_statistic_points(self, model: Any, graph: Any) -> StatisticPointsContainer:
        """The mean of each layer's input by channel, its last axis."""
        points = StatisticPointsContainer()
        named = by_name(model)
        for node in self.layers(model, graph):
            rank = len(named[node.node_name].input_value(ACTIVATION).get_partial_shape())
            collector = TensorCollector()
            reducer = OVMeanReducer(tuple(range(rank - 1)), inplace=True)
            collector.register_statistic_branch(MEAN, reducer, MeanAggregator(num_samples=self.subset_size))
            target = self._backend_entity.target_point(TargetType.PRE_LAYER_OPERATION, node.node_name, ACTIVATION)
            points.add_statistic_point(StatisticPoint(target, collector, self._algorithm_key))
        return points

    def apply(self, model: Any, graph: Any, statistic_points: StatisticPointsContainer) -> Any:
        """The model with what its quantized weights shift the outputs by taken out of its biases."""
        layout = TransformationLayout()
        layers = self.layers(model, graph)
        named = by_name(model)
        means = {
            point.target_point.target_node_name: collector.get_statistics()[MEAN].data.reshape(-1)
            for algorithm, point, collector in statistic_points.get_tensor_collectors()
            if algorithm == self._algorithm_key
        }
        for node in layers:
            if not self._backend_entity.is_quantized_weights(node, graph):
                continue
            bias = self._backend_entity.get_bias_value(node, graph, model)
            shift = Tensor(_lost(named[node.node_name], means[node.node_name]))
            corrected = bias + self._reshape_bias_shift(shift, bias, node.metatype.output_channel_axis)
            if self._get_bias_shift_magnitude(bias, corrected) < self.threshold:
                layout.register(self._backend_entity.create_bias_correction_command(node, corrected, graph))
        return ModelTransformerFactory.create(model).transform(layout)


def _is_plain(product: Any) -> bool:
    weight = product.input_value(WEIGHT)
    return (
        product.get_type_name() == "MatMul"
        and not product.get_attributes()["transpose_a"]
        and weight.get_node().get_type_name() == "Constant"
        and len(weight.get_partial_shape()) == 2  # noqa: PLR2004  # rows and columns
        and weight.get_element_type().to_dtype() == np.float32
    )


def _lost(product: Any, mean: Floats) -> Floats:
    """The mean output [outputs] of a product by its weight, less that by its quantized weight."""
    quantizer = product.input_value(WEIGHT).get_node()
    weight, *bounds = (quantizer.input_value(port).get_node().data for port in range(5))
    transposed = product.get_attributes()["transpose_b"]
    levels = quantizer.get_attributes()["levels"]
    lost = np.zeros(weight.shape[0 if transposed else 1], dtype=np.float32)
    step = max(1, _BLOCK // weight.shape[1])
    for start in range(0, len(weight), step):
        rows = slice(start, start + step)
        block = weight[rows]
        error = block - quantized(
            block, *(bound[rows] if len(bound) == len(weight) else bound for bound in bounds), levels=levels
        )
        if transposed:
            lost[rows] = error @ mean
        else:
            lost += mean[rows] @ error
    return lost


def quantized(
    values: Floats, low: Floats, high: Floats, output_low: Floats, output_high: Floats, *, levels: int
) -> Floats:
    """`values` as OpenVINO's FakeQuantize gives them; the bounds broadcast against them."""
    steps = np.clip(values, low, high)
    steps -= low
    steps *= (levels - 1) / (high - low)
    np.rint(steps, out=steps)
    steps *= (output_high - output_low) / (levels - 1)
    steps += output_low
    return steps
