"""NNCF's quantization of a transformer from one pass over the calibration texts, where NNCF itself takes two.

NNCF runs every text twice: once for the magnitudes that SmoothQuant moves into the weights, and again on the smoothed
model for ranges and means. Smoothing multiplies some activations, channel by channel, by numbers above zero and changes
nothing else, so what the second pass would see of them follows from their extremes by channel. Here the model that
smoothing would give, its factors still 1, is run once; the scales and the statistics are computed from that, and NNCF's
own algorithms do the rest. The result is NNCF's but for rounding.

This leans on NNCF's pipeline beneath its public call: `stages.quantize_nncf` takes it only beside the release of NNCF
that it was compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from nncf import Dataset
from nncf.common.factory import build_graph
from nncf.common.graph.transformations.commands import TargetType
from nncf.common.tensor_statistics.collectors import (
    AbsMaxReducer,
    MaxReducer,
    MeanReducer,
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
from nncf.quantization.algorithms.smooth_quant.algorithm import SmoothQuant
from nncf.tensor import Tensor

from stagelib import nncfbias, nncfpatterns, nncfstatistics
from stagelib.api import cpu_count
from stagelib.nncfsmoothing import Floats, NotOnePassError, Smoothing, by_name

__all__ = ["NotOnePassError", "quantize"]

EXTREMES = "extremes"
SMOOTH, QUANTIZE = 0, 1
_KINDS: tuple[type[TensorReducerBase], ...] = (MinReducer, MaxReducer, AbsMaxReducer)


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """The extremes [texts, channels] of one activation that is to be smoothed."""

    low: Floats
    high: Floats

    def magnitudes(self) -> Floats:
        """The largest magnitude of each channel over all texts."""
        largest: Floats = np.maximum(np.abs(self.low), np.abs(self.high)).max(axis=0)
        return largest


def quantize(model: Any, dataset: Dataset, **options: Any) -> Any:
    """The quantized model; `options` are those of `nncf.quantize`. NotOnePassError leaves the model as it was."""
    from openvino._offline_transformations import compress_quantize_weights_transformation

    model = remove_friendly_name_duplicates(model)
    with nncfpatterns.quick_search():
        quantized = _run(model, dataset, create_ptq_pipeline(**options))
    compress_quantize_weights_transformation(quantized)
    return quantized


def _run(model: Any, dataset: Dataset, pipeline: Pipeline) -> Any:
    steps = pipeline.pipeline_steps
    if [len(steps), len(steps[SMOOTH])] != [2, 1] or not isinstance(steps[SMOOTH][0], SmoothQuant):
        raise NotOnePassError("the pipeline is not SmoothQuant and, after it, one step that quantizes")
    if any(node.get_type_name() == "If" for node in model.get_ops()):
        raise NotOnePassError("it has branches (If), whose bodies NNCF quantizes one after the other")
    smoothing = Smoothing(steps[SMOOTH][0], model)
    model = smoothing.model
    graph = build_graph(model)
    steps[QUANTIZE][:] = [nncfbias.taken_over(algorithm, model, graph) for algorithm in steps[QUANTIZE]]
    points = pipeline.get_statistic_points_for_step(QUANTIZE, model, graph)
    sources = _sources(model)
    _weights(points, model)  # before any text is run: what it refuses is known now
    seen = _pass(points, model, graph, dataset, smoothing.names, sources)
    scales = smoothing.apply({name: one.magnitudes() for name, one in seen.items()})
    _fill(points, sources, seen, scales, smoothing.names)
    _fill_weights(points, model)
    return pipeline.run_step(QUANTIZE, points, model, graph)


def _pass(
    points: StatisticPointsContainer,
    model: Any,
    graph: Any,
    dataset: Dataset,
    smoothed: Mapping[str, int],
    sources: Any,
) -> dict[str, _Seen]:
    """Run the model over all texts, for every statistic of `points` but those that follow from what is returned.

    That is the extremes of the `smoothed` activations, by name; its values are how many axes they have.
    """
    for _, point, collector in points.get_tensor_collectors():
        if point.target_point.is_weight_target_point():
            collector.disable()
        elif sources(point.target_point) in smoothed:
            if not _follows(collector):
                name = point.target_point.target_node_name
                raise NotOnePassError(f"the statistics of {name} don't follow from extremes by channel")
            if not _is_mean(collector):
                collector.disable()
    watched = {name: _extremes(rank) for name, rank in smoothed.items()}
    # Beside those of the points, not among them: NNCF's algorithms need not know of them.
    extremes = StatisticPointsContainer()
    for name, collector in watched.items():
        target = OVTargetPoint(TargetType.POST_LAYER_OPERATION, name, 0)
        extremes.add_statistic_point(StatisticPoint(target, collector, EXTREMES))
    nncfstatistics.collect([points, extremes], model, graph, dataset, cpu_count())
    return {name: _seen(collector) for name, collector in watched.items()}


def _extremes(rank: int) -> TensorCollector:
    """Smallest and largest of each channel, the last axis, kept for every text."""
    collector = TensorCollector()
    for key, reducer in (("low", OVMinReducer), ("high", OVMaxReducer)):
        collector.register_statistic_branch(key, reducer(tuple(range(rank - 1)), inplace=True), NoopAggregator(None))
    return collector


def _seen(collector: TensorCollector) -> _Seen:
    statistics = collector.get_statistics()
    low, high = (np.stack([one.data.reshape(-1) for one in statistics[key]]) for key in ("low", "high"))
    return _Seen(low=low, high=high)


def _follows(collector: TensorCollector) -> bool:
    """Whether the collector's statistics can be computed from extremes by channel, or are means."""
    if _is_mean(collector):
        return True
    return collector._stat_container is MinMaxTensorStatistic and all(  # noqa: SLF001  # there is no other way to ask
        isinstance(reducer, _KINDS) for reducer in collector.reducers
    )


def _is_mean(collector: TensorCollector) -> bool:
    """Whether it collects means by channel: NNCF's, or those of `nncfbias`."""
    if collector._stat_container is MeanTensorStatistic:  # noqa: SLF001
        return True
    return all(isinstance(reducer, MeanReducer) for reducer in collector.reducers)


def _sources(model: Any) -> Any:
    """From a point in the graph to the name of the node whose output is looked at there."""
    nodes = by_name(model)

    def source(point: Any) -> str:
        if point.type == TargetType.POST_LAYER_OPERATION:
            return str(point.target_node_name)
        port = nodes[point.target_node_name].input_value(point.port_id)
        return str(port.get_node().get_friendly_name())

    return source


def _fill(
    points: StatisticPointsContainer,
    sources: Any,
    seen: Mapping[str, _Seen],
    scales: Mapping[str, Floats],
    ranks: Mapping[str, int],
) -> None:
    """Give every collector of a smoothed activation, by its scale, what it would have collected of it."""
    places = [(sources(point.target_point), collector) for _, point, collector in points.get_tensor_collectors()]
    here = [(name, collector) for name, collector in places if name in seen]
    # First all, then each: nodes that share an activation share what was collected, and a cache that is set empties it.
    means = [_scaled(collector.get_statistics(), scales[name]) for name, collector in here if _is_mean(collector)]
    for name, collector in here:
        if _is_mean(collector):
            collector.set_cache(means.pop(0))
        else:
            _register(collector, seen[name].low * scales[name], seen[name].high * scales[name], ranks[name])
            collector.set_cache(collector.get_statistics())


def _scaled(means: Any, scale: Floats) -> Any:
    """Means by channel, the last axis, of the smoothed activation."""
    if isinstance(means, MeanTensorStatistic):
        means.mean_values = Tensor(means.mean_values.data * scale)
        return means
    return {key: Tensor(mean.data * scale) for key, mean in means.items()}


def _register(collector: TensorCollector, low: Floats, high: Floats, rank: int) -> None:
    """Give a collector of whole-tensor ranges each text's, from extremes [texts, channels]."""
    smallest, largest = low.min(axis=1), high.max(axis=1)
    values = {MinReducer: smallest, MaxReducer: largest, AbsMaxReducer: np.maximum(abs(smallest), abs(largest))}
    reducers = {hash(reducer): reducer for reducer in collector.reducers}
    for (reducer, _, _), aggregator in collector.aggregators.items():
        texts = next(texts for kind, texts in values.items() if isinstance(reducers[reducer], kind))
        for text in texts.reshape(-1, *(1,) * rank):
            aggregator.register_reduced_input(Tensor(text))


def _fill_weights(points: StatisticPointsContainer, model: Any) -> None:
    """The ranges of the weights: NNCF would have them folded while a model is compiled, which takes seconds."""
    for collector, constant in _weights(points, model):
        collector.enable()
        weights = [Tensor(constant.data)]
        # Called, such a reducer hands on what the graph has reduced; here there is none.
        collector.register_inputs({hash(one): one._reduce_out_of_place(weights) for one in collector.reducers})  # noqa: SLF001


def _weights(points: StatisticPointsContainer, model: Any) -> list[tuple[TensorCollector, Any]]:
    """The collectors of weights, each with its constant; NotOnePassError for weights that are computed."""
    nodes = by_name(model)
    found = []
    for _, point, collector in points.get_tensor_collectors():
        target = point.target_point
        if not target.is_weight_target_point():
            continue
        constant = nodes[target.target_node_name].input_value(target.port_id).get_node()
        if constant.get_type_name() != "Constant" or not all(isinstance(one, _KINDS) for one in collector.reducers):
            raise NotOnePassError(f"the weights of {target.target_node_name} are no plain constant")
        found.append((collector, constant))
    return found
