"""Quantize to int8 with NNCF, and write OpenVINO IR of one fixed shape."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from stagelib.api import Call, Result, Stage, StageError
from stagelib.modelinfo import ModelInfo

if TYPE_CHECKING:
    import openvino
    from numpy.typing import NDArray


COMPARED_WITH = "3.4"
"""The release of NNCF whose insides `stagelib.onepass` relies on, and with whose own result it was compared."""


@dataclass(frozen=True, kw_only=True)
class Params:
    """How to quantize."""

    batch_size: int
    sequence_length: int
    samples: int = 300
    """Calibration texts asked for. Where the data holds fewer, the result says so."""
    preset: Literal["mixed", "performance"] = "mixed"
    """`mixed`: symmetric weights, asymmetric activations. `performance`: both symmetric."""
    model_type: Literal["transformer"] | None = "transformer"
    """Keeps what transformers are sensitive to (residual sums, softmax) in float, and smooths activations."""
    smooth_quant_alpha: float | None = None
    """How much of what is hard to quantize SmoothQuant moves from activations into weights, 0 to 1; null for NNCF's own
    choice (0.95), -1 for none."""
    down_projections: bool = True
    """Quantize as well the products that shrink (a feed-forward block's second one). In float they lose the least and
    cost the most: a third of an encoder's arithmetic."""
    fast_bias_correction: bool = True
    trim_padding: bool = True
    """Calibrate on each text at its own length, where the model's shape is free; the shape is fixed afterwards. Padding
    costs time and widens the ranges. A model whose shape is fixed already takes its texts padded."""
    one_pass: bool = True
    """Run each calibration text once, where NNCF runs it twice, and compute what its second run would have seen. The
    same model but for rounding, in half the time; false for NNCF's own way."""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError("samples must be at least 1")
        alpha = self.smooth_quant_alpha
        if alpha is not None and alpha != -1 and not 0 <= alpha <= 1:
            raise ValueError("smooth_quant_alpha lies between 0 and 1, or is -1")


STAGE = Stage(
    summary="quantize to int8 with NNCF, to OpenVINO IR of a fixed shape",
    inputs=("model", "batches"),
    takes="onnx",
    makes="openvino",
    fixes_shape=True,
    rounds=True,
    params=Params,
    needs=("openvino", "nncf", "onnx", "numpy"),
    shaped=True,
)


def run(call: Call, params: Params) -> Result:
    """Write `model.xml` and `model.bin`; StageError without calibration rows, or where the shape can't be had."""
    # NNCF and the telemetry beneath it report each use to their maker, and write to the home, unless they see a CI.
    os.environ.update({"CI": "true", "NNCF_CI": "1"})
    call.progress(0.0, "importing OpenVINO and NNCF")
    import openvino

    from stagelib import batches, openvinofiles

    source = ModelInfo.read(call.input("model"))
    rows = batches.read_rows(call.input("batches"), batches.CALIBRATION)
    model = openvino.Core().read_model(call.input("model") / source.entry)
    inputs = [tensor.any_name for tensor in model.inputs]
    free = any(tensor.get_partial_shape().is_dynamic for tensor in model.inputs)
    trim = params.trim_padding and free
    if free and not trim:
        openvinofiles.fix_shape(model, params.batch_size, params.sequence_length)
    used = min(params.samples, batches.count(rows))
    spared = [] if params.down_projections else openvinofiles.down_projections(model)
    calibration = _Calibration(call, rows, inputs, used, params.batch_size, trim=trim)
    with _explained(model):
        quantized, passes = _quantize(call, model, calibration, params, _options(params, spared))
    call.progress(0.92, "writing the IR")
    openvinofiles.fix_shape(quantized, params.batch_size, params.sequence_length)
    openvinofiles.save(quantized, call.output, "int8")
    call.progress(1.0)
    return Result(facts=_facts(quantized, params, used, trim=trim) | {"left_in_float": len(spared), "passes": passes})


@contextlib.contextmanager
def _explained(model: openvino.Model) -> Iterator[None]:
    """Turn what NNCF raises of a graph that it can't take into a StageError: one with branches, as DeBERTa's."""
    import nncf

    try:
        yield
    except (nncf.InternalError, nncf.ValidationError) as error:
        branches = any(operation.get_type_name() == "If" for operation in model.get_ops())
        hint = "put fix_shape before quantize_nncf: a fixed shape leaves no branches (If)" if branches else ""
        raise StageError(f"NNCF can't quantize this model: {error}", hint=hint) from error


def _quantize(
    call: Call, model: openvino.Model, calibration: _Calibration, params: Params, options: dict[str, Any]
) -> tuple[openvino.Model, str]:
    """The quantized model, and how often its calibration texts were run."""
    import nncf

    given = {"subset_size": len(calibration), **options}
    smooths = params.model_type is not None and params.smooth_quant_alpha != -1
    if params.one_pass and smooths and not nncf.__version__.startswith(f"{COMPARED_WITH}."):
        call.log(f"calibrating in NNCF's own way: one pass is for NNCF {COMPARED_WITH}, and this is {nncf.__version__}")
    elif params.one_pass and smooths:
        from stagelib import onepass

        try:
            return onepass.quantize(model, nncf.Dataset(calibration), **given), "one"
        except onepass.NotOnePassError as error:
            call.log(f"calibrating in NNCF's own way: {error}")
    return nncf.quantize(model, nncf.Dataset(calibration), **given), "NNCF's own"


def _options(params: Params, spared: list[str]) -> dict[str, Any]:
    """The parameters as NNCF takes them; `spared` are the operations that stay in float."""
    import nncf

    return {
        "preset": nncf.QuantizationPreset(params.preset),
        "model_type": nncf.ModelType.TRANSFORMER if params.model_type else None,
        "fast_bias_correction": params.fast_bias_correction,
        "ignored_scope": nncf.IgnoredScope(names=spared) if spared else None,
        "advanced_parameters": _advanced(params),
    }


def _advanced(params: Params) -> Any:
    """What NNCF takes beside its main parameters; None leaves all of it to NNCF."""
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, AdvancedSmoothQuantParameters

    if params.smooth_quant_alpha is None:
        return None
    alphas = AdvancedSmoothQuantParameters(matmul=params.smooth_quant_alpha)
    return AdvancedQuantizationParameters(smooth_quant_alphas=alphas)


class _Calibration:
    """The calibration batches, for NNCF to go over as often as it likes; each step moves the progress on."""

    def __init__(
        self, call: Call, rows: Mapping[str, NDArray[Any]], inputs: list[str], used: int, batch_size: int, *, trim: bool
    ) -> None:
        from stagelib import batches

        self._call, self._rows, self._inputs, self._used = call, batches.first(rows, used), inputs, used
        self._size = 1 if trim else batch_size
        self._trim = trim
        self._seen = 0
        # The shortest first: the runtime meets each length once, and NNCF corrects biases on the first one's shape.
        lengths = self._rows[batches.MASK].sum(axis=1)
        self._order = [int(row) for row in lengths.argsort(kind="stable")]

    def __len__(self) -> int:
        return math.ceil(self._used / self._size)

    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]:
        from stagelib import batches

        if index >= len(self):
            raise IndexError(index)
        self._seen += 1
        # How many passes there are depends on NNCF's algorithms: approach the end, never reach it.
        passes = self._seen / len(self)
        self._call.progress(0.05 + 0.85 * passes / (passes + 1), f"calibrating, pass {int(passes - 1e-9) + 1}")
        batch = (
            batches.trimmed(self._rows, self._order[index])
            if self._trim
            else batches.take(self._rows, index * self._size, self._size)
        )
        return batches.feed(batch, self._inputs)


def _facts(model: openvino.Model, params: Params, used: int, *, trim: bool) -> dict[str, Any]:
    quantizers = sum(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops())
    if not quantizers:
        raise StageError("NNCF quantized nothing: the model holds no operation it knows")
    from stagelib import batches

    return batches.calibration_facts(used, params.samples) | {
        "calibrated_on": "texts without padding" if trim else "texts padded to the sequence length",
        "fake_quantize_nodes": quantizers,
    }
