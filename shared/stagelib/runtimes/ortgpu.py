"""ONNX Runtime's CUDA and TensorRT providers on an NVIDIA GPU, strictly: no node may stay on the CPU.

CUDA 13 and cuDNN 9 come from the host, a CUDA base image or NVIDIA's wheels, classic TensorRT 10 as a vendor archive.
The CUDA provider ran on an NVIDIA H200; TensorRT's was not tried. What is missing is said here before ONNX Runtime
falls back in silence, which it does.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib import machine, vendor
from stagelib.api import Format, StageError, cpu_count
from stagelib.modelinfo import ModelInfo
from stagelib.ortrun import CPU, OrtSession, ort_failures
from stagelib.runtimes.base import ExecutedOn

if TYPE_CHECKING:
    import onnxruntime

PACKAGES: tuple[str, ...] = ("onnxruntime-gpu", "numpy")
FORMATS: tuple[Format, ...] = ("onnx",)
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
PROVIDERS = {"tensorrt": (TENSORRT, CUDA), "cuda": (CUDA,), "cpu": (CPU,)}
CUDART, CUDNN = "libcudart.so.13", "libcudnn.so.9"
CUDA_LIBRARIES = (CUDART, "libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", CUDNN)
"""What the providers of this release are linked with, in the order in which they need each other."""
TENSORRT_LIBRARIES = ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10")
ARCHIVE = "tensorrt"
GET_CUDA = (
    "install CUDA 13 and cuDNN 9 on the host, where the target's device mounts look for them; without containers "
    "NVIDIA's wheels do as well: nvidia-cuda-runtime and nvidia-cublas of CUDA 13, nvidia-curand, nvidia-cudnn-cu13"
)
GET_TENSORRT = (
    "put TensorRT 10 for CUDA 13 into vendor/ (targets/ortgpu/target.toml names the file), from a bundle have "
    "LD_LIBRARY_PATH name its lib folder, or use the device cuda"
)


def load(folder: Path, *, device: str = "TensorRT", threads: int | None = None) -> OrtSession:
    """Load the ONNX model of `folder` for one of the devices TensorRT, CUDA and CPU.

    On TensorRT what that can't take runs in CUDA. StageError where a library is missing, or a node would stay on the
    CPU.
    """
    providers = _providers(device)
    info = ModelInfo.read(folder)
    if info.format not in FORMATS:
        raise StageError(f"runtime ortgpu can't load a model in {info.format} format")
    import onnxruntime

    libraries = _preload(providers)
    settings: dict[str, str | int | None] = {
        "provider": ",".join(providers),
        "intra_op_num_threads": threads or cpu_count(),
        **_releases(libraries),
    }
    if TENSORRT in providers:
        settings["trt_fp16_enable"] = int(info.precision.startswith("fp16"))
    try:
        session = onnxruntime.InferenceSession(
            str(folder / info.entry),
            _options(settings, strict=CPU not in providers),
            providers=[_configured(name, settings) for name in providers],
            enable_fallback=0,
        )
    except ort_failures() as error:
        raise StageError(f"ONNX Runtime can't run all of {info.entry} on {device}: {error}") from error
    return OrtSession(session, settings, _device_name(providers))


def executed_on(device: str) -> ExecutedOn:
    """The CPU stands in for the GPU, and is labelled so."""
    return "cpu" if _providers(device) == (CPU,) else "device"


def _providers(device: str) -> tuple[str, ...]:
    providers = PROVIDERS.get(device.lower())
    if providers is None:
        raise StageError(f"runtime ortgpu has no device {device!r}", hint="known: TensorRT, CUDA, CPU")
    return providers


def _device_name(providers: tuple[str, ...]) -> str:
    if providers == (CPU,):
        return machine.cpu_model()
    from stagelib.cudadriver import gpu_name, open_driver

    return gpu_name(open_driver())


def _preload(providers: tuple[str, ...]) -> dict[str, Any]:
    """Load what the providers are linked with, so that ONNX Runtime finds it; StageError names what isn't there.
    Returns CUDA's libraries by name."""
    if providers == (CPU,) or sys.platform != "linux":
        return {}
    from stagelib.cudadriver import open_driver

    open_driver()
    libraries = {name: _load(name, _in_wheels(name), "CUDA", GET_CUDA) for name in CUDA_LIBRARIES}
    if TENSORRT in providers:
        unpacked = vendor.folder(ARCHIVE)
        for name in TENSORRT_LIBRARIES:
            _load(name, sorted(unpacked.rglob(name)) if unpacked else (), "TensorRT", GET_TENSORRT)
    return libraries


def _releases(libraries: Mapping[str, Any]) -> dict[str, int]:
    """Releases of CUDA and cuDNN as they number themselves: the host's, which no lock names."""
    if not libraries:
        return {}
    cuda = ctypes.c_int()
    libraries[CUDART].cudaRuntimeGetVersion(ctypes.byref(cuda))
    asked = libraries[CUDNN].cudnnGetVersion
    asked.restype = ctypes.c_size_t
    return {"cuda": cuda.value, "cudnn": int(asked())}


def _in_wheels(name: str) -> list[Path]:
    """Where NVIDIA's own wheels (nvidia-cublas and the like) put that library, if they are installed beside us."""
    found = importlib.util.find_spec("nvidia")
    roots = sorted(found.submodule_search_locations or ()) if found else []
    return [path for root in roots for path in sorted(Path(root).rglob(name))]


def _load(name: str, places: Iterable[Path], what: str, hint: str) -> Any:
    """Into this process, for all to link with: the first of `places`, or where the loader finds it itself."""
    try:
        return ctypes.CDLL(str(next(iter(places), name)), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise StageError(f"{what} is not here: {error}", hint=hint) from error


def _configured(provider: str, settings: Mapping[str, str | int | None]) -> tuple[str, dict[str, Any]]:
    return provider, {"trt_fp16_enable": str(settings["trt_fp16_enable"])} if provider == TENSORRT else {}


def _options(settings: Mapping[str, str | int | None], *, strict: bool) -> onnxruntime.SessionOptions:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["intra_op_num_threads"]
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if strict:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options
