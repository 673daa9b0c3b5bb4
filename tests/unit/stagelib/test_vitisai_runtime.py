"""AMD's provider by a stand-in: nothing of a graph falls to the CPU without being said. No NPU, no wheel of AMD's."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from stagelib import vitisai
from stagelib.api import StageError
from stagelib.modelinfo import ModelInfo, Tensor, Variant
from stagelib.ortrun import CPU
from stagelib.runtimes import vitisai as runtime
from stagelib.runtimes.base import places

BORDER = (Tensor(name="input_ids", dtype="int64", shape=(1, 8)),)
REPORT = {
    "deviceStat": [
        {"name": "all", "nodeNum": 400, "supportedOpType": ["::Add"]},
        {"name": "CPU", "nodeNum": 2, "supportedOpType": ["::QuantizeLinear"]},
        {"name": "NPU", "nodeNum": 398, "supportedOpType": ["::Add"]},
    ]
}


class FakeSession:
    """What the provider's session says of itself."""

    made: Mapping[str, Any]
    placed: Mapping[str, list[str]] = {vitisai.PROVIDER: ["EPContext"], CPU: ["Cast"]}

    def __init__(self, path: str, options: Any, providers: list[str], provider_options: list[dict[str, str]]) -> None:
        type(self).made = {"path": path, "config": options.entries, "providers": providers, **provider_options[0]}

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="input_ids")]

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="last_hidden_state")]

    def run(self, names: list[str], feed: Mapping[str, Any]) -> list[Any]:
        return [feed["input_ids"] for _ in names]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        return [
            SimpleNamespace(ep_name=name, get_nodes=lambda ops=ops: [SimpleNamespace(op_type=op) for op in ops])
            for name, ops in self.placed.items()
        ]


class FakeOptions:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}
        self.intra_op_num_threads = 0

    def add_session_config_entry(self, name: str, value: str) -> None:
        self.entries[name] = value


def install(monkeypatch: pytest.MonkeyPatch, session: type[FakeSession], providers: list[str]) -> None:
    """An onnxruntime of our own in place of AMD's."""
    module, capi, state = (ModuleType(name) for name in ("onnxruntime", "onnxruntime.capi", "state"))
    module.__dict__.update(
        get_available_providers=lambda: providers, InferenceSession=session, SessionOptions=FakeOptions
    )
    capi.__dict__.update(onnxruntime_pybind11_state=state)
    state.__dict__.update(Fail=type("Fail", (Exception,), {}))
    for name, value in {"onnxruntime": module, "onnxruntime.capi": capi}.items():
        monkeypatch.setitem(sys.modules, name, value)
    monkeypatch.delenv(vitisai.REPORT_VARIABLE, raising=False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A compiled model as compile_vitisai describes it."""
    folder = tmp_path / "model"
    folder.mkdir()
    variant = Variant(entry="model_ctx.onnx", files=("model_ctx.onnx",), built_for={"target": "X1"})
    ModelInfo(
        format="vitisai",
        entry="model_ctx.onnx",
        files=("model_ctx.onnx",),
        precision="int16/int8",
        inputs=BORDER,
        outputs=BORDER,
        variants=(variant,),
    ).write(folder)
    return folder


BOTH = [vitisai.PROVIDER, CPU]
FEED: dict[str, Any] = {"input_ids": [1]}


def test_an_onnxruntime_without_the_provider_is_told_from_amds(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    install(monkeypatch, FakeSession, [CPU])
    with pytest.raises(StageError, match="has no VitisAIExecutionProvider") as caught:
        runtime.load(model)
    assert "vendor/" in caught.value.hint


def test_another_device_is_refused(model: Path) -> None:
    with pytest.raises(StageError, match="no device 'cpu'"):
        runtime.load(model, device="cpu")
    assert runtime.executed_on("NPU") == "device"


def test_a_model_is_loaded_as_it_was_compiled(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    install(monkeypatch, FakeSession, BOTH)
    (model / vitisai.CONFIG).write_text("{}")
    session = runtime.load(model, device="npu", threads=2)
    made = FakeSession.made
    assert made["providers"] == [vitisai.PROVIDER]
    assert made["target"] == "X1"
    assert made["config_file"] == str(model / vitisai.CONFIG)
    assert made["config"] == {"session.record_ep_graph_assignment_info": "1"}
    assert session.settings == {
        "provider": vitisai.PROVIDER,
        "intra_op_num_threads": 2,
        "cache_key": vitisai.KEY,
        "enable_cache_file_io_in_mem": "0",
        "target": "X1",
    }
    assert places(session) == [
        {"where": vitisai.PROVIDER, "nodes": 1, "ops": {"EPContext": 1}, "compute": None},
        {"where": CPU, "nodes": 1, "ops": {"Cast": 1}, "compute": None},
    ]


def test_a_provider_that_took_nothing_is_a_silent_fallback(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    install(monkeypatch, OnTheCpu, BOTH)
    with pytest.raises(StageError, match="it would run on the CPU, in silence"):
        runtime.load(model)


def test_a_model_that_the_provider_refuses(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    install(monkeypatch, Refusing, BOTH)
    with pytest.raises(StageError, match=r"can't load model_ctx\.onnx: XRT is not installed") as caught:
        runtime.load(model)
    assert "amdxdna" in caught.value.hint


class Refusing(FakeSession):
    def __init__(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("XRT is not installed")


class OnTheCpu(FakeSession):
    placed: Mapping[str, list[str]] = {CPU: ["MatMul", "Add"]}


@pytest.mark.parametrize("session", [Refusing, OnTheCpu])
def test_a_failed_load_leaves_no_cache(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path, session: type[FakeSession]
) -> None:
    install(monkeypatch, session, BOTH)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with pytest.raises(StageError) as caught:
        runtime.load(model)
    assert caught.value is not None  # and with it everything that `load` held is still alive
    assert not list(scratch.iterdir())


def test_the_cache_goes_with_its_session(monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path) -> None:
    install(monkeypatch, FakeSession, BOTH)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    session = runtime.load(model)
    assert [path.name.startswith("vitisai-") for path in scratch.iterdir()] == [True]
    del session
    gc.collect()
    assert not list(scratch.iterdir())


def test_a_run_that_never_opened_an_npu_is_no_result(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    install(monkeypatch, FakeSession, BOTH)
    monkeypatch.setattr(vitisai, "opened_device", lambda: False)
    with pytest.raises(StageError, match="without opening an NPU"):
        runtime.load(model).run(FEED)


@pytest.mark.parametrize("opened", [True, None], ids=["opened", "not told"])
def test_a_run_on_an_open_npu_is_one(monkeypatch: pytest.MonkeyPatch, model: Path, opened: object) -> None:
    install(monkeypatch, FakeSession, BOTH)
    monkeypatch.setattr(vitisai, "opened_device", lambda: opened)
    assert runtime.load(model).run(FEED) == {"last_hidden_state": FEED["input_ids"]}


def test_without_the_partitioners_word_the_providers_report_serves(
    monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    class Silent(FakeSession):
        get_provider_graph_assignment_info = None  # type: ignore[assignment]

        def __init__(self, path: str, options: Any, providers: list[str], provider_options: Any) -> None:
            super().__init__(path, options, providers, provider_options)
            folder = Path(provider_options[0]["cache_dir"], provider_options[0]["cache_key"])
            folder.mkdir(parents=True)
            (folder / vitisai.REPORT).write_text(json.dumps(REPORT))

    install(monkeypatch, Silent, BOTH)
    placed = {part.where: part.nodes for part in runtime.load(model).placement()}
    assert placed == {vitisai.INSIDE: 2, vitisai.PROVIDER: 398}


def test_where_nobody_says_where_nodes_run_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    class Mute(FakeSession):
        get_provider_graph_assignment_info = None  # type: ignore[assignment]

    install(monkeypatch, Mute, BOTH)
    with pytest.raises(StageError, match="neither ONNX Runtime nor the Vitis AI provider says"):
        runtime.load(model)


def test_an_open_device_is_seen_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "0").symlink_to("/dev/null")
    assert vitisai.opened_device(tmp_path) is (False if sys.platform == "linux" else None)
    (tmp_path / "7").symlink_to("/dev/accel/accel0")
    assert vitisai.opened_device(tmp_path) is (True if sys.platform == "linux" else None)
    assert vitisai.opened_device(tmp_path / "gone") is None


def test_the_configuration_is_the_one_amd_documents() -> None:
    made = vitisai.configuration(2, "unvectorized")
    assert made["target"] == "VAIML"
    assert made["passes"][1]["vaiml_config"] == {"optimize_level": 2, "preferred_data_storage": "unvectorized"}
