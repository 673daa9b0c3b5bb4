"""Blobs for Intel's NPU by the real OpenVINO: without its compiler, and with a stand-in that speaks its interface."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from portwright.project import this_project
from stagelib.modelinfo import ModelInfo
from support.stage_call import Stages

pytestmark = pytest.mark.scenario

SOURCE = this_project().root / "tests" / "support" / "npu_compiler.c"
LIBRARY = "libopenvino_intel_npu_compiler_loader.so"
MAKE_IR = """
import sys
from pathlib import Path
import numpy as np
import openvino
from openvino import opset13 as ops
from stagelib import openvinofiles
tokens = ops.parameter([1, 8], np.int64, name="input_ids")
tokens.output(0).set_names({"input_ids"})
table = ops.constant(np.ones((16, 4), np.float32))
hidden = ops.gather(table, tokens, ops.constant(0))
hidden.output(0).set_names({"last_hidden_state"})
openvinofiles.save(openvino.Model([hidden], [tokens], "tiny"), Path(sys.argv[1]), "fp32")
"""
PARAMS = {"platforms": ["4000", "5010"]}


@pytest.fixture(scope="session")
def interpreter(toolchain_python: Callable[[str], Path]) -> Path:
    return toolchain_python("openvino")


@pytest.fixture
def ir(interpreter: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "ir"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(this_project().shared)}
    subprocess.run([interpreter, "-c", MAKE_IR, folder], env=environment, check=True)
    return folder


@pytest.fixture
def stages(interpreter: Path, tmp_path: Path) -> Stages:
    return Stages(tmp_path / "calls", interpreter)


def with_compiler(stages: Stages, folder: Path, how: str, *flags: str) -> Stages:
    """The same stages in an OpenVINO with a compiler among its libraries, its other files links to the first one's."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler builds the stand-in")
    find = "import openvino; print(openvino.__path__[0])"
    found = subprocess.run([stages.python, "-c", find], capture_output=True, text=True, check=True).stdout.strip()
    shutil.copytree(found, folder / "openvino", copy_function=os.link)
    library = folder / "openvino" / "libs" / LIBRARY
    subprocess.run([compiler, "-shared", "-fPIC", *flags, "-o", library, SOURCE], check=True)
    path = os.pathsep.join([str(folder), str(this_project().shared)])
    return replace(stages, environment={"PYTHONPATH": path, "STAND_IN_NPU_COMPILER": how})


def test_without_the_compiler_the_ir_ships_and_what_is_missing_is_said(stages: Stages, ir: Path) -> None:
    done = stages.run("compile_openvino", PARAMS, {"model": ir})
    assert [entry["what"] for entry in done.facts["not_built"]] == [
        "blob for the NPU platform 4000",
        "blob for the NPU platform 5010",
    ]
    assert all(LIBRARY in entry["why"] and entry["hint"] for entry in done.facts["not_built"])
    info = ModelInfo.read(done.output)
    assert (info.files, info.variants) == (("model.xml", "model.bin"), ())


def test_with_the_compiler_the_blobs_ship_beside_the_ir(stages: Stages, ir: Path, tmp_path: Path) -> None:
    able = with_compiler(stages, tmp_path / "able", "compile")
    done = able.run("compile_openvino", PARAMS, {"model": ir})
    assert "not_built" not in done.facts
    wrapped = able.run("encapsulate", {}, {"model": done.output})
    info = ModelInfo.read(wrapped.output)
    assert info.entry == "model.xml"
    assert info.files == ("model.xml", "model.bin", "model_npu4000.blob", "model_npu5010.blob", "model_ctx.onnx")
    assert all((wrapped.output / name).is_file() for name in info.files)
    for variant, platform in zip(info.variants, ("4000", "5010"), strict=True):
        assert variant.built_for["platform"] == platform
        assert variant.built_for["compiler_version"] == "7.10"
        assert "stand-in" in variant.built_for["requirements"]
        blob = (wrapped.output / variant.entry).read_bytes()
        assert blob.startswith(b"stand-in")
        assert blob.endswith(b"OVNPU")


@pytest.mark.parametrize(
    ("how", "flags", "words"),
    [
        ("refuse", (), "can't compile the model for platform 4000"),
        ("old", (), "OpenVINO can't use it"),
        ("any", ("-DEMPTY",), "OpenVINO can't use it"),
    ],
)
def test_a_compiler_that_is_there_and_fails_fails_the_stage(
    stages: Stages, ir: Path, tmp_path: Path, how: str, flags: tuple[str, ...], words: str
) -> None:
    failing = with_compiler(stages, tmp_path / "failing", how, *flags).run("compile_openvino", PARAMS, {"model": ir})
    kind, message, _ = failing.failure
    assert kind == "stage"
    assert words in message


def test_the_stamp_is_the_release_that_wrote_the_ir(stages: Stages, ir: Path) -> None:
    here = stages.run("encapsulate", {}, {"model": ir})
    running = here.report["versions"]["openvino"]
    assert here.facts["ep_sdk_version"] == ".".join(running.split(".")[:2])
    assert here.facts["source"] == "OpenVINOExecutionProvider"
    model = ir / "model.xml"
    model.write_text(model.read_text().replace(f'value="{running}', 'value="2025.1.0'))
    assert stages.run("encapsulate", {}, {"model": ir}).facts["ep_sdk_version"] == "2025.1"
    lines = [line for line in model.read_text().splitlines() if "OpenVINO Runtime" not in line]
    model.write_text("\n".join(lines))
    assert "doesn't say which OpenVINO wrote it" in stages.run("encapsulate", {}, {"model": ir}).failure[1]
