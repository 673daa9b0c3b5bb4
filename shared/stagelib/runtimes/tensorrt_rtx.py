"""TensorRT-RTX: runs an engine on an NVIDIA RTX GPU. Written by the library's documents; not verified on a GPU here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib.api import Format, StageError
from stagelib.modelinfo import ModelInfo, Variant
from stagelib.runtimes.base import ExecutedOn, Placed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stagelib.cudadriver import Gpu

PACKAGES: tuple[str, ...] = ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs", "numpy")
FORMATS: tuple[Format, ...] = ("tensorrt_rtx",)
DEVICE = "GPU"
WHERE = "TensorRT-RTX"


def load(folder: Path, *, device: str = DEVICE, threads: int | None = None) -> EngineSession:
    """Load the engine of `folder` that was built for this machine's GPU.

    StageError where there is no GPU or no driver, none of the engines is for this GPU, or another release of the
    library built them. `threads` says nothing to a GPU.
    """
    del threads
    executed_on(device)
    info = ModelInfo.read(folder)
    if info.format not in FORMATS:
        raise StageError(f"runtime tensorrt_rtx can't load a model in {info.format} format")
    # The driver first: TensorRT-RTX itself imports without one, and fails later with a bare CUDA error.
    from stagelib.cudadriver import Gpu, open_driver

    gpu = Gpu(open_driver())
    import tensorrt_rtx_bindings as trt

    variant = choose(info.variants, gpu.capability, trt.__version__)
    logger = trt.Logger(trt.Logger.WARNING)
    engine = trt.Runtime(logger).deserialize_cuda_engine((folder / variant.entry).read_bytes())
    if engine is None:
        raise StageError(
            f"TensorRT-RTX can't load {variant.entry} on {gpu.name}", hint="the stage's log has the library's reason"
        )
    return EngineSession(engine, gpu, {"device": gpu.name, "capability": gpu.capability, "engine": variant.entry})


def executed_on(device: str) -> ExecutedOn:
    """A GPU is all this runtime serves."""
    if device.upper() != DEVICE:
        raise StageError(f"runtime tensorrt_rtx has no device {device!r}", hint=f"known: {DEVICE}")
    return "device"


def choose(variants: tuple[Variant, ...], capability: str, version: str) -> Variant:
    """The engine for a GPU of that compute capability; StageError where there is none, or another release built it."""
    for variant in variants:
        if capability not in variant.built_for["capabilities"]:
            continue
        built_by = variant.built_for["library_version"]
        if built_by != version:
            raise StageError(
                f"{variant.entry} was built by TensorRT-RTX {built_by}, and {version} is here",
                hint="an engine is good for one release of the library: build it again",
            )
        return variant
    have = ", ".join(one for variant in variants for one in variant.built_for["capabilities"])
    raise StageError(
        f"no engine is for this GPU (compute capability {capability}; built for {have})",
        hint="add it to capabilities of compile_trt in the recipe",
    )


class EngineSession:
    """An engine with its buffers on the device. Shapes are fixed, so that each buffer is made once."""

    def __init__(self, engine: Any, gpu: Gpu, settings: Mapping[str, str | int | None]) -> None:
        import numpy as np
        import tensorrt_rtx_bindings as trt

        self._engine, self._gpu = engine, gpu
        self._context = engine.create_execution_context()
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._types: dict[str, np.dtype[Any]] = {}
        self._addresses: dict[str, int] = {}
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        for name in names:
            self._shapes[name] = tuple(engine.get_tensor_shape(name))
            self._types[name] = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
            size = int(np.prod(self._shapes[name])) * self._types[name].itemsize
            self._addresses[name] = gpu.allocate(size)
            self._context.set_tensor_address(name, self._addresses[name])
        given = {name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
        self.inputs: tuple[str, ...] = tuple(name for name in names if name in given)
        self._outputs = [name for name in names if name not in given]
        self.settings: Mapping[str, str | int | None] = settings
        self.device_name = gpu.name

    def run(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        import numpy as np

        # Held until the download has waited for the stream: the copies read them on their own time.
        held = {name: np.ascontiguousarray(batch[name], self._types[name]) for name in self.inputs}
        for name, array in held.items():
            if array.shape != self._shapes[name]:
                raise StageError(f"the engine takes {name} of {self._shapes[name]}, not {array.shape}")
            self._gpu.upload(self._addresses[name], array)
        if not self._context.execute_async_v3(self._gpu.stream):
            raise StageError("TensorRT-RTX could not run the engine", hint="the stage's log has the library's reason")
        return {
            name: self._gpu.download(self._addresses[name], self._shapes[name], self._types[name])
            for name in self._outputs
        }

    def placement(self) -> tuple[Placed, ...]:
        # The engine runs whole on the GPU or not at all: there is no other provider in the process.
        return (Placed(where=WHERE, nodes=self._engine.num_layers, compute=1.0),)
