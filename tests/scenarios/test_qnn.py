"""Quantized and compiled for Hexagon by the real libraries, emulated, and made to fall back to the CPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portwright.project import this_project
from portwright.recipe import PlacementGate
from stagelib.batches import CALIBRATION, EVALUATION
from stagelib.modelinfo import ModelInfo
from stagelib.placement import Rule, judge
from stagelib.runtimes.base import Placed
from support.stage_call import Finished, Stages

pytestmark = pytest.mark.scenario

LENGTH = 16
VOCABULARY = 4000
QNN = "QNNExecutionProvider"
GATE = PlacementGate(on=(QNN,), stand_in=("CPUExecutionProvider",))
QDQ: dict[str, Any] = {
    "activation_type": "uint16",
    "op_types": ["*"],
    "down_projections": True,
    "minimum_range": 0.0001,
    "samples": 4,
}
BEST = {**QDQ, "weight_type": "int8", "per_channel": True, "layer_norm_scale_type": "uint8"}
# Qualcomm's compiler refuses int8 scales, so that every LayerNormalization falls to the CPU.
FALLING = {**QDQ, "weight_type": "int8", "per_channel": True}


@dataclass(frozen=True)
class Bench:
    """The toolchains, a prepared fp32 graph, and token batches for it."""

    ort: Stages
    qnn: Stages
    graph: Path
    batches: Path

    def quantized(self, params: dict[str, Any]) -> Finished:
        return self.ort.run("quantize_qdq", params, {"model": self.graph, "batches": self.batches})

    def compiled(self, model: Path, *socs: str, **params: Any) -> Finished:
        return self.qnn.run("compile_qnn", {"socs": socs, **params}, {"model": model})

    def emulated(self, model: Path, executable: Path, **params: Any) -> Finished:
        inputs = {"model": model, "executable": executable, "batches": self.batches}
        return self.qnn.run("emulate", {"runtime": "qnn", "device": "emulator", "samples": 1, **params}, inputs)


@pytest.fixture(scope="module")
def bench(toolchain_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = tmp_path_factory.mktemp("qnn")
    exporter, ort, qnn = (Stages(root / name, toolchain_python(name)) for name in ("exporter", "ort", "qnn"))
    source = made(exporter.run("synthesize", {"architecture": "bert-tiny", "seed": 3, "vocab_size": VOCABULARY}))
    graph = made(exporter.run("export", {"opset": 20}, {"source": source}))
    graph = made(ort.run("fix_shape", {"batch_size": 1, "sequence_length": LENGTH}, {"model": graph}))
    graph = made(ort.run("surgery", {"mask_value": -100.0, "matmul_add_to_gemm": True}, {"model": graph}))
    graph = made(ort.run("optimize", {}, {"model": graph}))
    folder = root / "batches"
    folder.mkdir()
    generator = np.random.default_rng(0)
    mask = np.ones((4, LENGTH), np.int64)
    mask[:, LENGTH // 2 :] = 0
    for name in (CALIBRATION, EVALUATION):
        ids = generator.integers(5, VOCABULARY, mask.shape, dtype=np.int64)
        np.savez(folder / name, input_ids=ids, attention_mask=mask, token_type_ids=np.zeros_like(mask))
    return Bench(ort, qnn, graph, folder)


@pytest.fixture(scope="module")
def best(bench: Bench) -> Finished:
    return bench.quantized(BEST)


@pytest.fixture(scope="module")
def compiled(bench: Bench, best: Finished) -> Finished:
    return bench.compiled(best.output, "60", "87")


def made(done: Finished) -> Path:
    """The artifact of a stage that went well."""
    assert done.facts
    return done.output


def gate(facts: Any) -> tuple[bool | None, str]:
    """What the host's placement gate says of a stage's facts."""
    parts = [Placed(**part) for part in facts["placement"]]
    judged = judge(Rule(on=GATE.on, min_share=GATE.min_share), parts, "compiled")
    return judged.passed, judged.reason


def test_every_operator_is_quantized_and_the_weights_are_what_the_recipe_says(best: Finished) -> None:
    assert best.facts["operators_in_float"] == {}
    assert best.facts["activations"].keys() == {"uint16"}
    weights = best.facts["weights"]
    layers, norms = 2, 5
    assert weights["int8 per channel"] == layers * 6
    assert weights["uint8"] == norms
    assert "int8" not in weights


def test_what_stays_in_float_is_counted_as_that(bench: Bench) -> None:
    part = bench.quantized({"op_types": ["Gemm"], "samples": 2}).facts
    assert part["operators_quantized"].get("Gemm") == 10
    # Two down projections are spared.
    assert part["operators_in_float"]["Gemm"] == part["left_in_float"] == 2
    assert part["operators_in_float"]["LayerNormalization"] == 5


def test_products_of_activations_stay_in_float_where_that_is_asked(bench: Bench) -> None:
    both = {"op_types": ["MatMul", "Gemm"], "samples": 2}
    assert "MatMul" not in bench.quantized(both).facts["operators_in_float"]
    assert bench.quantized({**both, "only_constant_weights": True}).facts["operators_in_float"]["MatMul"] == 4


def test_operators_that_the_graph_has_none_of_are_named(bench: Bench) -> None:
    kind, message, hint = bench.quantized({"op_types": ["Conv"]}).failure
    assert kind == "stage"
    assert "nothing to quantize: the graph has none of Conv" in message
    assert "op_types" in hint


def test_an_operator_that_is_misspelt_is_refused(bench: Bench) -> None:
    kind, message, hint = bench.quantized({"op_types": ["MatMul", "Gem"]}).failure
    assert (kind, message) == ("stage", "op_types: 'Gem' is no operator of ONNX nor of this graph")
    assert "Gemm" in hint


def test_each_chip_gets_one_piece_with_its_stamp(bench: Bench, compiled: Finished) -> None:
    info = ModelInfo.read(compiled.output)
    assert (info.format, info.entry) == ("qnn_context", "sc8380xp_ctx.onnx")
    assert [variant.built_for["chip"] for variant in info.variants] == ["SC8380XP", "SM8850"]
    assert gate(compiled.facts)[0] is True
    for variant, soc, arch in zip(info.variants, ("60", "87"), ("73", "81"), strict=True):
        found = read_context(bench.qnn.python, compiled.output / variant.entry)
        assert found["operators"] == ["EPContext"]
        assert found["binary"] == variant.files[1]
        assert (compiled.output / variant.files[1]).stat().st_size > 10_000
        stamps = found["metadata"]
        assert stamps["portwright.soc_model"] == soc
        assert (stamps["portwright.htp_arch"], stamps["portwright.vtcm_mb"]) == (f"v{arch}", "8")
        assert stamps["portwright.sdk_version"] == found["sdk_version"] != ""
        # ONNX Runtime's own statement, by which a device decides, is still there and names the same chip.
        own = stamps[f"ep_compatibility_info.{QNN}"]
        assert own == variant.built_for["compatibility"]
        assert f":{arch}:{soc}:8:" in own
    binaries = [(compiled.output / variant.files[1]).read_bytes() for variant in info.variants]
    assert binaries[0] != binaries[1]


def test_the_emulator_runs_the_binary_and_agrees_with_the_model_it_was_compiled_from(
    bench: Bench, best: Finished, compiled: Finished
) -> None:
    facts = bench.emulated(compiled.output, best.output).facts
    assert facts["executed_on"] == "emulator"
    assert facts["similarity"]["mean"] > 0.99
    assert [(part["where"], part["ops"]) for part in facts["placement"]] == [(QNN, {"EPContext": 1})]


def test_a_damaged_binary_is_an_error_and_no_silent_run_on_the_cpu(
    bench: Bench, best: Finished, compiled: Finished, tmp_path: Path
) -> None:
    damaged = shutil.copytree(compiled.output, tmp_path / "damaged")
    binary = damaged / "sc8380xp_ctx_qnn.bin"
    binary.write_bytes(binary.read_bytes()[: binary.stat().st_size // 2])
    kind, message, _ = bench.emulated(damaged, best.output).failure
    assert kind == "stage"
    assert "sc8380xp_ctx.onnx" in message


def test_a_cpu_fallback_is_recorded_and_fails_the_placement_gate_by_name(bench: Bench) -> None:
    falling = bench.quantized(FALLING)
    done = bench.compiled(falling.output, "60")
    passed, reason = gate(done.facts)
    assert passed is False
    assert "silent CPU fallback" in reason
    assert "5 LayerNormalization" in reason
    assert done.facts["chips"][0]["strict"] is False
    # The artifact is kept, and its emulation tells the same.
    passed, reason = gate(bench.emulated(done.output, falling.output).facts)
    assert passed is False
    assert "5 LayerNormalization" in reason


def test_a_chip_that_the_compiler_does_not_know_is_an_error(bench: Bench, best: Finished) -> None:
    kind, message, hint = bench.compiled(best.output, "12345:NONE:73:8").failure
    assert kind == "stage"
    assert "takes nothing of the model for NONE (SoC model 12345)" in message
    assert "log" in hint


def test_the_sdk_of_a_vendor_archive_compiles_where_it_was_dropped_in(
    bench: Bench, best: Finished, tmp_path: Path
) -> None:
    missing = bench.compiled(best.output, "60", sdk="qairt").failure
    assert "vendor/" in missing[2]
    # A stand-in: the wheel's own libraries in the SDK's folders, in an environment with all else from the real one.
    prefix = tmp_path / "environment"
    libraries = prefix / "vendor" / "qairt" / "lib" / "x86_64-linux-clang"
    libraries.mkdir(parents=True)
    real = bench.qnn.python.parent.parent
    (wheel,) = real.glob("lib/python3*/site-packages/onnxruntime_qnn")
    for path in wheel.glob("lib*.so"):
        os.link(path, libraries / path.name)
    for name in ("bin", "lib", "lib64", "pyvenv.cfg"):
        if (real / name).exists():
            (prefix / name).symlink_to(real / name)
    able = Stages(tmp_path / "calls", prefix / "bin" / "python")
    alone = able.run("compile_qnn", {"socs": ["60"], "sdk": "qairt"}, {"model": best.output}).failure
    assert "libc++" in alone[1]
    shutil.copytree(wheel.with_name("onnxruntime_qnn.libs"), libraries.with_name("onnxruntime_qnn.libs"))
    done = able.run("compile_qnn", {"socs": ["60"], "sdk": "qairt"}, {"model": best.output})
    assert gate(done.facts)[0] is True


@pytest.mark.parametrize(("device", "kind"), [("NPU", "NPU"), ("GPU", "GPU")])
def test_a_device_that_is_not_here_is_an_error(bench: Bench, compiled: Finished, device: str, kind: str) -> None:
    model = compiled.output if device == "NPU" else bench.graph
    code = (
        "import sys; from pathlib import Path; from stagelib.api import StageError; from stagelib.runtimes import qnn\n"
        "try: qnn.load(Path(sys.argv[1]), device=sys.argv[2])\n"
        "except StageError as error: print(error.message)"
    )
    environment = {**os.environ, "PYTHONPATH": str(this_project().shared)}
    shown = subprocess.run(
        [bench.qnn.python, "-c", code, model, device], env=environment, capture_output=True, text=True, check=True
    )
    assert f"no {kind} of Qualcomm's here" in shown.stdout


def read_context(python: Path, path: Path) -> dict[str, Any]:
    """A context model as onnx itself reads it, outside the project's code."""
    code = (
        "import json, onnx, sys; m = onnx.load(sys.argv[1], load_external_data=False); n = m.graph.node\n"
        "a = {x.name: onnx.helper.get_attribute_value(x) for x in n[0].attribute}\n"
        "print(json.dumps({'operators': [x.op_type for x in n], 'binary': a['ep_cache_context'].decode(),"
        " 'sdk_version': a['ep_sdk_version'].decode(), 'metadata': {x.key: x.value for x in m.metadata_props}}))"
    )
    shown = subprocess.run([python, "-c", code, path], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(shown.stdout)
    return found
