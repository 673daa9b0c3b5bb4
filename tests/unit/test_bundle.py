"""What of a target runs on a platform, and results read back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from portwright.bundle import choose
from portwright.device_locks import load_device_locks
from portwright.errors import RecipeError, UsageError
from portwright.project import this_project
from portwright.readback import read_results
from portwright.request import load_catalog
from portwright.stages import StageLibrary

PROJECT = this_project()
LOCKS = load_device_locks(PROJECT)
CATALOG = load_catalog(PROJECT)
LIBRARY = StageLibrary(PROJECT.shared)


def names(target: str, format_: str, platform: str) -> list[str]:
    choice = choose(LOCKS, LIBRARY, CATALOG.targets[target], format_, platform)
    return [execution.name for execution in choice.executions]


def test_devices_come_first_and_the_processor_stands_in() -> None:
    assert names("openvino", "openvino", "linux-x64") == ["npu", "gpu", "cpu"]
    assert names("cpu", "onnx", "win-arm64") == ["cpu"]


def test_a_device_of_another_system_is_left_out() -> None:
    assert names("dml", "directml", "win-x64") == ["gpu"]
    with pytest.raises(UsageError, match="nothing of target 'dml' runs this on linux-x64") as caught:
        names("dml", "directml", "linux-x64")
    assert "no device of the target is for linux" in caught.value.why
    assert "onnxruntime loads no model in directml format" in caught.value.why


def test_what_has_no_wheel_is_refused_with_its_reason() -> None:
    with pytest.raises(UsageError) as caught:
        names("openvino", "openvino", "linux-arm64")
    assert "2025.2.0" in caught.value.why


def test_the_runner_needs_nothing_of_the_host_and_no_vendor() -> None:
    packed = LIBRARY.packed("stagelib.runner.__main__", "stagelib.runtimes.openvino")
    assert {"stagelib/__init__.py", "stagelib/runtimes/__init__.py", "stagelib/bench_worker.py"} <= set(packed)
    assert "stagelib/runtimes/openvino.py" in packed
    assert not {name for name in packed if name.startswith(("stagelib/stages/quantize", "stagelib/stages/export"))}


def test_what_is_no_result_names_the_file_and_the_place(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"recipe": 3}))
    with pytest.raises(RecipeError, match=r"result\.json") as caught:
        read_results(tmp_path)
    assert "recipe" in str(caught.value)
    shutil.rmtree(tmp_path)
    with pytest.raises(UsageError, match="no file or folder"):
        read_results(tmp_path)
