"""A model that was damaged on the way: its gates fail, and the layer that lost most is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.checkout import BRIEF, copy_checkout
from support.commands import ROOT, Portwright, read_json
from support.seeds import Seeds

# A stage as anybody may add one: it doubles the scales of one product's weights, and says nothing about it.
DAMAGE = """
from dataclasses import dataclass

from stagelib.api import Call, Result, Stage
from stagelib.modelinfo import ModelInfo


@dataclass(frozen=True, kw_only=True)
class Params:
    layer: str


STAGE = Stage(summary="damage one layer", inputs=("model",), takes="onnx", makes="onnx", params=Params, needs=("onnx",))


def run(call: Call, params: Params) -> Result:
    import numpy as np
    from onnx import numpy_helper

    from stagelib import onnxfiles

    model = onnxfiles.load(call.input("model"))
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    made = {node.output[0]: node for node in model.graph.node}
    [product] = [node for node in model.graph.node if node.op_type == "MatMul" and params.layer in node.name]
    scale = held[made[product.input[1]].input[1]]
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(2), scale.name))
    onnxfiles.save(model, call.output, ModelInfo.read(call.input("model")).precision)
    return Result()
"""
LAYER = "layer.3/attention/output/dense"


@pytest.mark.scenario
def test_one_layers_scales_doubled(
    portwright: Portwright, seeds: Seeds, tmp_path: Path, minilm: Path, texts: Path
) -> None:
    seeds.hand_on(portwright, minilm, 17)
    checkout = copy_checkout(tmp_path / "checkout", portwright)
    (checkout.root / "shared" / "stagelib" / "stages" / "damage.py").write_text(DAMAGE)
    recipe = read_json(ROOT / "targets" / "cpu" / "recipes" / "bert-base-portuguese-cased_qdq_cpu.json")
    recipe |= {"name": "damaged", "benchmark": BRIEF}
    del recipe["accuracy"], recipe["gates"]["accuracy"]
    recipe["stages"].append({"stage": "damage", "layer": LAYER})
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(recipe))
    run = ("run", "--target=cpu", f"--recipe={path}", f"--model={minilm}", f"--data={texts}", "--engine=venv")
    done = checkout.run(*run)
    assert done.code == 3, done.text
    assert done.out.startswith("FAILED damaged: gate similarity")
    result = checkout.result("minilm", "damaged")
    assert result["status"] == "failed"
    assert LAYER in result["layer_errors"][0]["tensor"]
    assert LAYER in done.out.splitlines()[1]
    assert (checkout.view("minilm", "damaged") / "deploy" / "REJECTED.txt").is_file()


@pytest.mark.scenario
def test_too_few_samples_certify_nothing(
    portwright: Portwright, seeds: Seeds, tmp_path: Path, minilm: Path, texts: Path
) -> None:
    """Eight pairs without a single difference are no proof of half a point."""
    seeds.hand_on(portwright, minilm, 17)
    recipe = read_json(ROOT / "targets" / "cpu" / "recipes" / "bert-base-portuguese-cased_fp32_cpu.json")
    recipe |= {"name": "few", "benchmark": BRIEF}
    recipe["accuracy"] |= {"train_samples": 60, "samples": 8}
    recipe["gates"]["accuracy"] = {"max_drop": 0.005}
    path = tmp_path / "few.json"
    path.write_text(json.dumps(recipe))
    done = portwright.run(
        "run", "--target=cpu", f"--recipe={path}", f"--model={minilm}", f"--data={texts}", "--engine=venv"
    )
    assert done.code == 3, done.text
    assert "too few pairs to certify that: at least" in done.out
