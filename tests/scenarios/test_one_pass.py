"""NNCF's quantization from one pass over the texts is the one that its own two passes give, but for rounding."""

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
from stagelib.batches import CALIBRATION, EVALUATION
from support.stage_call import Finished, Stages

pytestmark = pytest.mark.scenario
LENGTH = 32
VOCABULARY = 4000
TEXTS = 6
SAME = 1e-4
"""The two sum in another order; a range that was taken on another text, or unsmoothed, is off by percents."""
# Bounds of every quantizer by name, and the int8 weights in the graph's order: their names are numbers.
READ = """
import json, sys
import openvino
model = openvino.Core().read_model(sys.argv[1])
bounds, weights = {}, []
for node in model.get_ops():
    if node.get_type_name() == "FakeQuantize":
        nodes = [node.input_value(port).get_node() for port in range(1, 5)]
        bounds[node.get_friendly_name()] = [value for one in nodes for value in one.get_data().ravel().tolist()]
    elif node.get_type_name() == "Constant" and node.get_element_type() == openvino.Type.i8:
        weights.append(node.get_data().astype(int).ravel().tolist())
print(json.dumps([bounds, weights]))
"""


def read(python: Path, made: Finished) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(this_project().shared)}
    command = [str(python), "-c", READ, str(made.output / "model.xml")]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def test_one_pass_gives_what_two_give(toolchain_python: Callable[[str], Path], tmp_path: Path) -> None:
    exporter = Stages(tmp_path / "exporter", toolchain_python("exporter"))
    source = exporter.run("synthesize", {"architecture": "bert-tiny", "seed": 3, "vocab_size": VOCABULARY})
    graph = exporter.run("export", {"opset": 17}, {"source": source.output})
    assert graph.facts
    batches = tmp_path / "batches"
    batches.mkdir()
    generator = np.random.default_rng(0)
    mask = np.array([[1] * length + [0] * (LENGTH - length) for length in range(8, 8 + 4 * TEXTS, 4)], np.int64)
    for name in (CALIBRATION, EVALUATION):
        ids = generator.integers(5, VOCABULARY, mask.shape, dtype=np.int64) * mask
        np.savez(batches / name, input_ids=ids, attention_mask=mask, token_type_ids=np.zeros_like(mask))
    python = toolchain_python("openvino")
    openvino = Stages(tmp_path / "openvino", python)
    shape = {"batch_size": 1, "sequence_length": LENGTH, "samples": TEXTS}
    one, two = (
        openvino.run("quantize_nncf", {**shape, "one_pass": once}, {"model": graph.output, "batches": batches})
        for once in (True, False)
    )
    assert (one.facts["passes"], two.facts["passes"]) == ("one", "NNCF's own")
    (bounds, weights), (wanted, wanted_weights) = read(python, one), read(python, two)
    assert bounds.keys() == wanted.keys()
    assert len(bounds) > 10
    for name, values in bounds.items():
        assert values == pytest.approx(wanted[name], rel=SAME), name
    assert [len(one) for one in weights] == [len(one) for one in wanted_weights] != []
    pairs = [
        pair for ours, theirs in zip(weights, wanted_weights, strict=True) for pair in zip(ours, theirs, strict=True)
    ]
    assert sum(ours != theirs for ours, theirs in pairs) <= 1e-3 * len(pairs)
