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
