"""Weights as files of their own: passed on unread, the same numbers in the end, and read from nowhere else."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portwright.project import this_project
from stagelib.modelinfo import ModelInfo
from support.stage_call import Finished, Stages

pytestmark = pytest.mark.scenario

WHOLE = """
import json, os, sys, onnx, onnxruntime
import numpy as np
from pathlib import Path
from stagelib import onnxfiles
pieces, scratch = map(Path, sys.argv[1:])
model = onnxfiles.read(pieces / "model.onnx")
whole = onnxfiles.one_file(pieces, scratch)
feed = {name: np.ones((1, 16), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
def run(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feed)[0]
again = scratch / "again"
again.mkdir()
before = model.SerializeToString(deterministic=True)
onnxfiles.save(model, again, "fp32")
piece = next((pieces / "weights").iterdir())
os.link(piece, scratch / "another name")
try:
    onnx.load(pieces / "model.onnx")
    refused = ""
except Exception as error:
    refused = str(error)
print(json.dumps({
    "same_model": onnx.load(whole).SerializeToString(deterministic=True) == before,
    "same_results": bool((run(whole) == run(pieces / "model.onnx")).all()),
    "save_changes_nothing": model.SerializeToString(deterministic=True) == before,
    "same_files": sorted(p.name for p in (again / "weights").iterdir())
        == sorted(p.name for p in (pieces / "weights").iterdir()),
    "same_graph": (again / "model.onnx").read_bytes() == (pieces / "model.onnx").read_bytes(),
    "still_read_when_linked": onnxfiles.read(pieces / "model.onnx").SerializeToString(deterministic=True) == before,
    "refused": refused,
}))
"""
LEAD_ASTRAY = """
import sys, onnx
from pathlib import Path
from stagelib import onnxfiles
from stagelib.api import StageError
folder, location = Path(sys.argv[1]), sys.argv[2]
model = onnxfiles.read(folder / "model.onnx", weights=False)
astray = next(tensor for tensor in model.graph.initializer if onnxfiles.is_apart(tensor))
astray.external_data[0].value = location
(folder / "astray.onnx").write_bytes(model.SerializeToString())
for read in (lambda: onnxfiles.read(folder / "astray.onnx"), lambda: onnxfiles.array(astray, folder)):
    try:
        read()
        print("read")
    except StageError as error:
        print(error.message)
"""

# The widest product gets its weight turned, and a node that turns it back: ONNX Runtime folds the two.
TURN = """
import sys, numpy as np, onnx
from pathlib import Path
from stagelib import onnxfiles
source, target = map(Path, sys.argv[1:])
model = onnxfiles.load(source)
weights = {tensor.name: tensor for tensor in model.graph.initializer}
products = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
widest = max(products, key=lambda node: len(weights[node.input[1]].raw_data))
weight = weights[widest.input[1]]
turned = np.ascontiguousarray(onnx.numpy_helper.to_array(weight).T)
weight.CopyFrom(onnx.numpy_helper.from_array(turned, weight.name))
turn = onnx.helper.make_node("Transpose", [weight.name], ["turned back"], "turn", perm=[1, 0])
widest.input[1] = "turned back"
model.graph.node.insert(0, turn)
onnxfiles.save(model, target, "fp32")
"""

# As TURN, but the product and what turns its weight are in a branch.
BRANCH = (
    TURN.rpartition("onnxfiles.save")[0]
    + """
helper, result = onnx.helper, widest.output[0]
product = helper.make_node("MatMul", [widest.input[0], "turned back"], ["product"])
other = helper.make_node("MatMul", [widest.input[0], "turned back in vain"], ["other"])
turn_other = helper.make_node("Transpose", [weight.name], ["turned back in vain"], perm=[1, 0])
shape = [1, 16, weight.dims[0]]
def branch(name, *nodes):
    output = helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, shape)
    return helper.make_graph(nodes, name, [], [output])
place = list(model.graph.node).index(widest)
model.graph.node.remove(widest)
model.graph.node.remove(model.graph.node[0])
chosen = helper.make_node(
    "If", ["chosen"], [result], then_branch=branch("then", turn, product), else_branch=branch("else", turn_other, other)
)
chooser = [
    helper.make_node("ReduceMax", ["input_ids"], ["largest"], keepdims=0),
    helper.make_node("Cast", ["largest"], ["chosen"], to=onnx.TensorProto.BOOL),
]
for offset, node in enumerate([*chooser, chosen]):
    model.graph.node.insert(place - 1 + offset, node)
onnxfiles.save(model, target, "fp32")
"""
)

# As BRANCH, and the branches are in a branch.
DEEPER = (
    BRANCH.rpartition("onnxfiles.save")[0]
    + """
outer = model.graph.node[place + 1]
inner = onnx.NodeProto.FromString(outer.SerializeToString())
inner.output[0] = "inner"
for attribute in outer.attribute:
    attribute.g.CopyFrom(branch(attribute.name, inner))
onnxfiles.save(model, target, "fp32")
"""
)


@pytest.fixture(scope="module")
def models(
    toolchain_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Stages, dict[str, Finished]]:
    """The stages in `ort`, and a tiny model after each of four stages."""
    root = tmp_path_factory.mktemp("weights")
    exporter, stages = Stages(root / "exporter", toolchain_python("exporter")), Stages(root, toolchain_python("ort"))
    done = {"synthesize": exporter.run("synthesize", {"architecture": "bert-tiny", "vocab_size": 4000})}
    done["export"] = exporter.run("export", {"opset": 17}, {"source": done["synthesize"].output})
    shape = {"batch_size": 1, "sequence_length": 16}
    done["fix_shape"] = stages.run("fix_shape", shape, {"model": done["export"].output})
    done["surgery"] = stages.run("surgery", {"mask_value": -10000.0}, {"model": done["fix_shape"].output})
    assert all(item.report["ok"] for item in done.values()), done
    return stages, done


def script(stages: Stages, text: str, *arguments: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(this_project().shared)}
    command = [str(stages.python), "-c", text, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def pieces(done: Finished) -> set[str]:
    return {name for name in ModelInfo.read(done.output).files if name != "model.onnx"}


def test_stages_that_leave_weights_alone_pass_every_one_on(models: tuple[Stages, dict[str, Finished]]) -> None:
    _, done = models
    exported = pieces(done["export"])
    # Two layers with two big products each, and the tables of words and positions.
    assert len(exported) == 6
    for stage in ("fix_shape", "surgery"):
        passed: dict[str, Any] = dict(done[stage].report["passed"])
        assert passed == {name: ["model", name] for name in exported}
        assert pieces(done[stage]) == exported
        assert (done[stage].output / "model.onnx").stat().st_size < 2_000_000


@pytest.mark.parametrize(
    "params", [{}, {"opt_level": 0, "attention": True}, {"attention": True, "embed_layer_norm": True}]
)
def test_fusions_pass_on_what_they_do_not_join(
    models: tuple[Stages, dict[str, Finished]], params: dict[str, Any]
) -> None:
    stages, done = models
    # Embedding's fusion wants free shapes.
    given = done["export" if "embed_layer_norm" in params else "surgery"]
    fused = stages.run("optimize", params, {"model": given.output})
    assert fused.report["ok"], fused.report
    assert set(fused.report["passed"]) == pieces(fused)
    # Where the shape is fixed, ONNX Runtime takes what it needs of the table of positions.
    assert len(pieces(given) - pieces(fused)) == (not params)


def test_a_weight_that_folding_makes_is_written_and_the_others_are_passed_on(
    models: tuple[Stages, dict[str, Finished]], tmp_path: Path
) -> None:
    stages, done = models
    script(stages, TURN, done["surgery"].output, tmp_path)
    turned = set(ModelInfo.read(tmp_path).files) - {"model.onnx"}
    plain = stages.run("optimize", {}, {"model": done["surgery"].output})
    fused = stages.run("optimize", {}, {"model": tmp_path})
    # Folded, it is what it was before it was turned.
    assert pieces(fused) == pieces(plain)
    (written,) = pieces(fused) - set(fused.report["passed"])
    assert written in pieces(done["surgery"]) - turned


def test_a_weight_that_folding_makes_in_a_branch_is_kept_there(
    models: tuple[Stages, dict[str, Finished]], tmp_path: Path
) -> None:
    stages, done = models
    script(stages, BRANCH, done["surgery"].output, tmp_path)
    fused = stages.run("optimize", {}, {"model": tmp_path})
    assert fused.report["ok"], fused.report
    assert fused.report["facts"]["operators"]["If"] == 1
    # What is folded away in both branches is no file of its own any more.
    assert pieces(fused) < pieces(done["surgery"])


def test_a_weight_that_only_a_branch_in_a_branch_reads_is_used(
    models: tuple[Stages, dict[str, Finished]], tmp_path: Path
) -> None:
    stages, done = models
    script(stages, DEEPER, done["surgery"].output, tmp_path)
    fixed = stages.run("fix_shape", {"batch_size": 1, "sequence_length": 16}, {"model": tmp_path})
    assert fixed.report["ok"], fixed.report
    assert len(pieces(fixed)) == len(pieces(done["surgery"]))


def test_a_weight_that_the_optimizer_computes_with_is_read(
    models: tuple[Stages, dict[str, Finished]], tmp_path: Path
) -> None:
    stages, done = models
    script(stages, TURN, done["surgery"].output, tmp_path)
    fused = stages.run("optimize", {"opt_level": 0}, {"model": tmp_path})
    assert fused.report["ok"], fused.report
    # The optimizer itself turns it back, which takes its numbers.
    assert fused.facts["operators"]["Transpose"] == fused.facts["operators_before"]["Transpose"] - 1
    assert pieces(fused) == pieces(done["surgery"])


def test_a_model_in_pieces_is_the_model(models: tuple[Stages, dict[str, Finished]], tmp_path: Path) -> None:
    stages, done = models
    found = json.loads(script(stages, WHOLE, done["surgery"].output, tmp_path))
    # Why stages read these files themselves, and what ships is one file.
    assert "multiple hard links" in found.pop("refused")
    assert found == dict.fromkeys(found, True)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("../../secret", "outside"),
        ("/etc/hostname", "outside"),
        ("weights/../model.json", "outside"),
        ("model.json", "outside"),
        ("weights/nothing", "missing"),
    ],
)
def test_a_weight_is_read_from_its_folder_alone(
    models: tuple[Stages, dict[str, Finished]], location: str, words: str
) -> None:
    stages, done = models
    lines = script(stages, LEAD_ASTRAY, done["export"].output, location).splitlines()
    assert len(lines) == 2
    assert all(words in line for line in lines)


def test_a_synthetic_model_is_its_seed_and_the_weights_are_the_seeds(
    models: tuple[Stages, dict[str, Finished]],
) -> None:
    _, done = models
    assert not list(done["synthesize"].output.glob("*.safetensors"))
    assert json.loads((done["synthesize"].output / "synthetic.json").read_text()) == {"seed": 0}
    assert done["export"].facts["parameters"] == done["synthesize"].facts["parameters"]
    assert done["export"].facts["max_abs_diff_to_torch"] < 1e-4
