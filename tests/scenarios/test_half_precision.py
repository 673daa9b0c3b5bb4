"""Fusion, fp16 and TensorRT-RTX engines on real graphs: what fits, what doesn't, and what each stage says of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portwright.project import this_project
from support.seeds import Seeds
from support.stage_call import Finished, Stages

pytestmark = pytest.mark.scenario
ENGINE = "model_sm86_sm89_sm120.engine"
# The last argument's initializers, found by a piece of the name of the node that reads them, times a factor.
SCALE = """
import sys, onnx
from onnx import numpy_helper
path, needle, operator, factor = sys.argv[1:]
model = onnx.load(path)
weights = {tensor.name: tensor for tensor in model.graph.initializer}
found = [node for node in model.graph.node if needle in node.name and node.op_type == operator]
for node in found[-1:]:
    for name in node.input[1:]:
        scaled = numpy_helper.to_array(weights[name]) * float(factor)
        weights[name].CopyFrom(numpy_helper.from_array(scaled.astype("float32"), name))
assert found
onnx.save(model, path)
"""

# Every number that fp16 has no equal of is as the converter has it, block by block or not.
HALVES = """
import numpy as np
from onnxruntime.transformers.float16 import convert_np_to_float16
from stagelib.halfprecision import halved
edges = [0.0, 1e-45, 1e-9, 5.9e-8, 5.96e-08, 6e-8, 1e-7, 6.1e-5, 1.0, 65504, 65519, 65520, 1e9, 3.4e38, np.inf, np.nan]
drawn = np.exp(np.random.default_rng(0).uniform(-30, 20, 5000))
numbers = np.concatenate([edges, drawn]).astype(np.float32)
for given in (numbers, -numbers, np.stack([numbers, -numbers]), np.zeros(0, np.float32)):
    mine, stock = halved(given), convert_np_to_float16(given)
    assert mine.dtype == stock.dtype == np.float16
    assert np.array_equal(mine.view(np.uint16), stock.view(np.uint16)), (given, mine, stock)
"""

# The tokens' ids go through a table of their own, big enough to be a file.
TABLE = """
import sys
from pathlib import Path
import numpy as np, onnx
from stagelib import onnxfiles
source, target = map(Path, sys.argv[1:])
model = onnxfiles.load(source)
for node in model.graph.node:
    node.input[:] = ["looked_up" if name == "input_ids" else name for name in node.input]
model.graph.initializer.append(onnx.numpy_helper.from_array(np.arange(40_000), "table"))
model.graph.node.insert(0, onnx.helper.make_node("Gather", ["table", "input_ids"], ["looked_up"], "lookup"))
onnxfiles.save(model, target, "fp32")
"""


def made(finished: Finished) -> Path:
    """The output of a stage that must have gone well."""
    assert finished.report["ok"], finished.report
    return finished.output


class Graphs:
    """A tiny BERT of random weights, as the stages before fp16 leave it; each stage in its own toolchain."""

    def __init__(self, folder: Path, python: Callable[[str], Path], exported: Path) -> None:
        self.ort, self.rtx = Stages(folder / "ort", python("ort")), Stages(folder / "trt", python("trt"))
        shape = {"batch_size": 1, "sequence_length": 16}
        self.unmasked = made(self.ort.run("fix_shape", shape, {"model": exported}))
        surgery = {"mask_value": -10000.0, "matmul_add_to_gemm": True}
        self.model = made(self.ort.run("surgery", surgery, {"model": self.unmasked}))
        self.batches = folder / "batches"
        self.batches.mkdir()
        mask = np.ones((4, 16), np.int64)
        mask[:, 9:] = 0
        ids = np.random.default_rng(0).integers(0, 1000, (4, 16), np.int64) * mask
        arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}
        np.savez(self.batches / "calibration.npz", allow_pickle=False, **arrays)

    def optimize(self, model: Path, **params: Any) -> Finished:
        return self.ort.run("optimize", params, {"model": model})

    def float16(self, model: Path, **params: Any) -> Finished:
        return self.ort.run("float16", params, {"model": model, "batches": self.batches})

    def engine(self, model: Path, **params: Any) -> Finished:
        return self.rtx.run("compile_trt", params, {"model": model})

    def scaled(self, copy: Path, needle: str, operator: str, factor: float) -> Path:
        """The model with one node's weights grown until its results no longer fit into fp16."""
        shutil.copytree(self.model, copy)
        command = [self.ort.python, "-c", SCALE, copy / "model.onnx", needle, operator, factor]
        subprocess.run([str(part) for part in command], check=True)
        return copy


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory, toolchain_python: Callable[[str], Path], seeds: Seeds) -> Graphs:
    return Graphs(tmp_path_factory.mktemp("graphs"), toolchain_python, seeds.export("synthetic:bert-tiny", 17))


def described(folder: Path) -> dict[str, Any]:
    description: dict[str, Any] = json.loads((folder / "model.json").read_text())
    return description


def test_fusion_keeps_the_border_and_the_results(graphs: Graphs) -> None:
    fused = graphs.optimize(graphs.unmasked, opt_level=0, attention=True, skip_layer_norm=True)
    assert fused.facts["fused"] == {"gelu": 2, "layer_norm": 5, "attention": 2, "skip_layer_norm": 4}
    assert fused.facts["operators"]["com.microsoft.Attention"] == 2
    assert fused.facts["num_heads"] == 2
    assert 0 < fused.facts["max_abs_diff"] < 1e-4
    before, after = described(graphs.unmasked), described(fused.output)
    assert (before["inputs"], before["outputs"]) == (after["inputs"], after["outputs"])


def test_what_finds_nothing_to_fuse_is_said(graphs: Graphs) -> None:
    _, message, hint = graphs.optimize(graphs.unmasked, embed_layer_norm=True).failure
    assert "no embed_layer_norm" in message
    assert "fix_shape after" in hint
    _, message, hint = graphs.optimize(graphs.unmasked, opt_level=0, gelu=False, bias_gelu=True).failure
    assert "no bias_gelu" in message
    assert "opt_level" not in hint
    _, message, _ = graphs.optimize(graphs.unmasked, opt_level=0, attention=True, num_heads=4, hidden_size=128).failure
    assert message == "the graph has 2 attention heads, and the recipe says 4"


def test_fp16_wants_the_mask_constant_gone(graphs: Graphs) -> None:
    _, message, hint = graphs.float16(graphs.unmasked).failure
    assert "-3.403e+38" in message
    assert "surgery" in hint


def test_every_tensor_s_range_is_recorded(graphs: Graphs) -> None:
    half = graphs.float16(graphs.model)
    ranges = json.loads((half.output / "ranges.json").read_text())
    largest = [one["largest"] for one in ranges["tensors"]]
    assert largest == sorted(largest, reverse=True)
    assert len(ranges["tensors"]) + len(ranges["weights"]) == half.facts["tensors_measured"]
    assert 10000 <= largest[0] < 10100  # the masked scores
    assert half.facts["tensors_above_fp16"] == 0
    assert half.facts["kept_fp32_by_range"] == []
    assert half.facts["rounding"]["min"] > 0.9999
    assert half.facts["rounding"]["executed_on"] == "cpu"
    assert described(half.output)["precision"] == "fp16"
    assert described(half.output)["outputs"][0]["dtype"] == "float16"


def test_weights_are_rounded_as_the_converter_rounds_them(graphs: Graphs) -> None:
    environment = {"PYTHONPATH": str(this_project().shared)}
    subprocess.run([str(graphs.ort.python), "-c", HALVES], check=True, env=environment)


def test_a_big_table_of_integers_stays_what_it_is(graphs: Graphs, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(this_project().shared)}
    subprocess.run([str(graphs.ort.python), "-c", TABLE, graphs.model, tmp_path], check=True, env=environment)
    table = np.arange(40_000).tobytes()
    half = made(graphs.float16(tmp_path))
    assert table in [path.read_bytes() for path in (half / "weights").iterdir()]


def test_islands_lose_less(graphs: Graphs) -> None:
    plain = graphs.float16(graphs.model)
    kept = ["LayerNormalization", "Softmax", "Add", "Div"]
    best = graphs.float16(graphs.model, keep_float32=kept, keep_io_types=True)
    assert best.facts["rounding"]["mean"] > plain.facts["rounding"]["mean"]
    assert best.facts["casts"] > plain.facts["casts"]
    assert described(best.output)["precision"] == "fp16+fp32"
    assert described(best.output)["outputs"][0]["dtype"] == "float32"
    assert "Foo" in graphs.float16(graphs.model, keep_float32=["Foo"]).failure[1]


def test_what_overflows_stays_in_fp32_with_all_that_reads_it(graphs: Graphs, tmp_path: Path) -> None:
    grown = graphs.scaled(tmp_path / "grown", "layer.0/output/dense", "Gemm", 1e6)
    half = graphs.float16(grown)
    kept = {one["operator"] for one in half.facts["kept_fp32_by_range"]}
    assert {"Gemm", "Add", "LayerNormalization"} <= kept
    assert half.facts["tensors_above_fp16"] > 0
    # A cast down to fp16 between two of them would make this NaN.
    assert half.facts["rounding"]["min"] > 0.999
    assert graphs.engine(half.output).facts["placement"][0]["where"] == "TensorRT-RTX"


def test_an_output_that_overflows_can_stay_in_fp32(graphs: Graphs, tmp_path: Path) -> None:
    grown = graphs.scaled(tmp_path / "grown", "LayerNorm", "LayerNormalization", 1e5)
    _, message, hint = graphs.float16(grown).failure
    assert message.startswith("the output last_hidden_state reaches")
    assert "keep_io_types" in hint
    half = graphs.float16(grown, keep_io_types=True)
    assert half.facts["rounding"]["min"] > 0.999
    assert described(half.output)["outputs"][0]["dtype"] == "float32"


def test_an_engine_is_built_without_a_gpu_and_says_what_it_is_for(graphs: Graphs) -> None:
    half = made(graphs.float16(graphs.model))
    built, again = (
        graphs.engine(half, capabilities=order, turing=True)
        for order in (["8.9", "12.0", "8.6"], ["8.6", "8.9", "12.0"])
    )
    assert (built.output / ENGINE).read_bytes() == (again.output / ENGINE).read_bytes()
    sidecar = json.loads((built.output / f"{ENGINE}.json").read_text())
    assert sidecar["capabilities"] == ["8.6", "8.9", "12.0"]
    assert sidecar["library_version"] == built.report["versions"]["tensorrt-rtx-cu13-bindings"]
    assert sidecar["bytes"] == (built.output / ENGINE).stat().st_size
    assert sidecar["source_model"] == built.facts["source_model"]
    assert "capabilities are some of" in graphs.engine(half, capabilities=["9.9"]).failure[1]
    model = described(built.output)
    assert model["format"] == "tensorrt_rtx"
    assert [one["entry"] for one in model["variants"]] == [ENGINE, "model_sm75.engine"]
    assert model["files"] == [name for one in model["variants"] for name in one["files"]]
    assert built.facts["placement"][0]["nodes"] == sum(sidecar["network_layers"].values())


def test_the_parser_s_refusals_name_the_operator(graphs: Graphs) -> None:
    fused = made(graphs.optimize(graphs.model, skip_layer_norm=True))
    half = graphs.float16(fused)
    assert "SkipLayerNormalization" in half.facts["not_measured_inside"]
    _, message, hint = graphs.engine(half.output).failure
    assert "SkipLayerNormalization (4 nodes;" in message
    assert "optimize" in hint
    assert "fp32" in graphs.engine(graphs.model).failure[1]
