"""Graphs whose big weights stay in the file beside them, and have stand-ins of two numbers in the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import external_data_helper, numpy_helper

from stagelib import bigweights, graphwalk
from stagelib.bigweights import Weight

# A node's inputs from this one on are biases and parameters, whose numbers a quantizer wants.
PARAMETERS = 2
_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16})


def load(path: Path) -> tuple[onnx.ModelProto, dict[str, Weight]]:
    """A graph with shapes inferred, and those weights of it that have a stand-in."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False))
    needed = {name for node in model.graph.node for name in node.input[PARAMETERS:]}
    weights = {}
    for tensor in model.graph.initializer:
        matrix = tensor.data_type in _FLOATS and len(tensor.dims) > 1
        if matrix and tensor.name not in needed and external_data_helper.uses_external_data(tensor):
            weights[tensor.name] = bigweights.find(tensor, path.parent)
            stand_in(tensor, weights[tensor.name], None, (0, 0))
    for tensor in (*model.graph.initializer, *graphwalk.inner_initializers(model.graph)):
        if external_data_helper.uses_external_data(tensor):
            _read(tensor, path.parent)
    return model, weights


def _read(tensor: onnx.TensorProto, folder: Path) -> None:
    """Have an initializer hold its numbers."""
    external_data_helper.load_external_data_for_tensor(tensor, str(folder))
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")


def stand_in(tensor: onnx.TensorProto, weight: Weight, axis: int | None, extremes: tuple[Any, Any]) -> None:
    """Have an initializer hold two numbers in a shape of as many dimensions as its own, and one channel on `axis`."""
    shape = [1] * len(weight.shape)
    shape[1 if axis == 0 else 0] = 2
    made = numpy_helper.from_array(np.array(extremes, weight.dtype).reshape(shape), tensor.name)
    tensor.CopyFrom(made)
