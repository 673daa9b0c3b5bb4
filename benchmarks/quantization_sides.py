"""The two sides of `benchmarks.quantization`, each run in a process of its own, and how like fp32 their results are."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quantization import LENGTH
from stagelib import batches, embedding, onnxfiles, similarity
from stagelib.api import Call
from stagelib.modelinfo import ModelInfo
from stagelib.stages import quantize_nncf, quantize_qdq


def stock_nncf(model: Path, texts: Path, samples: int, output: Path) -> None:
    """NNCF's call with its defaults for a transformer, on texts padded to the fixed length."""
    import nncf
    import openvino

    graph = openvino.Core().read_model(model / "model.onnx")
    names = [tensor.any_name for tensor in graph.inputs]
    graph.reshape({name: [1, LENGTH] for name in names})
    feeds = _feeds(texts, samples, names)
    quantized = nncf.quantize(graph, nncf.Dataset(feeds), subset_size=len(feeds), model_type=nncf.ModelType.TRANSFORMER)
    openvino.save_model(quantized, output / "model.xml", compress_to_fp16=False)


def stock_qdq(model: Path, texts: Path, samples: int, output: Path) -> None:
    """ONNX Runtime's pre-processing and `quantize_static`, told what the stage tells it."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from stagelib import qdq

    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(model / "model.onnx", prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        spared = list(qdq.down_projections(graph))
        feeds = iter(_feeds(texts, samples, [value.name for value in graph.input]))
        del graph
        quantize_static(
            prepared,
            output / "model.onnx",
            _Reader(feeds),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=spared,
            extra_options={"DedicatedQDQPair": True},
        )


class _Reader:
    def __init__(self, feeds: Any) -> None:
        self._feeds = feeds

    def get_next(self) -> Any:
        return next(self._feeds, None)


def ours(kind: str, model: Path, texts: Path, samples: int, output: Path) -> None:
    """The stage, with its defaults."""
    with tempfile.TemporaryDirectory() as scratch:
        inputs: Any = {"model": model, "batches": texts}
        call = Call(stage=kind, inputs=inputs, output=output, scratch=Path(scratch), events=io.StringIO())
        if kind == "nncf":
            quantize_nncf.run(call, quantize_nncf.Params(batch_size=1, sequence_length=LENGTH, samples=samples))
        else:
            quantize_qdq.run(call, quantize_qdq.Params(samples=samples))


def in_one_file(model: Path, scratch: Path) -> None:
    """Write an artifact's model with its weights in one file to `scratch`; nothing where it has them so."""
    if onnxfiles.one_file(model, scratch).parent == scratch:
        files = tuple(path.name for path in scratch.iterdir())
        dataclasses.replace(ModelInfo.read(model), files=files).write(scratch)


def _feeds(texts: Path, samples: int, names: Sequence[str]) -> list[dict[str, Any]]:
    rows = batches.read_rows(texts, batches.CALIBRATION)
    return [batches.feed(batches.take(rows, row, 1), names) for row in range(min(samples, batches.count(rows)))]


def alike(reference: Path, texts: Path, models: Sequence[Path]) -> list[tuple[float, float]]:
    """Mean and least cosine of each model's embeddings with the fp32 model's, on texts that calibrated nothing."""
    rows = batches.read_rows(texts, batches.EVALUATION)
    expected = embedding.embed_rows(_Session(reference), rows, 1)
    found = [similarity.cosines(embedding.embed_rows(_Session(model), rows, 1), expected) for model in models]
    return [(float(one.mean()), float(one.min())) for one in found]


class _Session:
    """A model of either format, by what `embed_rows` asks of it."""

    device_name = "CPU"

    def __init__(self, path: Path) -> None:
        self.settings: dict[str, Any] = {}
        self._run: Any
        if path.suffix == ".xml":
            import openvino

            compiled = openvino.Core().compile_model(path, "CPU")
            self.inputs = tuple(tensor.any_name for tensor in compiled.inputs)
            self._run = lambda batch: [compiled(batch)[0]]
        else:
            import onnxruntime

            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            self.inputs = tuple(tensor.name for tensor in session.get_inputs())
            self._run = lambda batch: session.run(None, batch)

    def run(self, batch: Any) -> dict[str, Any]:
        return {"hidden": np.asarray(self._run(dict(batch))[0])}

    def placement(self) -> tuple[Any, ...]:
        return ()


def main(argv: Sequence[str]) -> None:
    if argv[0] == "similarity":
        found, reference, texts, *models = map(Path, argv[1:])
        found.write_text(json.dumps(alike(reference, texts, models)))
        return
    if argv[0] == "whole":
        in_one_file(Path(argv[1]), Path(argv[2]))
        return
    kind, side, model, rows, samples, output = argv
    paths = (Path(model), Path(rows), int(samples), Path(output))
    if side == "ours":
        ours(kind, *paths)
    else:
        (stock_nncf if kind == "nncf" else stock_qdq)(*paths)


if __name__ == "__main__":
    main(sys.argv[1:])
