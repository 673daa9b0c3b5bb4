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
# Three layers with biases, quantized in NNCF's own way and in one pass: the biases of each by name, and who corrected
# them. The weights of the second lie transposed; those of the last, with an axis more, are left to NNCF's correction.
LAYERS = """
import json, sys
import nncf, numpy, openvino
from nncf.quantization.algorithms.fast_bias_correction.algorithm import FastBiasCorrection
from openvino import opset13
from stagelib import nncfbias, onepass
random = numpy.random.default_rng(7)
def drawn(*shape):
    return (random.standard_normal(shape) + 0.3).astype(numpy.float32)
def model():
    given = openvino.opset13.parameter(openvino.PartialShape([1, -1, 16]), numpy.float32, name="given")
    x = given
    for name, weight, transposed, bias in layers:
        product = opset13.matmul(x, opset13.constant(weight), False, transposed, name=name)
        x = opset13.relu(opset13.add(product, opset13.constant(bias, name=name + "/bias")))
    return openvino.Model([x], [given])
last = drawn(1, 24, 8) if sys.argv[1] == "rank" else drawn(24, 8)
weights = [("a", drawn(16, 32), False, 32), ("b", drawn(24, 32), True, 24), ("c", last, False, 8)]
# Large ones: NNCF leaves a bias alone that it would more than triple.
layers = [(name, weight, transposed, drawn(size) + 100) for name, weight, transposed, size in weights]
texts = [drawn(1, length, 16) for length in range(4, 10)]
options = {"subset_size": len(texts), "preset": nncf.QuantizationPreset.MIXED, "model_type": nncf.ModelType.TRANSFORMER}
def biases(made):
    nodes = {node.get_friendly_name(): node for node in made.get_ops()}
    return {name: nodes[name + "/bias"].data.ravel().tolist() for name, *_ in layers}
def noted(kind):
    apply = kind.apply
    kind.apply = lambda self, *given, **named: used.append(type(self).__name__) or apply(self, *given, **named)
used = []
noted(FastBiasCorrection)
theirs = biases(nncf.quantize(model(), nncf.Dataset(texts), fast_bias_correction=True, **options))
noted(nncfbias.BiasCorrection)
ours = biases(onepass.quantize(model(), nncf.Dataset(texts), fast_bias_correction=True, **options))
print(json.dumps([biases(model()), theirs, ours, used]))
"""

# What one pass doesn't take, and how many texts it has run when it says so.
REFUSED = """
import json, sys
import nncf, numpy, openvino
from openvino import opset13
from stagelib import onepass
def parameter(name):
    return opset13.parameter(openvino.PartialShape([1, -1, 16]), numpy.float32, name=name)
def product(x, kind):
    weight = opset13.constant(numpy.ones((16, 16), kind))
    return opset13.relu(opset13.matmul(x, opset13.convert(weight, "f32") if kind != numpy.float32 else weight, 0, 0))
def body():
    given = parameter("inner")
    return given, openvino.Model([opset13.result(product(given, numpy.float32))], [given])
given = parameter("given")
x = product(given, numpy.float16 if sys.argv[1] == "computed" else numpy.float32)
if sys.argv[1] == "branches":
    chosen = opset13.if_op(opset13.greater(opset13.reduce_sum(x, [0, 1, 2]), numpy.float32(0)).output(0))
    (one, then), (other, otherwise) = body(), body()
    chosen.set_then_body(then), chosen.set_else_body(otherwise), chosen.set_input(x.output(0), one, other)
    x = chosen.set_output(then.results[0], otherwise.results[0])
texts = []
def noted(text):
    texts.append(text)
    return text
dataset = nncf.Dataset([numpy.ones((1, 4, 16), numpy.float32)], noted)
options = {"subset_size": 1, "model_type": nncf.ModelType.TRANSFORMER}
try:
    onepass.quantize(openvino.Model([x], [given]), dataset, **options)
except onepass.NotOnePassError as error:
    print(json.dumps([str(error), len(texts)]))
"""


def reply(python: Path, script: str, argument: str) -> Any:
    """What the script, run in the toolchain beside the stage library, prints last: a line of JSON."""
    environment = {**os.environ, "PYTHONPATH": str(this_project().shared), "NNCF_CI": "1", "CI": "true"}
    command = [str(python), "-c", script, argument]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def read(python: Path, made: Finished) -> Any:
    return reply(python, READ, str(made.output / "model.xml"))


@pytest.mark.parametrize(("last", "by"), [("plain", "BiasCorrection"), ("rank", "FastBiasCorrection")])
def test_biases_are_corrected_as_nncf_does_it(toolchain_python: Callable[[str], Path], last: str, by: str) -> None:
    before, theirs, ours, used = reply(toolchain_python("openvino"), LAYERS, last)
    assert used == ["FastBiasCorrection", by]
    for name, wanted in theirs.items():
        shift = max(abs(value - old) for value, old in zip(wanted, before[name], strict=True))
        assert shift > 1e-4, name
        assert ours[name] == pytest.approx(wanted, abs=shift * 1e-2), name


@pytest.mark.parametrize(("what", "words"), [("branches", "has branches"), ("computed", "no plain constant")])
def test_what_one_pass_does_not_take_it_refuses_before_any_text_is_run(
    what: str, words: str, toolchain_python: Callable[[str], Path]
) -> None:
    said, texts = reply(toolchain_python("openvino"), REFUSED, what)
    assert words in said
    assert texts == 0


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
