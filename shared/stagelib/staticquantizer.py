"""ONNX Runtime's static quantizer in two steps, ranges first, so that no two copies of a graph are in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

if TYPE_CHECKING:
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


class Reader(Protocol):
    """What gives the calibrator one feed after the other."""

    def get_next(self) -> dict[str, NDArray[Any]] | None: ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is quantized, and how, beyond the stage's parameters."""

    op_types: tuple[str, ...]
    """Operators to quantize; empty for those of ONNX Runtime's own list."""
    spared: tuple[str, ...]
    """Names of nodes that stay in float."""
    extra: Mapping[str, Any]
    """`extra_options` of `quantize_static`."""


def calibrate(model: Path, reader: Reader, params: Params, plan: Plan, scratch: Path) -> Path:
    """Run the feeds through the graph and write every tensor's range to a file, whose path is returned."""
    known = tuple({*QLinearOpsRegistry, *QDQRegistry})
    calibrator = create_calibrator(
        model,
        list(plan.op_types or known),
        augmented_model_path=str(scratch / "augmented.onnx"),
        calibrate_method=METHODS[params.calibration_method],
    )
    calibrator.collect_data(reader)
    ranges = scratch / "ranges.json"
    save_tensors_data(calibrator.compute_data(), ranges)
    return ranges


def quantize(model: Path, ranges: Path, params: Params, plan: Plan, target: Path) -> None:
    """Write the quantized graph to `target`."""
    quantize_static(
        model,
        target,
        None,
        quant_format=QuantFormat.QDQ,
        activation_type=KINDS[params.activation_type],
        weight_type=KINDS[params.weight_type],
        per_channel=params.per_channel,
        calibrate_method=METHODS[params.calibration_method],
        calibration_cache_path=ranges,
        op_types_to_quantize=list(plan.op_types) or None,
        nodes_to_exclude=list(plan.spared),
        extra_options=dict(plan.extra),
    )
