"""The DirectML runtime: refuses to run where there is none, and asks for it by name where there is."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from stagelib.api import StageError
from stagelib.modelinfo import ModelInfo
from stagelib.runtimes import directml


class Asked(Exception):  # noqa: N818  # no error: it carries what a session was asked for
    def __init__(self, options: Any, providers: Any) -> None:
        super().__init__()
        self.options, self.providers = options, providers


def fake_onnxruntime(providers: list[str]) -> dict[str, types.ModuleType]:
    """What the runtime touches of ONNX Runtime; making a session ends the test with what was asked."""

    class Options:
        enable_mem_pattern = True
        entries: dict[str, str]

        def __init__(self) -> None:
            self.entries = {}

        def add_session_config_entry(self, name: str, value: str) -> None:
            self.entries[name] = value

    def session(_: str, options: Any, *, providers: Any) -> None:
        raise Asked(options, providers)

    modules = {name: types.ModuleType(name) for name in ("onnxruntime", "onnxruntime.capi")}
    errors = types.ModuleType("onnxruntime.capi.onnxruntime_pybind11_state")
    for name in ("Fail", "InvalidGraph", "NotImplemented", "InvalidProtobuf"):
        setattr(errors, name, type(name, (Exception,), {}))
    runtime: Any = modules["onnxruntime"]
    runtime.__version__ = "1.24.4"
    runtime.get_available_providers = lambda: providers
    runtime.SessionOptions = Options
    runtime.ExecutionMode = types.SimpleNamespace(ORT_SEQUENTIAL="sequential")
    runtime.InferenceSession = session
    capi: Any = modules["onnxruntime.capi"]
    capi.onnxruntime_pybind11_state = errors
    return modules | {errors.__name__: errors}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    ModelInfo(
        format="directml", entry="model.onnx", files=("model.onnx",), precision="fp16", inputs=(), outputs=()
    ).write(tmp_path)
    return tmp_path


def on_windows(monkeypatch: pytest.MonkeyPatch, providers: list[str]) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    for name, module in fake_onnxruntime(providers).items():
        monkeypatch.setitem(sys.modules, name, module)


def test_elsewhere_it_says_where_it_runs(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(StageError, match="Windows") as caught:
        directml.load(model)
    assert "--engine=venv" in caught.value.hint


def test_an_onnxruntime_without_directml_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_windows(monkeypatch, ["CPUExecutionProvider"])
    with pytest.raises(StageError, match="has no DirectML") as caught:
        directml.load(model)
    assert "onnxruntime-directml" in caught.value.hint


def test_the_adapter_that_was_asked_for_is_passed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_windows(monkeypatch, ["DmlExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(Asked) as caught:
        directml.load(model, device="gpu.1")
    assert caught.value.providers[0] == ("DmlExecutionProvider", {"device_id": "1"})
    assert caught.value.options.enable_mem_pattern is False
    assert caught.value.options.entries == {"session.record_ep_graph_assignment_info": "1"}


def test_a_model_of_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_windows(monkeypatch, ["DmlExecutionProvider"])
    ModelInfo(format="openvino", entry="m", files=("m",), precision="int8", inputs=(), outputs=()).write(tmp_path)
    with pytest.raises(StageError, match="openvino format"):
        directml.load(tmp_path)


@pytest.mark.parametrize("device", ["cpu", "npu", "gpu.x", "gpu1"])
def test_it_knows_gpus_alone(model: Path, device: str) -> None:
    with pytest.raises(StageError, match="no device"):
        directml.load(model, device=device)
    with pytest.raises(StageError, match="no device"):
        directml.executed_on(device)
    assert directml.executed_on("GPU") == "device"
