"""ONNX Runtime's `quantize_static` beside the stage, on a graph with what such graphs rarely have. Runs in a toolchain.

`stock_qdq.py graph FOLDER` · `stock MODEL_FOLDER BATCHES PARAMS OUTPUT` · `differences FOLDER FOLDER`
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from stagelib import batches, onnxfiles, staticquantizer
from stagelib.stages import quantize_qdq

LENGTH, HIDDEN, INNER, VOCABULARY = 32, 256, 512, 700


def graph(folder: Path) -> None:
    """A tied embedding; a weight whose rows are one product's channels and its columns another's; a weight that is a
    graph input too; a product of two activations; a channel of zeros; a bias far beyond what its weight's scale holds.
    """
    random = np.random.default_rng(0)
    constants: dict[str, Any] = {
        "table": random.normal(size=(VOCABULARY, HIDDEN)),
        "up": random.normal(size=(HIDDEN, INNER)) / 16,
        "both": random.normal(size=(INNER, INNER)) / 22,
        "given": random.normal(size=(HIDDEN, HIDDEN)) / 16,
        "bias": random.normal(size=INNER),
        "flat": [LENGTH, -1],
    }
    constants["up"][:, 3] = 0
    constants["both"][5] *= 1e-9
    constants["bias"][5] = 1e6
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "given"], ["mixed"]),
        helper.make_node("Transpose", ["mixed"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["mixed", "turned"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"]),
        helper.make_node("MatMul", ["shares", "mixed"], ["attended"]),
        helper.make_node("MatMul", ["attended", "up"], ["wide"]),
        helper.make_node("MatMul", ["mixed", "up"], ["wide_too"]),
        helper.make_node("Add", ["wide", "wide_too"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["bent"]),
        helper.make_node("MatMul", ["bent", "both"], ["by_columns"]),
        helper.make_node("Reshape", ["by_columns", "flat"], ["rows"]),
        helper.make_node("Gemm", ["rows", "both", "bias"], ["by_rows"], transB=1),
        helper.make_node("Reshape", ["attended", "flat"], ["attended_rows"]),
        helper.make_node("Gemm", ["attended_rows", "table"], ["logits"], transB=1),
    ]
    for index, node in enumerate(nodes):
        node.name = f"{node.op_type}_{index}"
    initializers = [
        numpy_helper.from_array(np.array(value, np.int64 if name == "flat" else np.float32), name)
        for name, value in constants.items()
    ]
    made = helper.make_graph(
        nodes,
        "odd",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, LENGTH]),
            helper.make_tensor_value_info("given", TensorProto.FLOAT, [HIDDEN, HIDDEN]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("by_rows", "logits")],
        initializers,
    )
    for output, size in zip(made.output, (INNER, VOCABULARY), strict=True):
        output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, [LENGTH, size]))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnxfiles.save(model, folder, "fp32")


def stock(model: Path, rows_folder: Path, given: str, output: Path) -> None:
    values: dict[str, Any] = json.loads(given)
    if values.get("op_types"):
        values["op_types"] = tuple(values["op_types"])
    params = quantize_qdq.Params(**values)
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(onnxfiles.one_file(model, Path(scratch)), prepared, skip_symbolic_shape=True)
        plan = quantize_qdq._plan(params, onnx.load(prepared).graph)
        rows = batches.read_rows(rows_folder, batches.CALIBRATION)
        feeds = iter([{"input_ids": batches.take(rows, row, 1)["input_ids"]} for row in range(batches.count(rows))])
        quantize_static(
            prepared,
            output / "model.onnx",
            _Reader(feeds),
            activation_type=staticquantizer.KINDS[params.activation_type],
            weight_type=staticquantizer.KINDS[params.weight_type],
            per_channel=params.per_channel,
            op_types_to_quantize=list(plan.op_types) or None,
            nodes_to_exclude=list(plan.spared),
            extra_options=dict(plan.extra),
        )


class _Reader:
    def __init__(self, feeds: Any) -> None:
        self._feeds = feeds

    def get_next(self) -> Any:
        return next(self._feeds, None)


def differences(ours: Path, theirs: Path) -> dict[str, Any]:
    """Names of initializers and nodes that are not the same on both sides, and how many are."""
    one, other = (onnxfiles.read(folder / "model.onnx").graph for folder in (ours, theirs))
    initializers, wanted = ({tensor.name: _content(tensor) for tensor in side.initializer} for side in (one, other))
    nodes, wanted_nodes = ({node.name: _written(node) for node in side.node} for side in (one, other))
    return {
        "same": len(initializers.items() & wanted.items()),
        "initializers": sorted({name for name, _ in initializers.items() ^ wanted.items()}),
        "nodes": sorted({name for name, _ in nodes.items() ^ wanted_nodes.items()}),
        "integers": sorted({str(content[0]) for name, content in initializers.items() if name.endswith("_quantized")}),
    }


def _written(node: onnx.NodeProto) -> tuple[Any, ...]:
    """All of a node; attributes that have their default may be left out."""
    defaults = onnx.defs.get_schema(node.op_type, 21).attributes
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    usual = {
        name: helper.get_attribute_value(default.default_value)
        for name, default in defaults.items()
        if default.default_value.name
    }
    return node.op_type, node.domain, *node.input, ">", *node.output, repr(sorted((usual | given).items()))


def _content(tensor: onnx.TensorProto) -> tuple[str, tuple[int, ...], bytes]:
    array = numpy_helper.to_array(tensor)
    return str(array.dtype), array.shape, array.tobytes()


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    if task == "graph":
        graph(Path(arguments[0]))
    elif task == "stock":
        stock(Path(arguments[0]), Path(arguments[1]), arguments[2], Path(arguments[3]))
    else:
        print(json.dumps(differences(Path(arguments[0]), Path(arguments[1]))))
