"""`quantize_quark`: static quantization by AMD Quark, as QuantizeLinear/DequantizeLinear pairs."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stagelib.api import Call, Result, Stage, StageError
from stagelib.modelinfo import ModelInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

LIBRARY = "quark/onnx/operators/custom_ops/_C"


@dataclass(frozen=True, kw_only=True)
class Params:
    """Which of Quark's own configurations, and what is changed in it."""

    config: Literal["A16W8", "INT16_TRANSFORMER_DEFAULT"] = "A16W8"
    """`A16W8`: symmetric int16 activations, symmetric int8 weights and float scales, as AMD documents it for Ryzen AI.
    `INT16_TRANSFORMER_DEFAULT`: uint16 activations and int16 weights, of the products alone. Quark has others: with
    8-bit activations a sentence encoder is lost (cosine 0.63), and its 8-bit one for transformers fails per channel."""
    per_channel: bool = True
    """A scale for each output channel of a weight; AMD's configurations have one for the whole tensor."""
    samples: int = 10

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError("samples must be at least 1")


STAGE = Stage(
    summary="quantize statically to QDQ with AMD Quark",
    inputs=("model", "batches"),
    takes="onnx",
    makes="onnx",
    rounds=True,
    params=Params,
    needs=("amd-quark", "torch", "onnxruntime", "onnx", "numpy"),
)


def run(call: Call, params: Params) -> Result:
    """Write the quantized model.onnx; StageError where Quark's operators can't be compiled, or it quantizes nothing."""
    _import_quark(call)
    import onnx
    from quark.onnx import ModelQuantizer
    from quark.onnx.quantization.config import Config, get_default_config

    from stagelib import batches, fusions, onnxfiles, qdq, quantized

    info = ModelInfo.read(call.input("model"))
    rows = batches.read_rows(call.input("batches"), batches.CALIBRATION)
    used = min(params.samples, batches.count(rows))
    config = get_default_config(params.config)
    config.per_channel = params.per_channel
    whole = call.scratch / "whole"
    whole.mkdir()
    source = onnxfiles.one_file(call.input("model"), whole)
    config.use_external_data_format = source.with_name(onnxfiles.WEIGHTS).is_file()
    target = call.scratch / onnxfiles.ENTRY
    call.progress(0.2, "calibrating and quantizing")
    ModelQuantizer(Config(global_quant_config=config)).quantize_model(
        str(source), str(target), _Reader(info, rows, used)
    )
    call.progress(0.8, "writing the model")
    model = onnx.load(str(target))
    # Quark declares every operator set it knows, its own too, which no other runtime has.
    fusions.tidy_opsets(model)
    found = quantized.precision(model.graph)
    if found == "fp32":
        raise StageError("Quark quantized nothing: the model holds no operator it knows")
    onnxfiles.save(model, call.output, found)
    call.progress(1.0)
    facts = {"config": params.config, "per_channel": params.per_channel, "precision": found, "opset": qdq.opset(model)}
    return Result(facts=batches.calibration_facts(used, params.samples) | facts | qdq.counted(model))


def _import_quark(call: Call) -> None:
    """Import Quark, which compiles C++ operators where it finds none; StageError where it can't."""
    call.progress(0.0, "importing Quark")
    os.environ["TORCH_EXTENSIONS_DIR"] = str(call.scratch / "extensions")
    # ninja, which drives the compiler, is a program of this environment, whose folder need not be on the path.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    paths = sysconfig.get_paths()
    compiled = Path(paths["purelib"], f"{LIBRARY}{sysconfig.get_config_var('EXT_SUFFIX')}")
    if not compiled.is_file():
        _need_compiler(shutil.which(os.environ.get("CXX", "c++")), Path(paths["include"], "Python.h"))
        call.log("compiling Quark's operators: half a minute")
    try:
        import quark.onnx  # noqa: F401
    except RuntimeError as error:
        hint = "the log holds what the compiler said; --engine=docker has them compiled"
        raise StageError(f"Quark's C++ operators can't be had: {error}", hint=hint) from error


def _need_compiler(compiler: str | None, header: Path) -> None:
    """StageError where there is no C++ compiler, or no Python header for it."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if compiler is None:
        raise StageError(
            "Quark needs a C++ compiler: it compiles operators of its own when it is imported",
            hint="apt-get install g++, or use --engine=docker, whose image has them compiled",
        )
    if not header.is_file():
        raise StageError(
            f"Quark compiles operators of its own when it is imported, and {header} is missing",
            hint=f"apt-get install python{version}-dev, or use --engine=docker, whose image has them compiled",
        )


class _Reader:
    """ONNX Runtime's CalibrationDataReader, by its shape. Quark keeps what it has read."""

    def __init__(self, info: ModelInfo, rows: Any, used: int) -> None:
        self._size = info.inputs[0].shape[0]
        self._feeds = self._batches([tensor.name for tensor in info.inputs], rows, used)
        self._used = used

    def __len__(self) -> int:
        return self._used

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._feeds, None)

    def _batches(self, names: list[str], rows: Any, used: int) -> Iterator[dict[str, NDArray[Any]]]:
        from stagelib import batches

        size = self._size if isinstance(self._size, int) else 1
        rows = batches.first(rows, used)
        for start in range(0, used, size):
            yield batches.feed(batches.take(rows, start, size), names)
