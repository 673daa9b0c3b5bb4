"""NNCF's statistics of a model, taken by one single-threaded stream a core.

NNCF runs one text at a time on every core, whose threads then wait for each other at each short operation. A text a
core costs fewer CPU seconds and no more time. What is collected doesn't depend on how many streams there are: texts
are registered in their order, and each is computed by one thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from nncf import Dataset
from nncf.common.factory import ModelTransformerFactory
from nncf.common.tensor_statistics.statistic_point import StatisticPointsContainer
from nncf.openvino.graph.node_utils import get_reducer_output_node_names
from nncf.openvino.statistics.aggregator import OVStatisticsAggregator
from nncf.tensor import Tensor
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def collect(
    containers: Iterable[StatisticPointsContainer], model: Any, graph: Any, dataset: Dataset, streams: int
) -> None:
    """Have every point see the model run on all inputs of the dataset, in fp32."""
    aggregator = _Aggregator(dataset, streams)
    for points in containers:
        aggregator.register_statistic_points(points)
    aggregator.collect_statistics(model, graph)


class _Aggregator(OVStatisticsAggregator):  # type: ignore[misc]  # NNCF isn't where types are checked
    def __init__(self, dataset: Dataset, streams: int) -> None:
        super().__init__(dataset)
        self._streams = streams

    def collect_statistics(self, model: Any, graph: Any) -> None:
        """As NNCF does it, but for how the model is run."""
        self._name_to_node_mapping = {operation.get_friendly_name(): operation for operation in model.get_ops()}
        merged = self._get_merged_statistic_points(self.statistic_points, model, graph)
        layout = self._get_transformation_layout_extra_outputs(merged)
        watched = ModelTransformerFactory.create(model).transform(layout)
        inputs = islice(self.dataset.get_inference_data(), self._get_iterations_number())
        taken = self._taken(merged)
        for outputs in run_all(watched, inputs, self._streams):
            for reducer, port, aggregator, name in taken:
                # What the graph has reduced is an output already.
                given = [Tensor(outputs[name])]
                reduced = given if reducer.inplace else reducer(given)
                if reduced is not None:
                    aggregator.register_reduced_input(reduced[port])

    def _taken(self, merged: StatisticPointsContainer) -> list[tuple[Any, int, Any, str]]:
        """Each aggregator with its reducer and the output that this takes: NNCF finds that out anew for each text."""
        taken = []
        for _, point, collector in merged.get_tensor_collectors():
            node, port, _ = self._translate_to_post_layer_operation(point)
            reducers = {hash(reducer): reducer for reducer in collector.reducers}
            for (key, reduced_port, _), aggregator in collector.aggregators.items():
                one = reducers[key]
                (name,) = get_reducer_output_node_names(one.name, node, port, one.output_port_id, one.inplace)
                taken.append((one, reduced_port, aggregator, name))
        return taken


def run_all(model: Any, inputs: Iterable[Arrays], streams: int) -> Iterator[Arrays]:
    """The model's outputs by name, in the order of the inputs, `streams` of them computed at once."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    free = deque(compiled.create_infer_request() for _ in range(streams))
    busy: deque[Any] = deque()

    def finished() -> Arrays:
        request = busy.popleft()
        request.wait()
        # Copies: the next text is computed into the same memory.
        arrays = [(port.get_names(), np.array(request.get_tensor(port).data)) for port in compiled.outputs]
        free.append(request)
        return {name: array for names, array in arrays for name in names}

    for given in inputs:
        if not free:
            yield finished()
        busy.append(free.popleft())
        busy[-1].start_async(given)
    while busy:
        yield finished()
