"""NVIDIA without a GPU: parameters that can't be right, the engine for a GPU, and what a missing driver is called."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stagelib import rtxengine, vendor
from stagelib.api import StageError
from stagelib.cudadriver import Gpu, open_driver
from stagelib.modelinfo import ModelInfo, Tensor, Variant
from stagelib.runtimes import nv_tensorrt_rtx, ortgpu, tensorrt_rtx
from stagelib.stages import compile_trt, float16, optimize


def variant(*capabilities: str, version: str = "1.7.1.116") -> Variant:
    entry = f"model_{'_'.join(capabilities)}.engine"
    return Variant(
        entry=entry, files=(entry,), built_for={"capabilities": list(capabilities), "library_version": version}
    )


def model(folder: Path, **changes: Any) -> ModelInfo:
    tensor = Tensor(name="input_ids", dtype="int64", shape=(1, 128))
    fields: Mapping[str, Any] = {
        "format": "onnx",
        "entry": "model.onnx",
        "files": ("model.onnx",),
        "precision": "fp16",
        "inputs": (tensor,),
        "outputs": (),
    }
    info = ModelInfo(**{**fields, **changes})
    info.write(folder)
    return info


@pytest.mark.parametrize(
    "wrong", [{"capabilities": ()}, {"capabilities": ("sm86",)}, {"capabilities": ("7.5", "8.6")}], ids=str
)
def test_capabilities_that_no_engine_can_have(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="capabilit"):
        compile_trt.Params(**wrong)


def test_the_order_of_capabilities_is_the_numbers_own() -> None:
    assert compile_trt._ordered(("12.0", "8.9", "8.6", "8.9")) == ("8.6", "8.9", "12.0")


def test_an_fp32_graph_needs_a_word_of_its_own(tmp_path: Path) -> None:
    info = model(tmp_path, precision="fp32")
    with pytest.raises(StageError, match="fp32") as error:
        compile_trt._check_source(info, compile_trt.Params())
    assert "float16" in error.value.hint
    compile_trt._check_source(info, compile_trt.Params(allow_fp32=True))


def test_a_free_shape_is_refused(tmp_path: Path) -> None:
    info = model(tmp_path, inputs=(Tensor(name="input_ids", dtype="int64", shape=("batch_size", 128)),))
    with pytest.raises(StageError, match="input_ids is free"):
        compile_trt._check_source(info, compile_trt.Params())


def test_refused_operators_are_named_once_each_with_their_number() -> None:
    told = rtxengine.refused(
        [("Gelu", "a", "no plugin"), ("Attention", "b", "no bias"), ("Gelu", "c", "no plugin"), ("", "", "no file")]
    )
    assert told.startswith("Gelu (2 nodes; a: no plugin); ")
    assert "Attention (1 nodes; b: no bias)" in told
    assert "the file (1 nodes; no file)" in told


def test_of_many_refused_operators_the_rest_is_counted() -> None:
    assert rtxengine.refused([(name, "n", "why") for name in "ABCDE"]).endswith("; and 2 more operators")


def test_the_engine_is_the_one_for_this_gpu() -> None:
    variants = (variant("8.6", "8.9", "12.0"), variant("7.5"))
    assert tensorrt_rtx.choose(variants, "7.5", "1.7.1.116").entry == "model_7.5.engine"
    with pytest.raises(StageError, match=r"capability 9\.0; built for 8\.6, 8\.9, 12\.0, 7\.5"):
        tensorrt_rtx.choose(variants, "9.0", "1.7.1.116")


def test_an_engine_of_another_release_is_refused() -> None:
    with pytest.raises(StageError, match=r"built by TensorRT-RTX 1\.6, and 1\.7\.1\.116 is here"):
        tensorrt_rtx.choose((variant("8.6", version="1.6"),), "8.6", "1.7.1.116")


def without_libraries(name: str, **_: Any) -> None:
    raise OSError(f"{name}: cannot open shared object file")


@pytest.mark.parametrize("runtime", [nv_tensorrt_rtx, ortgpu], ids=lambda module: module.__name__.split(".")[-1])
def test_without_a_driver_nothing_runs_elsewhere_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: Any
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", without_libraries)
    with pytest.raises(StageError, match="no NVIDIA driver") as error:
        runtime._preload(("CUDAExecutionProvider",)) if runtime is ortgpu else runtime.load(_saved(tmp_path))
    assert "NVIDIA Container Toolkit" in error.value.hint


def _saved(folder: Path) -> Path:
    model(folder)
    return folder


def test_an_engine_without_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", without_libraries)
    model(tmp_path, format="tensorrt_rtx", variants=(variant("8.6"),))
    with pytest.raises(StageError, match="no NVIDIA driver"):
        tensorrt_rtx.load(tmp_path)


def test_what_onnx_runtime_is_linked_with_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a driver alone, CUDA is missing; with CUDA, TensorRT."""
    present = {"libcuda.so.1"}

    def only_present(name: str, **_: Any) -> None:
        if name not in present:
            without_libraries(name)

    monkeypatch.setattr(ctypes, "CDLL", only_present)
    with pytest.raises(StageError, match=r"CUDA is not here: libcudart\.so\.13"):
        ortgpu._preload(ortgpu.PROVIDERS["tensorrt"])
    present |= set(ortgpu.CUDA_LIBRARIES)
    ortgpu._preload(ortgpu.PROVIDERS["cuda"])
    with pytest.raises(StageError, match=r"TensorRT is not here: libnvinfer\.so\.10") as error:
        ortgpu._preload(ortgpu.PROVIDERS["tensorrt"])
    assert "vendor/" in error.value.hint


def test_the_archive_s_tensorrt_goes_before_the_loader_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = tmp_path / "TensorRT-10" / "lib"
    libraries.mkdir(parents=True)
    for name in ortgpu.TENSORRT_LIBRARIES:
        (libraries / name).touch()
    loaded: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name, **_: loaded.append(name))
    monkeypatch.setattr(vendor, "folder", lambda name: tmp_path if name == "tensorrt" else None)
    ortgpu._preload(ortgpu.PROVIDERS["tensorrt"])
    assert loaded[-3:] == [str(libraries / name) for name in ortgpu.TENSORRT_LIBRARIES]


def test_nvidia_s_wheels_go_before_the_host_s_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "nvidia" / "cu13" / "lib" / "libcublas.so.13"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    monkeypatch.syspath_prepend(tmp_path)
    loaded: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name, **_: loaded.append(name))
    ortgpu._preload(ortgpu.PROVIDERS["cuda"])
    assert str(wheel) in loaded
    assert "libcudart.so.13" in loaded


class Answer:
    """A C function that takes nothing."""

    def __init__(self, value: int) -> None:
        self.value = value
        self.restype: Any = None

    def __call__(self) -> int:
        assert self.restype is ctypes.c_size_t
        return self.value


def test_the_host_s_cuda_is_on_record() -> None:
    """No lock names it, and figures depend on it."""

    def asked(version: Any) -> int:
        version._obj.value = 13000
        return 0

    libraries = {
        ortgpu.CUDART: SimpleNamespace(cudaRuntimeGetVersion=asked),
        ortgpu.CUDNN: SimpleNamespace(cudnnGetVersion=Answer(91900)),
    }
    assert ortgpu._releases(libraries) == {"cuda": 13000, "cudnn": 91900}
    assert ortgpu._releases({}) == {}


@pytest.mark.parametrize(("device", "on"), [("TensorRT", "device"), ("CUDA", "device"), ("cpu", "cpu")])
def test_a_stand_in_is_labelled(device: str, on: str) -> None:
    assert ortgpu.executed_on(device) == on


@pytest.mark.parametrize("runtime", [nv_tensorrt_rtx, ortgpu, tensorrt_rtx])
def test_no_runtime_takes_a_device_it_does_not_serve(runtime: Any) -> None:
    with pytest.raises(StageError, match="no device 'NPU'"):
        runtime.executed_on("NPU")


class FakeDriver:
    """CUDA's driver API as `Gpu` calls it: memory is a dictionary, and every call is noted."""

    def __init__(self, codes: Mapping[str, int] | None = None) -> None:
        self.codes = codes or {}
        self.calls: list[str] = []
        self.memory: dict[int, bytes] = {}

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if handler := FakeDriver.__dict__.get(f"_{name}"):
                handler(self, *arguments)
            return self.codes.get(name, 0)

        return call

    def _cuDeviceGetAttribute(self, value: Any, attribute: int, _: Any) -> None:  # noqa: N802
        value._obj.value = {75: 8, 76: 9}[attribute]

    def _cuDeviceGetName(self, name: Any, _size: int, _device: Any) -> None:  # noqa: N802
        name.value = b"a GPU"

    def _cuMemAlloc_v2(self, pointer: Any, size: Any) -> None:  # noqa: N802
        pointer._obj.value = 1024 * (len(self.memory) + 1)
        self.memory[pointer._obj.value] = bytes(size.value)

    def _cuMemcpyHtoDAsync_v2(self, target: Any, source: Any, size: Any, _: Any) -> None:  # noqa: N802
        self.memory[target.value] = ctypes.string_at(source, size.value)

    def _cuMemcpyDtoH_v2(self, target: Any, source: Any, size: Any) -> None:  # noqa: N802
        ctypes.memmove(target, self.memory[source.value], size.value)


def test_what_goes_to_the_device_comes_back_after_the_stream_is_done() -> None:
    driver = FakeDriver()
    gpu = Gpu(driver)
    assert (gpu.name, gpu.capability) == ("a GPU", "8.9")
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    address = gpu.allocate(array.nbytes)
    gpu.upload(address, array)
    driver.calls.clear()
    np.testing.assert_array_equal(gpu.download(address, (2, 3), np.dtype(np.int64)), array)
    assert driver.calls == ["cuStreamSynchronize", "cuMemcpyDtoH_v2"]


def test_a_refusal_of_the_driver_is_named() -> None:
    with pytest.raises(StageError, match="refused cuInit: CUDA error 100") as raised:
        Gpu(FakeDriver({"cuInit": 100}))
    assert "install NVIDIA's driver" in raised.value.hint
    with pytest.raises(StageError, match="refused cuMemAlloc_v2: CUDA error 2") as raised:
        Gpu(FakeDriver({"cuMemAlloc_v2": 2})).allocate(1)
    assert "memory is full" in raised.value.hint


def test_the_driver_is_looked_for_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", names.append)
    open_driver()
    assert names == ["libcuda.so.1"]


@pytest.mark.parametrize("wrong", [{"texts": 0}, {"headroom": 0.5}, {"headroom": float("nan")}], ids=str)
def test_float16_asks_for_a_measurement(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        float16.Params(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_heads": 12},
        {"num_heads": 12, "hidden_size": 100},
        {"use_gpu": True, "opt_level": 2},
        {"multi_head_attention": True},
    ],
    ids=str,
)
def test_optimize_refuses_what_contradicts_itself(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        optimize.Params(**wrong)
