"""The model for DirectML: its packed operator against one written from its documentation, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from portwright.project import this_project
from stagelib.modelinfo import ModelInfo
from support.seeds import Seeds
from support.stage_call import Finished, Stages

pytestmark = pytest.mark.scenario

FUSE = {"opt_level": 0, "use_gpu": True, "attention": True, "multi_head_attention": True}
# ONNX's own reference evaluator runs the packed graph, with ONNX Runtime's two operators written in numpy for it; ONNX
# Runtime runs the unpacked twin. The operators' text: docs/ContribOperators.md, com.microsoft.MultiHeadAttention, Gelu.
COMPARE = """
import json, sys
import numpy as np, onnx, onnxruntime
from math import erf
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

class MultiHeadAttention(OpRun):
    op_domain = "com.microsoft"
    def _run(self, query, key=None, value=None, bias=None, key_padding_mask=None, num_heads=None):
        batch, length, heads, three, size = query.shape
        assert (heads, three) == (num_heads, 3) and key is None and value is None and bias is None
        result = np.zeros((batch, length, heads * size), query.dtype)
        for text in range(batch):
            for head in range(heads):
                q, k, v = (query[text, :, head, part] for part in range(3))
                scores = q @ k.T / np.sqrt(size) + np.where(key_padding_mask[text] == 1, 0, -10000.0)
                weights = np.exp(scores - scores.max(axis=1, keepdims=True))
                weights /= weights.sum(axis=1, keepdims=True)
                result[text, :, head * size : (head + 1) * size] = weights @ v
        return (result,)

class Gelu(OpRun):
    op_domain = "com.microsoft"
    def _run(self, x, approximate=None):
        return ((0.5 * x * (1 + np.vectorize(erf)(x / np.sqrt(2)))).astype(x.dtype),)

packed, twin = sys.argv[1:]
ids = np.zeros((1, 128), np.int64)
ids[0, :9] = [101, 2023, 2003, 1037, 7953, 2000, 2022, 2741, 102]
mask = (np.arange(128) < 9).astype(np.int64)[None]
feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
found = ReferenceEvaluator(packed, new_ops=[MultiHeadAttention, Gelu]).run(None, feed)[0][0, :9]
expected = onnxruntime.InferenceSession(twin, providers=["CPUExecutionProvider"]).run(None, feed)[0][0, :9]
try:
    onnxruntime.InferenceSession(packed, providers=["CPUExecutionProvider"]).run(None, feed)
    runs = True
except Exception:
    runs = False
difference = np.abs(found - expected).max()
print(json.dumps({"largest": float(np.abs(expected).max()), "difference": float(difference), "runs": runs}))
"""
EDIT = """
import sys, onnx
from onnx import helper
from pathlib import Path
from stagelib import onnxfiles
what, source, target = sys.argv[1], *map(Path, sys.argv[2:])
model = onnxfiles.load(source)
output = model.graph.output[0]
node = next(node for node in model.graph.node if output.name in node.output)
node.output[0] = "before"
if what == "softplus":
    model.graph.node.append(helper.make_node("Softplus", ["before"], [output.name], name="no_kernel"))
if what == "numbered":
    for name, value in {"length": 1, "size": -1}.items():
        model.graph.initializer.append(helper.make_tensor(name, onnx.TensorProto.INT64, [1], [value]))
    model.graph.node.extend([
        helper.make_node("CumSum", ["attention_mask", "length"], ["numbers"], name="number_tokens"),
        helper.make_node("Unsqueeze", ["numbers", "size"], ["numbered"], name="of_each_token"),
        helper.make_node("Cast", ["numbered"], ["as_float"], name="as_float", to=onnx.TensorProto.FLOAT),
        helper.make_node("Add", ["before", "as_float"], [output.name], name="add"),
    ])
onnxfiles.save(model, target, "fp32")
"""


@pytest.fixture(scope="module")
def prepared(
    toolchain_python: Callable[[str], Path], seeds: Seeds, minilm: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Stages, Path]:
    """The stages in `ort`, and a real model of fixed shape with its mask constant replaced."""
    root = tmp_path_factory.mktemp("dml")
    stages = Stages(root / "ort", toolchain_python("ort"))
    shape = {"batch_size": 1, "sequence_length": 128}
    fixed = made(stages.run("fix_shape", shape, {"model": seeds.export(minilm, 20)}))
    return stages, made(stages.run("surgery", {"mask_value": -10000.0}, {"model": fixed}))


def made(done: Finished) -> Path:
    assert done.report["ok"], done.report
    return done.output


def run_script(stages: Stages, script: str, *arguments: Path | str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(this_project().shared)}
    command = [str(stages.python), "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_packed_graph_computes_what_its_twin_does(prepared: tuple[Stages, Path]) -> None:
    stages, model = prepared
    twin = made(stages.run("optimize", FUSE, {"model": model}))
    done = stages.run("pack_qkv", {}, {"model": twin})
    assert ModelInfo.read(done.output).format == "directml"
    assert done.facts["attentions_packed"] == done.facts["operators"]["com.microsoft.MultiHeadAttention"] == 6
    assert "Gelu" not in done.facts["operators"]
    assert done.facts["mask"] == "key_padding_mask"
    # Six layers of three weights [384, 384] and biases [384], all found again.
    assert done.facts["numbers_equal"] == 6 * 3 * (384 * 384 + 384)
    answer = json.loads(run_script(stages, COMPARE, done.output / "model.onnx", twin / "model.onnx"))
    assert answer["difference"] < 1e-4
    assert answer["largest"] > 0.5
    # Were this no longer so, the packed form itself could be executed in place of its twin.
    assert answer["runs"] is False


def test_what_directml_would_leave_to_the_cpu_or_not_take_is_refused(
    prepared: tuple[Stages, Path], tmp_path: Path
) -> None:
    stages, model = prepared
    assert "no MultiHeadAttention to pack" in stages.run("pack_qkv", {}, {"model": model}).failure[1]
    lengths = made(stages.run("optimize", {**FUSE, "raw_attention_mask": False}, {"model": model}))
    kind, message, hint = stages.run("pack_qkv", {}, {"model": lengths}).failure
    assert (kind, "key padding mask" in message, "raw_attention_mask" in hint) == ("stage", True, True)
    twin = made(stages.run("optimize", FUSE, {"model": model}))
    run_script(stages, EDIT, "softplus", twin, tmp_path)
    assert "no kernel for Softplus (1)" in stages.run("pack_qkv", {}, {"model": tmp_path}).failure[1]


def test_tokens_numbered_by_a_sum_of_integers_are_so_in_float32(prepared: tuple[Stages, Path], tmp_path: Path) -> None:
    stages, model = prepared
    run_script(stages, EDIT, "numbered", made(stages.run("optimize", FUSE, {"model": model})), tmp_path)
    done = stages.run("pack_qkv", {}, {"model": tmp_path})
    assert made(done)
    assert done.facts["sums_in_float"] == done.facts["operators"]["CumSum"] == 1
    assert done.facts["operators"]["Cast"] >= 3
    # The token's number, up to 128, is in every result, and the stage has held those against the model's before it.
    assert done.facts["max_abs_diff"] < 1e-3
