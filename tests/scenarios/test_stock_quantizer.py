"""The stage's quantized graph is, to the last bit, the one that ONNX Runtime's own call makes of the same model."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portwright.project import this_project
from stagelib.batches import CALIBRATION
from support.stage_call import Stages

pytestmark = pytest.mark.scenario
SCRIPT = Path(__file__).parents[1] / "support" / "stock_qdq.py"
LENGTH, VOCABULARY, TEXTS = 32, 700, 5
PARAMS = {
    "the defaults": {},
    "all products": {"down_projections": True},
    "every operator": {"op_types": ["*"], "down_projections": True, "weight_type": "uint8", "per_channel": False},
    "as for Hexagon": {
        "op_types": ["*"],
        "down_projections": True,
        "activation_type": "uint16",
        "minimum_range": 0.0001,
    },
    "as for AMD": {
        "op_types": ["*"],
        "down_projections": True,
        "activation_type": "int16",
        "activation_symmetric": True,
    },
    "ONNX Runtime's list": {"op_types": None, "activation_type": "uint16", "weight_type": "uint8"},
}


@pytest.fixture(scope="module")
def script(toolchain_python: Callable[[str], Path]) -> Callable[..., str]:
    def run(*arguments: object) -> str:
        command = [str(toolchain_python("ort")), str(SCRIPT), *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(this_project().shared)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def model(script: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    script("graph", folder)
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    ids = np.random.default_rng(1).integers(0, VOCABULARY, (TEXTS, LENGTH))
    np.savez(folder / CALIBRATION, input_ids=ids, attention_mask=np.ones_like(ids))
    return folder


@pytest.mark.parametrize("params", PARAMS.values(), ids=PARAMS)
def test_the_stage_gives_what_the_stock_call_gives(
    params: dict[str, Any],
    script: Callable[..., str],
    model: Path,
    texts: Path,
    toolchain_python: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    stages = Stages(tmp_path, toolchain_python("ort"))
    ours = stages.run("quantize_qdq", params, {"model": model, "batches": texts})
    assert ours.facts["calibration_samples"] == TEXTS
    stock = tmp_path / "stock"
    stock.mkdir()
    script("stock", model, texts, json.dumps(params), stock)
    found = json.loads(script("differences", ours.output, stock))
    assert (found["initializers"], found["nodes"]) == ([], [])
    assert params.get("weight_type", "int8") in found["integers"]
    assert found["same"] > 20
