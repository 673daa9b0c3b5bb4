"""Q, K and V packed in graphs that aren't BERT's: weights that attentions share, no mask, a bias that is a constant."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from portwright.project import this_project
from support.stage_call import Finished, Stages

pytestmark = pytest.mark.scenario
LAYERS, HIDDEN = 3, 32
NUMBERS = 3 * (HIDDEN * HIDDEN + HIDDEN)
# Layers of Q, K, V and ONNX Runtime's attention on token ids [2, 8]; the argument says in what they are unlike BERT's.
GRAPH = """
import sys
from pathlib import Path
import numpy as np
from onnx import TensorProto, helper, numpy_helper
from stagelib import onnxfiles
what, folder, layers, hidden = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
random, nodes, constants = np.random.default_rng(0), [], {}
def constant(name, *shape):
    if name not in constants:
        constants[name] = numpy_helper.from_array((random.standard_normal(shape) / 4).astype(np.float32), name)
    return name
def node(kind, given, made, **more):
    nodes.append(helper.make_node(kind, given, [made], name=made, **more))
    return made
x = node("Gather", [constant("table", 50, hidden), "input_ids"], "embedded")
mask, bias = "", ""
inputs = ["input_ids"]
if what == "constant bias":
    bias = constant("of_position", 2, 4, 8, 8)
elif what != "no mask":
    inputs.append("attention_mask")
    mask = node("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)
for layer in range(layers):
    whose = "" if what == "shared weights" else layer
    given = []
    for part in "qkv":
        product = node("MatMul", [x, constant(f"weight_{part}{whose}", hidden, hidden)], f"product_{part}{layer}")
        given.append(node("Add", [product, constant(f"bias_{part}{whose}", hidden)], f"{part}{layer}"))
    given = [*given, "", mask, bias]
    while not given[-1]:
        given.pop()
    more = {"domain": "com.microsoft", "num_heads": 4, "unidirectional": int(what == "a decoder")}
    x = node("MultiHeadAttention", given, f"context{layer}", **more)
if what == "small numbers":
    constants["least"] = numpy_helper.from_array(np.float32(1e-4), "least")
    x = node("Mul", [x, "least"], "small")
outputs = [x, "q1"] if what == "an output" else [x]
graph = helper.make_graph(
    nodes, what, [helper.make_tensor_value_info(name, TensorProto.INT64, [2, 8]) for name in inputs],
    [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 8, hidden]) for name in outputs], constants.values())
opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
onnxfiles.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder, "fp32")
"""

# The packed graph held against its twin, as it is and without the first of its weights.
BROKEN = """
import sys
from pathlib import Path
import numpy as np
from onnx import numpy_helper
from stagelib import onnxfiles, packedqkv
from stagelib.stages import pack_qkv
folder = Path(sys.argv[2])
for broken in (False, True):
    twin, packed = onnxfiles.load(folder), onnxfiles.load(folder)
    packedqkv.pack_attention(packed, folder)
    weight = next(tensor for tensor in packed.graph.initializer if "qkv_of" in tensor.name)
    if broken:
        weight.CopyFrom(numpy_helper.from_array(np.zeros(tuple(weight.dims), np.float32), weight.name))
    try:
        pack_qkv._difference(twin, packed, (folder, folder), "fp32")
        print("alike")
    except pack_qkv.StageError as error:
        print(error)
"""


def run_script(python: Path, script: str, what: str, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    command = [str(python), "-c", script, what, str(folder), str(LAYERS), str(HIDDEN)]
    environment = {**os.environ, "PYTHONPATH": str(this_project().shared)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def packed(toolchain_python: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Finished]:
    """`pack_qkv` of the graph that is unlike BERT's in this."""
    stages = Stages(tmp_path / "ort", toolchain_python("ort"))

    def pack(what: str) -> Finished:
        run_script(stages.python, GRAPH, what, tmp_path / what)
        return stages.run("pack_qkv", {}, {"model": tmp_path / what})

    return pack


@pytest.mark.parametrize(
    ("what", "mask"),
    [("shared weights", "key_padding_mask"), ("no mask", "none"), ("constant bias", "attention_bias")],
)
def test_unlike_berts_they_are_packed_and_compute_the_same(
    what: str, mask: str, packed: Callable[[str], Finished]
) -> None:
    facts = packed(what).facts
    assert facts["attentions_packed"] == LAYERS
    assert (facts["mask"], facts["numbers_equal"]) == (mask, LAYERS * NUMBERS)
    assert facts["max_abs_diff"] < 1e-4


def test_weights_that_attentions_share_are_shared_when_packed(packed: Callable[[str], Finished]) -> None:
    shared, own = (
        (packed(what).output / "model.onnx").stat().st_size for what in ("shared weights", "weights of their own")
    )
    assert own - shared > 0.9 * (LAYERS - 1) * NUMBERS * 4


def test_a_projection_that_is_an_output_stays_and_the_stage_says_so(packed: Callable[[str], Finished]) -> None:
    assert "q1, which context1 takes, is not a product by a weight and for it alone" in packed("an output").failure[1]


def test_a_decoders_attention_is_refused(packed: Callable[[str], Finished]) -> None:
    assert "it is a decoder's" in packed("a decoder").failure[1]


def test_results_are_held_against_each_other_however_small(
    toolchain_python: Callable[[str], Path], tmp_path: Path
) -> None:
    python, folder = toolchain_python("ort"), tmp_path / "model"
    run_script(python, GRAPH, "small numbers", folder)
    sound, broken = run_script(python, BROKEN, "", folder).splitlines()
    assert sound == "alike"
    assert "differ from those of the model before it" in broken
