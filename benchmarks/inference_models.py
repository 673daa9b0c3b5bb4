"""The models that `benchmarks.inference` measures, each made from the fp32 one: what OpenVINO and ONNX Runtime can do.

A maker is given the artifact with the fp32 model of fixed shape, the texts, how many of them calibrate, and an empty
folder, and leaves a model there that a runtime of the stage library loads.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagelib import onnxfiles, openvinofiles
from stagelib.api import Call
from stagelib.modelinfo import ModelInfo
from stagelib.stages import optimize, quantize_nncf, quantize_qdq

Maker = Callable[[Path, Path, int, Path], object]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model and what runs it. `make` is None for the fp32 model itself, which then stands against itself."""

    title: str
    runtime: str
    make: Maker | None = None
    similar: bool = True
    """Whether how like fp32 it is tells anything: not of fp32 itself."""


def openvino_fp32(model: Path, texts: Path, samples: int, output: Path) -> None:
    """OpenVINO's own form of the fp32 model."""
    del texts, samples
    import openvino

    openvinofiles.save(openvino.Core().read_model(model / ModelInfo.read(model).entry), output, "fp32")


def openvino_int8(model: Path, texts: Path, samples: int, output: Path) -> None:
    """`quantize_nncf` with its defaults."""
    size, length = ModelInfo.read(model).inputs[0].shape
    assert isinstance(size, int)
    assert isinstance(length, int)
    params = quantize_nncf.Params(batch_size=size, sequence_length=length, samples=samples)
    _run(quantize_nncf, params, output, model=model, batches=texts)


def qdq(**told: Any) -> Maker:
    """`quantize_qdq`, told that beside its defaults."""

    def make(model: Path, texts: Path, samples: int, output: Path) -> None:
        _run(quantize_qdq, quantize_qdq.Params(samples=samples, **told), output, model=model, batches=texts)

    return make


def dynamic(model: Path, texts: Path, samples: int, output: Path) -> None:
    """ONNX Runtime's `quantize_dynamic`: int8 weights, each activation's range taken while it runs; no calibration."""
    del texts, samples
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as scratch:
        source = onnxfiles.one_file(model, Path(scratch))
        quantize_dynamic(source, output / onnxfiles.ENTRY, weight_type=QuantType.QInt8, per_channel=True)
    onnxfiles.describe(onnxfiles.read(output / onnxfiles.ENTRY), output, "int8")


def dynamic_fused(model: Path, texts: Path, samples: int, output: Path) -> None:
    """The same on the graph with fused attention, whose quantized form ONNX Runtime has an operator for."""
    with tempfile.TemporaryDirectory() as scratch:
        fused = Path(scratch)
        params = optimize.Params(attention=True, skip_layer_norm=True)
        _run(optimize, params, fused, model=model)
        dynamic(fused, texts, samples, output)


def _run(stage: Any, params: Any, output: Path, **inputs: Path) -> None:
    """Run a stage here, and put what it passes on where the host would."""
    given: Mapping[Any, Path] = inputs
    with tempfile.TemporaryDirectory() as scratch:
        call = Call(stage=stage.__name__, inputs=given, output=output, scratch=Path(scratch), events=io.StringIO())
        stage.run(call, params)
    for name, (role, source) in call.passed.items():
        (output / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(call.input(role) / source, output / name)


CANDIDATES: Mapping[str, Candidate] = {
    "ort-fp32": Candidate(title="ONNX Runtime fp32, against itself", runtime="onnxruntime", similar=False),
    "openvino-fp32": Candidate(title="OpenVINO fp32", runtime="openvino", make=openvino_fp32),
    "openvino-int8": Candidate(title="OpenVINO int8 (NNCF)", runtime="openvino", make=openvino_int8),
    "ort-qdq": Candidate(title="ONNX Runtime QDQ u8s8, our defaults", runtime="onnxruntime", make=qdq()),
    "ort-qdq-all": Candidate(
        title="ONNX Runtime QDQ u8s8, down projections too", runtime="onnxruntime", make=qdq(down_projections=True)
    ),
    "ort-qdq-s8s8": Candidate(
        title="ONNX Runtime QDQ s8s8, down projections too",
        runtime="onnxruntime",
        make=qdq(activation_type="int8", down_projections=True),
    ),
    "ort-dynamic": Candidate(title="ONNX Runtime dynamic int8", runtime="onnxruntime", make=dynamic),
    "ort-dynamic-fused": Candidate(
        title="ONNX Runtime dynamic int8, fused attention", runtime="onnxruntime", make=dynamic_fused
    ),
}
