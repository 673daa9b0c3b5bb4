"""ONNX Runtime's static quantizer in three steps: prepare, calibrate, quantize.

The weights lie in one file beside the prepared graph: what only looks at the graph doesn't read them, a session maps
them, and no two copies are in memory. Ranges are found by one session, whatever the number of texts: two numbers a
tensor leave it for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from stagelib import blockquantizer, boundless, extremes, weightless
from stagelib.api import StageError, cpu_count
from stagelib.ortrun import CPU, answers, ort_failures
from stagelib.shapes import SMALL

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from stagelib.stages.quantize_qdq import Params

KINDS = {
    "int8": QuantType.QInt8,
    "uint8": QuantType.QUInt8,
    "int16": QuantType.QInt16,
    "uint16": QuantType.QUInt16,
}
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


Feeds = Iterable["Mapping[str, NDArray[Any]]"]
GRAPH, WEIGHTS = "prepared.onnx", "prepared.data"
# Texts whose every tensor is held at once, where a histogram is taken of them.
CHUNK = 4
# Texts that run at the same time: each has a graph's tensors in memory.
AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is quantized, and how, beyond the stage's parameters."""

    op_types: tuple[str, ...]
    """Operators to quantize; empty for those of ONNX Runtime's own list."""
    spared: tuple[str, ...]
    """Names of nodes that stay in float."""
    extra: Mapping[str, Any]
    """`extra_options` of `quantize_static`."""

    @property
    def kinds(self) -> frozenset[str]:
        """Every operator to quantize."""
        return frozenset(self.op_types or {*QLinearOpsRegistry, *QDQRegistry})


def prepare(source: Path, scratch: Path) -> Path:
    """The graph as the quantizer wants it, constants folded and shapes known; its path, the weights beside it."""
    prepared = scratch / GRAPH
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(prepared)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS)
    # What shapes are computed from stays in the graph, where inference sees it.
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", str(SMALL * 8))
    # The session itself runs nothing.
    options.add_session_config_entry("session.disable_prepacking", "1")
    _session(source, options)
    extremes.record_shapes(prepared, _mark)
    return prepared


def _mark(model: onnx.ModelProto) -> None:
    """Say that the graph was prepared, and name its nodes: by name it is that some are left in float."""
    add_pre_process_metadata(model)
    for node in model.graph.node:
        node.name = node.name or f"{node.op_type} to {node.output[0]}"


def calibrate(model: Path, feeds: Feeds, params: Params, plan: Plan) -> TensorsData:
    """Run the feeds through the graph; every tensor's range. StageError where there is nothing to quantize."""
    if not extremes.observed(model, plan.kinds, plan.spared):
        raise StageError(
            f"there is nothing to quantize: the graph has none of {', '.join(sorted(plan.kinds))}",
            hint="name operators of this model in op_types",
        )
    if params.calibration_method == "minmax":
        return _extremes(model, feeds, plan)
    return _histograms(model, feeds, plan, params)


def _extremes(model: Path, feeds: Feeds, plan: Plan) -> TensorsData:
    """Smallest and largest of every tensor, taken inside the graph."""
    path = model.with_name("instrumented.onnx")
    outputs = extremes.instrument(model, plan.kinds, plan.spared, path)
    pairs = {pair: index for index, pair in enumerate(dict.fromkeys(outputs.values()))}
    asked = [output for pair in pairs for output in pair]
    seen = np.full((len(pairs), 2), (np.inf, -np.inf), dtype=np.float32)
    for found in _results(path, asked, feeds):
        now = np.array(found, dtype=np.float32).reshape(-1, 2)
        # A value that is no number tells nothing of the range.
        seen = np.stack([np.fmin(seen[:, 0], now[:, 0]), np.fmax(seen[:, 1], now[:, 1])], axis=1)
    bounds = {name: seen[pairs[pair]] for name, pair in outputs.items()}
    boundless.refuse_activations(bounds)
    ranges = {name: tuple(pair.reshape(2, 1)) for name, pair in bounds.items()}
    return TensorsData(CalibrationMethod.MinMax, ranges)


def _results(path: Path, asked: list[str], feeds: Feeds) -> Iterator[list[Any]]:
    """What a graph gives for each of the feeds. Several run at once, each on a core: one on many cores costs more."""
    at_once = min(cpu_count(), AT_ONCE)
    options = onnxruntime.SessionOptions()
    # Fused, a tensor would be gone before it was seen, or others would wait for it.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = cpu_count() // at_once
    # Threads that wait by spinning burn a core, and win nothing between operators as long as these.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = _session(path, options)
    waiting = iter(feeds)
    with ThreadPoolExecutor(at_once) as pool:
        while batch := list(islice(waiting, at_once)):
            yield from pool.map(lambda feed: list(answers(session, asked, feed).values()), batch)


def _histograms(model: Path, feeds: Feeds, plan: Plan, params: Params) -> TensorsData:
    """Ranges by ONNX Runtime's own calibrator, which holds every tensor of the feeds it is given at once."""
    calibrator = create_calibrator(
        model,
        sorted(plan.kinds),
        augmented_model_path=str(model.with_name("augmented.onnx")),
        calibrate_method=METHODS[params.calibration_method],
    )
    waiting = iter(feeds)
    while chunk := list(islice(waiting, CHUNK)):
        try:
            calibrator.collect_data(_Reader(iter(chunk)))
        except ValueError as error:
            # numpy's, which doesn't know whose numbers these are.
            raise StageError(
                f"no histogram can be taken of what the texts give: {error}", hint=boundless.HINT
            ) from error
        except ort_failures() as error:
            raise StageError(f"ONNX Runtime failed while it ran the model: {error}") from error
    return calibrator.compute_data()


class _Reader:
    """ONNX Runtime's CalibrationDataReader, by its shape."""

    def __init__(self, feeds: Iterator[Mapping[str, NDArray[Any]]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        feed = next(self._feeds, None)
        return dict(feed) if feed is not None else None


def _session(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[CPU])
    except ort_failures() as error:
        raise StageError(
            f"ONNX Runtime's CPU provider can't run the float graph, so there is nothing to quantize: {error}",
            hint="put quantize_qdq before the stage that makes operators for a device",
        ) from error


def quantize(model: Path, ranges: TensorsData, params: Params, plan: Plan, target: Path) -> onnx.ModelProto:
    """The quantized graph, which refers to its big weights in `target`, a folder that they are written to."""
    graph, weights = weightless.load(model)
    quantizer = blockquantizer.Quantizer(
        graph,
        weights,
        per_channel=params.per_channel,
        weight_qType=KINDS[params.weight_type],
        activation_qType=KINDS[params.activation_type],
        tensors_range=ranges,
        nodes_to_exclude=list(plan.spared),
        op_types_to_quantize=sorted(plan.kinds),
        extra_options=dict(plan.extra),
    )
    return quantizer.written(target)
