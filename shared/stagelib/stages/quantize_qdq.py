"""`quantize_qdq`: static quantization by ONNX Runtime's own quantizer, as QuantizeLinear/DequantizeLinear pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stagelib.api import Call, Result, Stage, StageError
from stagelib.imports import uncollected
from stagelib.modelinfo import ModelInfo

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from stagelib.staticquantizer import Plan

QuantizedType = Literal["int8", "uint8", "int16", "uint16"]
EVERY = "*"
# QuantizeLinear has scales for channels, and then 16-bit types, from here on.
OPSET_OF_CHANNELS, OPSET_OF_16_BITS = 13, 21


@dataclass(frozen=True, kw_only=True)
class Params:
    """What ONNX Runtime's `quantize_static` is told."""

    activation_type: QuantizedType = "uint8"
    weight_type: QuantizedType = "int8"
    per_channel: bool = True
    calibration_method: Literal["minmax", "entropy", "percentile"] = "minmax"
    op_types: tuple[str, ...] | None = ("MatMul", "Gemm")
    """Operators to quantize; null for those of ONNX Runtime's own list; "*" alone for every one in the graph but Cast,
    as a compiler for integers wants it."""
    only_constant_weights: bool = False
    """Leave products of two activations (attention scores) in float."""
    down_projections: bool = False
    """Quantize as well the products that shrink (more inputs than outputs: a feed-forward block's second one). 8 bits
    are too coarse for what the activation before them lets through."""
    activation_symmetric: bool = False
    """Put the middle of an activation's range at zero: with signed types its zero point is then 0."""
    layer_norm_scale_type: QuantizedType | None = None
    """Type of the weights that scale a LayerNormalization; null for `weight_type`. Qualcomm's compiler (SDK 2.51)
    refuses int8 there."""
    minimum_range: float = 0.0
    """Least distance of an activation's smallest and largest value; Qualcomm's compiler wants 0.0001."""
    samples: int = 64

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError("samples must be at least 1")
        if self.minimum_range < 0:
            raise ValueError("minimum_range must not be negative")
        if (self.activation_type, self.weight_type) == ("int8", "uint8"):
            raise ValueError("ONNX Runtime has no operators for int8 activations and uint8 weights: take int8 weights")
        if self.op_types == ():
            raise ValueError('op_types is empty: give operators, null, or ["*"]')
        if self.op_types and EVERY in self.op_types and len(self.op_types) > 1:
            raise ValueError(f"op_types: {EVERY!r} stands alone")


STAGE = Stage(
    summary="quantize statically to QDQ with ONNX Runtime",
    inputs=("model", "batches"),
    takes="onnx",
    makes="onnx",
    rounds=True,
    params=Params,
    needs=("onnxruntime", "onnx", "numpy"),
)


def run(call: Call, params: Params) -> Result:
    """Write the quantized model.onnx; facts say how many texts calibrated and what is quantized and what isn't."""
    with uncollected():
        import onnx

        from stagelib import batches, onnxfiles, qdq, staticquantizer

    rows = batches.read_rows(call.input("batches"), batches.CALIBRATION)
    used = min(params.samples, batches.count(rows))
    call.progress(0.0, "preparing the graph")
    prepared = _prepare(call, params)
    model = onnx.load(prepared, load_external_data=False)
    plan = _plan(params, model.graph)
    shape = [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim]
    weights = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in weights]
    feeds = _feeds(call, batches.first(rows, used), names, max(shape[0], 1))
    ranges = staticquantizer.calibrate(prepared, feeds, params, plan)
    call.progress(0.85, "quantizing")
    quantized = staticquantizer.quantize(prepared, ranges, params, plan, call.output)
    onnxfiles.save(quantized, call.output, f"{params.activation_type}/{params.weight_type}")
    facts = batches.calibration_facts(used, params.samples) | qdq.counted(quantized)
    return Result(facts=facts | {"opset": qdq.opset(quantized), "left_in_float": len(plan.spared)})


def _prepare(call: Call, params: Params) -> Path:
    """The graph as ONNX Runtime's quantizer wants it, at an opset that has the types that are asked for."""
    import onnx

    from stagelib import qdq, staticquantizer

    prepared = staticquantizer.prepare(call.input("model") / ModelInfo.read(call.input("model")).entry, call.scratch)
    wide = {params.activation_type, params.weight_type, params.layer_norm_scale_type} & {"int16", "uint16"}
    model = onnx.load(prepared, load_external_data=False)
    least = OPSET_OF_16_BITS if wide else OPSET_OF_CHANNELS
    if (version := qdq.opset(model)) < least:
        call.log(f"opset {version} has no such quantization: converting to {least}")
        qdq.convert_opset(model, least)
        onnx.save(model, str(prepared))
    return prepared


def _plan(params: Params, graph: onnx.GraphProto) -> Plan:
    """What the quantizer is told of this graph."""
    from stagelib import qdq, staticquantizer

    every = params.op_types == (EVERY,)
    qdq.check_operators(() if every else params.op_types or (), graph)
    spared = [] if params.down_projections else list(qdq.down_projections(graph))
    # ONNX Runtime's own option for this, MatMulConstBOnly, changes nothing in QDQ format.
    spared += qdq.products_of_activations(graph) if params.only_constant_weights else []
    scales = qdq.layer_norm_scales(graph) if params.layer_norm_scale_type else []
    if params.layer_norm_scale_type and not scales:
        raise StageError(
            "layer_norm_scale_type is set, and the graph has no LayerNormalization with constant scales",
            hint="export at opset 17 or later",
        )
    overrides = {name: [{"quant_type": staticquantizer.KINDS[str(params.layer_norm_scale_type)]}] for name in scales}
    # Where part of the graph stays in float, the residual sum would read quantized values from a pair it shares.
    extra: dict[str, Any] = {"DedicatedQDQPair": params.op_types is not None and not every}
    extra |= {"ActivationSymmetric": True} if params.activation_symmetric else {}
    extra |= {"MinimumRealRange": params.minimum_range} if params.minimum_range else {}
    extra |= {"TensorQuantOverrides": overrides} if overrides else {}
    op_types = qdq.operators(graph) if every else (params.op_types or ())
    return staticquantizer.Plan(op_types=tuple(op_types), spared=tuple(spared), extra=extra)


def _feeds(call: Call, rows: Any, names: list[str], batch: int) -> Iterator[dict[str, NDArray[Any]]]:
    from stagelib import batches

    used = batches.count(rows)
    for start in range(0, used, batch):
        call.progress(0.1 + 0.7 * start / used, f"calibrating, sample {start + 1}")
        yield batches.feed(batches.take(rows, start, batch), names)
