"""The stage that compiles for AMD, by a stand-in for AMD's provider, laid over the `ort` toolchain.

It is not AMD's: it writes an EPContext model as the documents describe one, and proves what the stage makes of that.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portwright.project import this_project
from support.seeds import Seeds
from support.stage_call import Stages

pytestmark = pytest.mark.scenario
PROVIDER = "VitisAIExecutionProvider"
METADATA = "Metadata-Version: 2.1\nName: onnxruntime-vitisai\nVersion: 1.27.0\n"
# Takes every node but those that `LEFT` names by operator, as AMD's provider partitions; writes AMD's report if asked.
STAND_IN = """
import json, os, pathlib
import onnx
from onnx import helper

def get_available_providers():
    return ["VitisAIExecutionProvider", "CPUExecutionProvider"]

class SessionOptions:
    def __init__(self):
        self.entries = {}
    def add_session_config_entry(self, name, value):
        self.entries[name] = value

class InferenceSession:
    def __init__(self, path, options, providers, provider_options):
        settings = provider_options[0]
        assert providers == ["VitisAIExecutionProvider"] and options.entries["ep.context_enable"] == "1"
        if "config_file" in settings:
            assert json.loads(pathlib.Path(settings["config_file"]).read_text())["target"] == "VAIML"
        model = onnx.load(path)
        left = os.environ.get("LEFT", "").split(",")
        kept = [node for node in model.graph.node if "ALL" in left or node.op_type in left]
        if "ALL" not in left:
            names = [value.name for value in model.graph.input], [value.name for value in model.graph.output]
            kept.append(helper.make_node("EPContext", *names, domain="com.microsoft", main_context=1, embed_mode=1))
        del model.graph.node[:]
        model.graph.node.extend(kept)
        onnx.save(model, options.entries["ep.context_file_path"])
        if "REPORTED" in os.environ:
            folder = pathlib.Path(settings["cache_dir"], settings["cache_key"])
            folder.mkdir()
            counts = json.loads(os.environ["REPORTED"])
            report = {"deviceStat": [{"name": name, "nodeNum": number} for name, number in counts.items()]}
            (folder / os.environ["XLNX_ONNX_EP_REPORT_FILE"]).write_text(json.dumps(report))
"""


@pytest.fixture(scope="module")
def fp32(
    toolchain_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, seeds: Seeds, minilm: Path
) -> Path:
    """A real model, exported and of fixed shape."""
    stages = Stages(tmp_path_factory.mktemp("fp32"), toolchain_python("exporter"))
    shape = {"batch_size": 1, "sequence_length": 128}
    return stages.run("fix_shape", shape, {"model": seeds.export(minilm, 17)}).output


@pytest.fixture
def compile_(toolchain_python: Callable[[str], Path], tmp_path: Path) -> Callable[..., Any]:
    """The stage in an environment that the stand-in is laid over."""
    folder = tmp_path / "packages"
    (folder / "onnxruntime").mkdir(parents=True)
    (folder / "onnxruntime" / "__init__.py").write_text(STAND_IN)
    (folder / "onnxruntime_vitisai-1.27.0.dist-info").mkdir()
    (folder / "onnxruntime_vitisai-1.27.0.dist-info" / "METADATA").write_text(METADATA)
    paths = f"{folder}:{this_project().shared}"

    def run(model: Path, **environment: str) -> Any:
        stages = Stages(tmp_path / "calls", toolchain_python("ort"), {"PYTHONPATH": paths, **environment})
        return stages.run("compile_vitisai", {}, {"model": model})

    return run


def test_what_the_provider_takes_ships_and_what_it_leaves_is_counted(compile_: Callable[..., Any], fp32: Path) -> None:
    done = compile_(fp32, LEFT="Gather,Cast,LayerNormalization")
    taken, left = done.facts["placement"]
    assert taken["where"] == PROVIDER
    assert taken["compute"] == 1.0, "no product is among what was left"
    assert left["where"] == "CPUExecutionProvider"
    assert left["ops"]["LayerNormalization"] == 13
    assert set(left["ops"]) == {"Gather", "Cast", "LayerNormalization"}
    [variant] = done.facts["variants"]
    assert variant["built_for"] == {"precision": "bf16", "target": "VAIML", "onnxruntime-vitisai": "1.27.0"}
    assert variant["files"] == ["model_ctx.onnx", "vai_ep_config.json"]
    assert all((done.output / name).is_file() for name in variant["files"])
    assert "never run with AMD's provider" in done.facts["verified"]


def test_products_on_the_cpu_count_by_their_arithmetic(compile_: Callable[..., Any], fp32: Path) -> None:
    taken, left = compile_(fp32, LEFT="MatMul").facts["placement"]
    assert (taken["compute"], left["compute"]) == (0.0, 1.0)
    assert left["nodes"] < taken["nodes"], "by nodes alone it would look well placed"


def test_what_the_provider_runs_on_the_cpu_itself_is_not_hidden(compile_: Callable[..., Any], fp32: Path) -> None:
    places = compile_(fp32, LEFT="Cast", REPORTED='{"all": 9, "CPU": 5, "NPU": 4}').facts["placement"]
    by_place = {part["where"]: part for part in places}
    assert by_place[f"{PROVIDER} on the CPU"]["nodes"] == 4
    assert all(part["compute"] is None for part in places), "nobody says how much of the arithmetic those are"


def test_a_provider_that_takes_nothing_fails(compile_: Callable[..., Any], fp32: Path) -> None:
    kind, message, hint = compile_(fp32, LEFT="ALL").failure
    assert kind == "stage"
    assert "the whole graph would run on the CPU" in message
    assert hint


def test_without_amds_wheel_the_stage_says_what_is_missing(
    toolchain_python: Callable[[str], Path], tmp_path: Path, fp32: Path
) -> None:
    done = Stages(tmp_path, toolchain_python("ort")).run("compile_vitisai", {}, {"model": fp32})
    _, message, hint = done.failure
    assert "has no VitisAIExecutionProvider" in message
    assert "vendor/" in hint
