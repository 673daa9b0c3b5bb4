"""Blobs for Intel's NPU: what is there, what is missing and what failed are told apart, and no run falls back."""

from __future__ import annotations

import io
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from stagelib import npublobs
from stagelib.api import Call, StageError
from stagelib.modelinfo import ModelInfo, Variant
from stagelib.runtimes import openvino as runtime
from stagelib.stages import compile_openvino

LOADING = "Exception from plugin.cpp:54:\nVCL compiler loading failed, aborting. Error: no such symbol\n"
REFUSING = "Exception from compiler_impl.cpp:280:\nCompilation failed. result: 0x78000004\n"


class Compiled:
    """A compiled model as far as it is exported and asked."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def export_model(self) -> io.BytesIO:
        return io.BytesIO(self._content)

    def get_property(self, name: str) -> Any:
        return {"NPU_COMPILER_VERSION": 7 << 16 | 10, "SUPPORTED_PROPERTIES": {"RUNTIME_REQUIREMENTS": "RO"}}.get(
            name, "desc=[x]"
        )


class Core:
    """OpenVINO's core of one machine: an NPU of one platform, and a compiler that answers or fails."""

    available_devices = ("CPU", "NPU")

    def __init__(self, *, content: bytes = b"blob OVNPU", failure: str = "", platform: str = "4000") -> None:
        self._content, self._failure, self._platform = content, failure, platform
        self.loaded: list[Any] = []

    def read_model(self, path: Path) -> Path:
        return path

    def compile_model(self, model: Path, device: str, settings: dict[str, Any]) -> Compiled:
        if self._failure:
            raise RuntimeError(self._failure)
        self.loaded.append((Path(model).name, device, settings))
        return Compiled(self._content)

    def import_model(self, content: bytes, device: str) -> Compiled:
        if self._failure:
            raise RuntimeError(self._failure)
        self.loaded.append((content, device))
        return Compiled(content)

    def get_property(self, device: str, name: str) -> str:
        assert device == "NPU"
        return {"DEVICE_ARCHITECTURE": self._platform, "FULL_DEVICE_NAME": f"Intel NPU {self._platform}"}[name]


def install(monkeypatch: pytest.MonkeyPatch, core: Core, folder: Path) -> None:
    module: Any = types.ModuleType("openvino")
    module.__file__ = str(folder / "openvino" / "__init__.py")
    module.Core = lambda: core
    module.get_version = lambda: "2026.4.1-22982-releases/2026/4"
    monkeypatch.setitem(sys.modules, "openvino", module)


@pytest.fixture
def call(tmp_path: Path) -> Call:
    folders = {name: tmp_path / name for name in ("model", "output", "scratch")}
    for folder in folders.values():
        folder.mkdir()
    for name in ("model.xml", "model.bin"):
        (folders["model"] / name).write_bytes(name.encode())
    ModelInfo(
        format="openvino",
        entry="model.xml",
        files=("model.xml", "model.bin"),
        precision="int8",
        inputs=(),
        outputs=(),
    ).write(folders["model"])
    return Call(
        stage="compile_openvino",
        inputs={"model": folders["model"]},
        output=folders["output"],
        scratch=folders["scratch"],
        events=io.StringIO(),
    )


def give_library(folder: Path) -> None:
    libraries = folder / "openvino" / "libs"
    libraries.mkdir(parents=True)
    (libraries / npublobs.library().name).write_bytes(b"")


PARAMS = compile_openvino.Params(platforms=("4000", "5010"))


def test_without_the_compiler_the_ir_ships_and_the_facts_say_what_is_missing(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, Core(failure="must not be asked"), tmp_path)
    facts = compile_openvino.run(call, PARAMS).facts
    assert [entry["what"][-4:] for entry in facts["not_built"]] == ["4000", "5010"]
    assert "libopenvino_intel_npu_compiler_loader.so" in facts["not_built"][0]["why"]
    assert "variants" not in facts
    assert ModelInfo.read(call.output).files == ("model.xml", "model.bin")
    # What is as it was is not written again.
    assert call.passed == {"model.xml": ("model", "model.xml"), "model.bin": ("model", "model.bin")}
    assert [path.name for path in call.output.iterdir()] == ["model.json"]


def test_with_it_there_is_a_blob_for_each_platform(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = Core()
    install(monkeypatch, core, tmp_path)
    give_library(tmp_path)
    facts = compile_openvino.run(call, PARAMS).facts
    info = ModelInfo.read(call.output)
    assert info.entry == "model.xml"
    assert info.files == ("model.xml", "model.bin", "model_npu4000.blob", "model_npu5010.blob")
    assert [variant.built_for["platform"] for variant in info.variants] == ["4000", "5010"]
    assert info.variants[0].built_for["compiler_version"] == "7.10"
    assert info.variants[0].built_for["openvino"] == "2026.4.1"
    assert facts["blob_bytes"] == {"model_npu4000.blob": 10, "model_npu5010.blob": 10}
    # The driver's own compiler would make the result depend on the machine.
    assert [asked[2]["NPU_COMPILER_TYPE"] for asked in core.loaded] == ["PLUGIN", "PLUGIN"]


@pytest.mark.parametrize(
    ("core", "words"),
    [
        (Core(failure=LOADING), "OpenVINO can't use it"),
        (Core(failure="Unsupported VCL version: 7.7"), "OpenVINO can't use it"),
        (Core(failure=REFUSING), "can't compile the model for platform 4000"),
        (Core(content=b"something else"), "doesn't end as its blobs do"),
    ],
)
def test_a_compiler_that_fails_fails_the_stage(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, core: Core, words: str
) -> None:
    install(monkeypatch, core, tmp_path)
    give_library(tmp_path)
    with pytest.raises(StageError, match=words):
        compile_openvino.run(call, PARAMS)


@pytest.mark.parametrize("platforms", [(), ("4000", "4000"), ("40",), ("NPU4",)])
def test_platforms_are_openvino_s_numbers(platforms: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="platform"):
        compile_openvino.Params(platforms=platforms)


def with_blobs(folder: Path) -> Path:
    variants = tuple(
        Variant(
            entry=f"model_npu{platform}.blob", files=(f"model_npu{platform}.blob",), built_for={"platform": platform}
        )
        for platform in ("4000", "5010")
    )
    for variant in variants:
        (folder / variant.entry).write_bytes(variant.entry.encode())
    ModelInfo(
        format="openvino",
        entry="model.xml",
        files=("model.xml",),
        precision="int8",
        inputs=(),
        outputs=(),
        variants=variants,
    ).write(folder)
    return folder


def loaded(monkeypatch: pytest.MonkeyPatch, core: Core, folder: Path, device: str) -> Any:
    install(monkeypatch, core, folder)
    # A session asks the compiled model for its ports; what was loaded is all that counts here.
    monkeypatch.setattr(runtime, "OpenVinoSession", lambda _, settings, name: (name, settings))
    return runtime.load(folder, device=device)


def test_the_npu_loads_the_blob_of_its_own_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = Core(platform="5010")
    _, settings = loaded(monkeypatch, core, with_blobs(tmp_path), "NPU")
    assert core.loaded == [(b"model_npu5010.blob", "NPU")]
    assert settings["loaded"] == "model_npu5010.blob"


def test_an_npu_of_another_platform_compiles_the_ir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = Core(platform="3720")
    _, settings = loaded(monkeypatch, core, with_blobs(tmp_path), "NPU")
    assert core.loaded[0][:2] == ("model.xml", "NPU")
    assert settings["loaded"] == "model.xml"


def test_the_cpu_never_sees_a_blob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = Core()
    loaded(monkeypatch, core, with_blobs(tmp_path), "CPU")
    assert core.loaded[0][:2] == ("model.xml", "CPU")


def test_a_blob_that_the_npu_refuses_is_an_error_and_no_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = Core(failure="incompatible blob")
    with pytest.raises(StageError, match=r"can't load model_npu4000\.blob for NPU"):
        loaded(monkeypatch, core, with_blobs(tmp_path), "NPU")
    assert not core.loaded


@pytest.mark.parametrize("device", ["AUTO", "HETERO:NPU,CPU", "MULTI:NPU", "BATCH:NPU"])
def test_devices_that_choose_by_themselves_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    with pytest.raises(StageError, match="no device"):
        loaded(monkeypatch, Core(), with_blobs(tmp_path), device)


class Layers:
    """A compiled model that tells where it runs, and shows its layers where its plugin does."""

    inputs: tuple[Any, ...] = ()
    outputs: tuple[Any, ...] = ()

    def __init__(self, devices: list[str], layers: list[str]) -> None:
        self._devices, self._layers = devices, layers

    def create_infer_request(self) -> None:
        return None

    def get_property(self, name: str) -> list[str]:
        assert name == "EXECUTION_DEVICES"
        return self._devices

    def get_runtime_model(self) -> Any:
        operations = [types.SimpleNamespace(get_rt_info=lambda kind=kind: {"layerType": kind}) for kind in self._layers]
        return types.SimpleNamespace(get_ops=lambda: operations)


@pytest.mark.parametrize(
    ("devices", "where", "nodes"),
    [(["CPU"], "CPU", 2), (["GPU.0"], "GPU", 2), (["NPU"], "NPU", 1), (["CPU", "NPU"], "CPU,NPU", 2)],
)
def test_placement_is_what_openvino_says_it_executes_on(devices: list[str], where: str, nodes: int) -> None:
    model: Any = Layers(devices, ["Input", "FullyConnected", "FullyConnected", "Output"])
    (placed,) = runtime.OpenVinoSession(model, {}, "a chip").placement()
    assert (placed.where, placed.nodes) == (where, nodes)
    assert placed.ops == ({} if where == "NPU" else {"FullyConnected": 2})
