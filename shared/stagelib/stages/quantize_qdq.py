"""`quantize_qdq`: static quantization by ONNX Runtime's own quantizer, as QuantizeLinear/DequantizeLinear pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from stagelib.api import Call, Result, Stage
from stagelib.modelinfo import ModelInfo

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

QuantizedType = Literal["int8", "uint8", "int16", "uint16"]


@dataclass(frozen=True, kw_only=True)
class Params:
    """What ONNX Runtime's `quantize_static` is told."""

    activation_type: QuantizedType = "uint8"
    weight_type: QuantizedType = "int8"
    per_channel: bool = True
    calibration_method: Literal["minmax", "entropy", "percentile"] = "minmax"
    op_types: tuple[str, ...] | None = ("MatMul", "Gemm")
    """Operators to quantize; null for all that the quantizer knows."""
    only_constant_weights: bool = True
    """Leave products of two activations (attention scores) in float."""
    down_projections: bool = False
    """Quantize as well the products that shrink (more inputs than outputs: a feed-forward block's second one). 8 bits
    are too coarse for what the activation before them lets through."""
    samples: int = 64

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError("samples must be at least 1")


STAGE = Stage(
    summary="quantize statically to QDQ with ONNX Runtime",
    inputs=("model", "batches"),
    takes="onnx",
    makes="onnx",
    params=Params,
    needs=("onnxruntime", "onnx", "numpy"),
)


def run(call: Call, params: Params) -> Result:
    """Write the quantized model.onnx; facts say how many texts calibrated and how many pairs there are."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from stagelib import batches, onnxfiles

    source = call.input("model") / ModelInfo.read(call.input("model")).entry
    rows = batches.read_rows(call.input("batches"), batches.CALIBRATION)
    used = min(params.samples, batches.count(rows))
    prepared = call.scratch / "prepared.onnx"
    call.progress(0.0, "preparing the graph")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    model = onnx.load(prepared, load_external_data=False)
    spared = [] if params.down_projections else list(_down_projections(model))
    shape = [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim]
    reader = _Reader(call, _feeds(rows, [value.name for value in model.graph.input], used, max(shape[0], 1)), used)
    kinds = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8, "int16": QuantType.QInt16, "uint16": QuantType.QUInt16}
    methods = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
    target = call.output / onnxfiles.ENTRY
    quantize_static(
        prepared,
        target,
        reader,
        quant_format=QuantFormat.QDQ,
        activation_type=kinds[params.activation_type],
        weight_type=kinds[params.weight_type],
        per_channel=params.per_channel,
        calibrate_method=CalibrationMethod[methods[params.calibration_method]],
        op_types_to_quantize=list(params.op_types) if params.op_types else None,
        nodes_to_exclude=spared,
        # Without a pair of its own for each consumer, the residual sum would read the quantized values as well.
        extra_options={"MatMulConstBOnly": params.only_constant_weights, "DedicatedQDQPair": True},
    )
    quantized = onnx.load(target)
    onnxfiles.describe(quantized, call.output, f"{params.activation_type}/{params.weight_type}")
    counts = {kind: sum(node.op_type == kind for node in quantized.graph.node) for kind in _PAIRS}
    return Result(
        facts=batches.calibration_facts(used, params.samples) | {"nodes": counts, "left_in_float": len(spared)}
    )


_PAIRS = ("QuantizeLinear", "DequantizeLinear")


def _down_projections(model: onnx.ModelProto) -> Iterator[str]:
    """Names of the products by a weight that has more inputs than outputs."""
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        size = sizes.get(node.input[1], ()) if node.op_type in {"MatMul", "Gemm"} else ()
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        if len(size) == 2 and (size[0] < size[1] if transposed else size[0] > size[1]):  # noqa: PLR2004  # a matrix
            yield node.name


def _feeds(rows: Any, names: list[str], used: int, batch: int) -> Iterator[dict[str, NDArray[Any]]]:
    from stagelib import batches

    for start in range(0, used, batch):
        yield batches.feed(batches.take(rows, start, batch), names)


class _Reader:
    """ONNX Runtime's CalibrationDataReader, by its shape."""

    def __init__(self, call: Call, feeds: Iterator[dict[str, NDArray[Any]]], total: int) -> None:
        self._call = call
        self._feeds = feeds
        self._total = total
        self._seen = 0

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        self._seen += 1
        self._call.progress(0.1 + 0.7 * min(self._seen / self._total, 1.0), f"calibrating, sample {self._seen}")
        return next(self._feeds, None)
