"""NNCF's quantization of a transformer from one pass over the calibration texts, where NNCF itself takes two.

NNCF runs every text twice: once for the magnitudes that SmoothQuant moves into the weights, and again on the smoothed
model for ranges and means. Smoothing multiplies some activations, channel by channel, by numbers above zero and changes
nothing else, so what the second pass would see of them follows from their extremes by channel. Here a draft of the
smoothed model, its scales from the weights alone, is run once; the true scales and statistics are computed from that,
and NNCF's own algorithms do the rest. The result is NNCF's but for rounding.

This leans on NNCF's pipeline beneath its public call: `stages.quantize_nncf` takes it only beside the release of NNCF
that it was compared with.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from nncf import Dataset
from nncf.common.factory import build_graph
from nncf.common.graph.transformations.commands import TargetType
from nncf.common.tensor_statistics.collectors import (
    AbsMaxReducer,
    MaxReducer,
    MinReducer,
    NoopAggregator,
    TensorCollector,
    TensorReducerBase,
)
from nncf.common.tensor_statistics.statistic_point import StatisticPoint, StatisticPointsContainer
from nncf.common.tensor_statistics.statistics import MeanTensorStatistic, MinMaxTensorStatistic
from nncf.openvino.graph.model_utils import remove_friendly_name_duplicates
from nncf.openvino.graph.transformations.commands import OVTargetPoint
from nncf.openvino.statistics.collectors import OVMaxReducer, OVMinReducer
from nncf.quantization.algorithms.pipeline import Pipeline
from nncf.quantization.algorithms.post_training.pipeline import create_ptq_pipeline
from nncf.quantization.algorithms.smooth_quant.algorithm import SHAPE_BRANCH_KEY, STATISTIC_BRANCH_KEY, SmoothQuant
from nncf.tensor import Tensor
from numpy.typing import NDArray

from stagelib import nncfstatistics
from stagelib.api import cpu_count

Floats = NDArray[np.float32]
EXTREMES = "extremes"
SMOOTH, QUANTIZE = 0, 1
_KINDS: tuple[type[TensorReducerBase], ...] = (MinReducer, MaxReducer, AbsMaxReducer)


class NotOnePassError(Exception):
    """Some statistics of this model don't follow from extremes by channel: quantize it in NNCF's own way."""


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """One smoothed activation of the draft: its extremes [texts, channels], and the scale [channels] it carries."""

    low: Floats
    high: Floats
    scale: Floats

    def magnitudes(self) -> Floats:
        """The largest magnitude of each channel over all texts, before smoothing."""
        largest: Floats = np.maximum(np.abs(self.low), np.abs(self.high)).max(axis=0) / self.scale
        return largest


def quantize(model: Any, dataset: Dataset, **options: Any) -> Any:
    """The quantized model; `options` are those of `nncf.quantize`. NotOnePassError leaves the model as it was."""
    from openvino._offline_transformations import compress_quantize_weights_transformation

    model = remove_friendly_name_duplicates(model)
    quantized = _run(model, dataset, create_ptq_pipeline(**options))
    compress_quantize_weights_transformation(quantized)
    return quantized


def _run(model: Any, dataset: Dataset, pipeline: Pipeline) -> Any:
    steps = pipeline.pipeline_steps
    if [len(steps), len(steps[SMOOTH])] != [2, 1] or not isinstance(steps[SMOOTH][0], SmoothQuant):
        raise NotOnePassError("the pipeline is not SmoothQuant and, after it, one step that quantizes")
    sketch = copy.deepcopy(pipeline)
    draft = _smoothed(sketch, model, {})
    seen, collected = _pass(sketch, draft, dataset)
    sources = _sources(draft)
    consumers = {point.target_node_name: sources(point) for point in _points(sketch, model)}
    # Its weights are a second copy of the model's.
    del draft, sources
    magnitudes = {node: seen[source].magnitudes() for node, source in consumers.items() if source in seen}
    smoothed = _smoothed(pipeline, model, magnitudes)
    if (scales := _scales(smoothed)).keys() != seen.keys():
        raise NotOnePassError("SmoothQuant left out, on these texts, what it smooths by the weights alone")
    graph = build_graph(smoothed)
    points = pipeline.get_statistic_points_for_step(QUANTIZE, smoothed, graph)
    _fill(points, collected, _sources(smoothed), seen, scales)
    _fill_weights(points, smoothed)
    return pipeline.run_step(QUANTIZE, points, smoothed, graph)


def _points(pipeline: Pipeline, model: Any) -> list[Any]:
    """Where SmoothQuant looks at the model."""
    container = pipeline.get_statistic_points_for_step(SMOOTH, model, build_graph(model))
    return [key[0] for key, _ in _activations(container)]


def _smoothed(pipeline: Pipeline, model: Any, magnitudes: Mapping[str, Floats]) -> Any:
    """The model after SmoothQuant, with the largest magnitudes [channels] by node: 1 where none are given."""
    graph = build_graph(model)
    points = pipeline.get_statistic_points_for_step(SMOOTH, model, graph)
    nodes = _nodes(model)
    for (point, _, _), collector in _activations(points):
        shape = nodes[point.target_node_name].input_value(point.port_id).get_partial_shape()
        if not shape[-1].is_static:
            raise NotOnePassError(f"{point.target_node_name} takes a free number of channels")
        sizes = [1] * (len(shape) - 1) + [shape[-1].get_length()]
        given = magnitudes.get(point.target_node_name, np.ones(sizes, dtype=np.float32))
        values = {STATISTIC_BRANCH_KEY: Tensor(given.reshape(sizes)), SHAPE_BRANCH_KEY: Tensor(np.array(sizes))}
        collector.set_cache(values)
    return pipeline.run_step(SMOOTH, points, model, graph)


def _pass(sketch: Pipeline, draft: Any, dataset: Any) -> tuple[dict[str, _Seen], dict[Any, TensorCollector]]:
    """Run the draft over all texts: the smoothed activations by name, and every statistic of the activations."""
    graph = build_graph(draft)
    points = sketch.get_statistic_points_for_step(QUANTIZE, draft, graph)
    scales = _scales(draft)
    sources = _sources(draft)
    collected = dict(_activations(points))
    for (point, _, _), collector in collected.items():
        if sources(point) in scales and not _follows(collector):
            raise NotOnePassError(f"the statistics of {point.target_node_name} don't follow from extremes by channel")
    for _, point, collector in points.get_tensor_collectors():
        if point.target_point.is_weight_target_point():
            collector.disable()
    watched = {name: _extremes(scale.ndim) for name, scale in scales.items()}
    for name, collector in watched.items():
        target = OVTargetPoint(TargetType.POST_LAYER_OPERATION, name, 0)
        points.add_statistic_point(StatisticPoint(target, collector, EXTREMES))
    nncfstatistics.collect(points, draft, graph, dataset, cpu_count())
    return {name: _seen(collector, scales[name]) for name, collector in watched.items()}, collected


def _extremes(rank: int) -> TensorCollector:
    """Smallest and largest of each channel, the last axis, kept for every text."""
    collector = TensorCollector()
    for key, reducer in (("low", OVMinReducer), ("high", OVMaxReducer)):
        collector.register_statistic_branch(key, reducer(tuple(range(rank - 1)), inplace=True), NoopAggregator(None))
    return collector


def _seen(collector: TensorCollector, scale: Floats) -> _Seen:
    statistics = collector.get_statistics()
    low, high = (np.stack([one.data.reshape(-1) for one in statistics[key]]) for key in ("low", "high"))
    return _Seen(low=low, high=high, scale=scale.reshape(-1))


def _follows(collector: TensorCollector) -> bool:
    """Whether the collector's statistics can be computed from extremes by channel, or are means."""
    if collector._stat_container is MeanTensorStatistic:  # noqa: SLF001  # there is no other way to ask
        return True
    return collector._stat_container is MinMaxTensorStatistic and all(  # noqa: SLF001
        isinstance(reducer, _KINDS) for reducer in collector.reducers
    )


def _scales(model: Any) -> dict[str, Floats]:
    """The multiplications that SmoothQuant put in, by name, with their factors [1, …, channels]."""
    found: dict[str, Floats] = {}
    for node in model.get_ops():
        name = node.get_friendly_name()
        if name.endswith("/nncf_smooth_quant") and node.get_type_name() == "Multiply":
            found[name] = np.array(node.input_value(1).get_node().data, dtype=np.float32)
            if found[name].size != found[name].shape[-1]:
                raise NotOnePassError(f"{name} scales another axis than the last")
    return found


def _sources(model: Any) -> Any:
    """From a point in the graph to the name of the node whose output is looked at there."""
    nodes = _nodes(model)

    def source(point: Any) -> str:
        if point.type == TargetType.POST_LAYER_OPERATION:
            return str(point.target_node_name)
        port = nodes[point.target_node_name].input_value(point.port_id)
        return str(port.get_node().get_friendly_name())

    return source


def _nodes(model: Any) -> dict[str, Any]:
    return {node.get_friendly_name(): node for node in model.get_ops()}


def _activations(points: StatisticPointsContainer) -> Iterator[tuple[Any, TensorCollector]]:
    """Collectors of activations by target, algorithm and turn; those of one target in the order they were added."""
    turns: dict[Any, int] = {}
    for algorithm, point, collector in points.get_tensor_collectors():
        if not point.target_point.is_weight_target_point():
            turn = turns.get((point.target_point, algorithm), 0)
            turns[point.target_point, algorithm] = turn + 1
            yield (point.target_point, algorithm, turn), collector


def _fill(
    points: StatisticPointsContainer,
    collected: Mapping[Any, TensorCollector],
    sources: Any,
    seen: Mapping[str, _Seen],
    scales: Mapping[str, Floats],
) -> None:
    """Give every collector of activations what the draft's run holds of it, brought to the true scales."""
    for key, collector in _activations(points):
        statistics = collected[key].get_statistics()
        if (name := sources(key[0])) not in seen:
            collector.set_cache(statistics)
            continue
        factor = scales[name].reshape(-1) / seen[name].scale
        if isinstance(statistics, MeanTensorStatistic):
            statistics.mean_values = Tensor(statistics.mean_values.data * factor)
            collector.set_cache(statistics)
        else:
            _register(collector, seen[name].low * factor, seen[name].high * factor, scales[name].ndim)
            collector.set_cache(collector.get_statistics())


def _register(collector: TensorCollector, low: Floats, high: Floats, rank: int) -> None:
    """Give a collector of whole-tensor ranges each text's, from extremes [texts, channels]."""
    for smallest, largest in zip(low.min(axis=1), high.max(axis=1), strict=True):
        values = {MinReducer: smallest, MaxReducer: largest, AbsMaxReducer: max(abs(smallest), abs(largest))}
        inputs = {}
        for reducer in collector.reducers:
            value = next(value for kind, value in values.items() if isinstance(reducer, kind))
            inputs[hash(reducer)] = [Tensor(np.full((1,) * rank, value, dtype=np.float32))]
        collector.register_inputs(inputs)


def _fill_weights(points: StatisticPointsContainer, model: Any) -> None:
    """The ranges of the weights: NNCF would have them folded while a model is compiled, which takes seconds."""
    nodes = _nodes(model)
    for _, point, collector in points.get_tensor_collectors():
        target = point.target_point
        if not target.is_weight_target_point():
            continue
        constant = nodes[target.target_node_name].input_value(target.port_id).get_node()
        if constant.get_type_name() != "Constant" or not all(isinstance(one, _KINDS) for one in collector.reducers):
            raise NotOnePassError(f"the weights of {target.target_node_name} are no plain constant")
        weights = [Tensor(constant.data)]
        # Called, such a reducer hands on what the graph has reduced; here there is none.
        collector.register_inputs({hash(one): one._reduce_out_of_place(weights) for one in collector.reducers})  # noqa: SLF001
