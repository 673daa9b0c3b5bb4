"""TensorRT-RTX as a plugin provider of ONNX Runtime: takes the ONNX model itself, for GPUs no engine was built for.

Written by the provider's documents; not verified on a GPU here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib.api import Format, StageError, cpu_count
from stagelib.modelinfo import ModelInfo
from stagelib.ortrun import OrtSession, ort_failures
from stagelib.runtimes.base import ExecutedOn

if TYPE_CHECKING:
    import onnxruntime

PACKAGES: tuple[str, ...] = ("onnxruntime-ep-nv-tensorrt-rtx-cu13", "onnxruntime", "numpy")
FORMATS: tuple[Format, ...] = ("onnx",)
DEVICE = "GPU"


def load(folder: Path, *, device: str = DEVICE, threads: int | None = None) -> OrtSession:
    """Load the ONNX model of `folder` on an RTX GPU, all of it.

    StageError where there is no driver or no GPU of Ampere or later, or the provider leaves a node to the CPU.
    """
    executed_on(device)
    info = ModelInfo.read(folder)
    if info.format not in FORMATS:
        raise StageError(f"runtime nv_tensorrt_rtx can't load a model in {info.format} format")
    from stagelib.cudadriver import gpu_name, open_driver

    driver = open_driver()
    import onnxruntime

    provider, devices = _devices()
    options = _options(threads or cpu_count())
    options.add_provider_for_devices(devices[:1], {})
    try:
        session = onnxruntime.InferenceSession(str(folder / info.entry), options, enable_fallback=0)
    except ort_failures() as error:
        raise StageError(f"{provider} can't take all of {info.entry}: {error}") from error
    settings: dict[str, str | int | None] = {"provider": provider, "intra_op_num_threads": threads or cpu_count()}
    return OrtSession(session, settings, gpu_name(driver))


def executed_on(device: str) -> ExecutedOn:
    """A GPU is all this runtime serves."""
    if device.upper() != DEVICE:
        raise StageError(f"runtime nv_tensorrt_rtx has no device {device!r}", hint=f"known: {DEVICE}")
    return "device"


def _devices() -> tuple[str, list[Any]]:
    """The provider's name and the GPUs that it finds."""
    import onnxruntime
    import onnxruntime_ep_nv_tensorrt_rtx as plugin

    from stagelib.cudadriver import MISSING

    name = plugin.get_ep_name()
    try:
        onnxruntime.register_execution_provider_library(name, plugin.get_library_path())
    except ort_failures() as error:
        # A second session in this process: the library is registered already.
        if name not in {found.ep_name for found in onnxruntime.get_ep_devices()}:
            raise StageError(f"ONNX Runtime can't load {name}: {error}", hint=MISSING) from error
    devices = [found for found in onnxruntime.get_ep_devices() if found.ep_name == name]
    if not devices:
        raise StageError(f"{name} finds no GPU that it serves", hint="it takes RTX GPUs from Ampere (RTX 30) on")
    return name, devices


def _options(threads: int) -> onnxruntime.SessionOptions:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options
